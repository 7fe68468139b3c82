"""Let PyPI's torchvision be imported beside a CPU build of torch.

PyPI serves torchvision for Linux in a CUDA build only. Beside a CPU build of torch its compiled library
cannot be loaded; torchvision swallows that error and later fails with `operator torchvision::nms does not
exist`, and with it timm and segmentation-models-pytorch. The finder below runs just before torchvision is
imported: it loads the compiled library where that works (nothing changes then) and declares the two missing
operators where it does not. Nothing here imports torch until somebody imports torchvision.
"""

import importlib.machinery
import importlib.util
import sys
from pathlib import Path

_OPERATORS = ("nms", "qnms")
_library = None  # a torch.library.Library is unregistered when it is collected


class TorchvisionFinder:
    """A meta-path finder that acts once, on the first import of torchvision."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != "torchvision":
            return None
        sys.meta_path.remove(TorchvisionFinder)
        spec = importlib.machinery.PathFinder.find_spec(name)
        if spec is not None and spec.submodule_search_locations:
            _provide_operators(Path(next(iter(spec.submodule_search_locations))))
        return spec


def install() -> None:
    """Put the finder first in line, unless torchvision is imported already."""
    if "torchvision" in sys.modules or any(
        getattr(finder, "__name__", "") == TorchvisionFinder.__name__ for finder in sys.meta_path
    ):
        return
    sys.meta_path.insert(0, TorchvisionFinder)


def _provide_operators(package: Path) -> None:
    global _library
    import torch

    if hasattr(torch.ops.torchvision, "nms"):
        return
    try:
        for library in sorted(package.glob("_C*.so")):
            torch.ops.load_library(str(library))
    except OSError:
        _library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in _OPERATORS:
            _library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
