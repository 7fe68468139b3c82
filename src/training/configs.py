"""Typed configurations of the two stages. A JSON file states only what differs from these."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ..config import StrictModel
from ..data.windows import BRAIN, SOFT_TISSUE, SUBDURAL

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class TrainingConfig(StrictModel):
    """What the engine needs, whatever it trains."""

    source: str = ""  # the publication or repository a recipe follows
    notes: str = ""
    seed: int = 0
    epochs: Count = 4
    batch_size: Count = 32
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: Positive = 3e-4
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: Fraction = 0.05  # share of all steps with linearly rising rate
    accumulation: Count = 1  # batches per optimiser step
    clip_norm: Positive | None = 1.0
    ema_decay: Fraction | None = None  # exponential moving average of the weights, used for every prediction
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"  # auto: bf16 where a GPU has it, else fp32
    checkpoint_steps: Count = 500


class Augmentation(StrictModel):
    """Random changes of one training slice: geometry on the HU image, then HU and windows."""

    hflip: Fraction = 0.5
    vflip: Fraction = 0.0
    rotate_deg: Annotated[float, Field(ge=0)] = 15.0
    scale: Fraction = 0.1
    shift: Fraction = 0.05  # of the image side
    hu_shift: Annotated[float, Field(ge=0)] = 0.0
    window_center_jitter: Annotated[float, Field(ge=0)] = 0.0  # HU, each window by itself
    window_width_jitter: Fraction = 0.0  # of the width


class SliceConfig(TrainingConfig):
    """One slice classifier: a timm backbone, global pooling and six logits."""

    backbone: str  # any timm model name
    pretrained: bool | str = True  # true: timm's own weights; a path: a local file or folder; false: random
    image_size: Count = 512
    windows: tuple[tuple[float, Positive], ...] = (BRAIN, SUBDURAL, SOFT_TISSUE)  # (center, width) in HU
    mean: tuple[float, ...] = (0.2,)  # of the windowed channels; one value, or one per window
    std: tuple[Positive, ...] = (0.3,)
    dropout: Fraction = 0.0
    drop_path: Fraction = 0.0
    channels_last: bool = True
    augmentation: Augmentation = Augmentation()
    tta: tuple[Literal["identity", "hflip"], ...] = ("identity",)  # views averaged in every prediction

    @model_validator(mode="after")
    def _channel_counts(self) -> "SliceConfig":
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, len(self.windows)):
                raise ValueError(
                    f"{name} has {len(values)} values for {len(self.windows)} windows; give one or one each"
                )
        if not self.windows or not self.tta:
            raise ValueError("windows and tta need at least one entry")
        return self


class StackerConfig(TrainingConfig):
    """One sequence model over the outputs of stage-1 runs, a study at a time."""

    stacker: Literal["lstm", "transformer"]
    members: tuple[str, ...]  # stage-1 runs, such as "baseline/stage1/seresnext50"
    inputs: tuple[Literal["embeddings", "logits", "position"], ...] = ("embeddings", "logits", "position")
    embedding_space: Literal["pooled", "aligned"] = "aligned"
    width: Count = 256  # of the projected inputs
    hidden: Count = 256  # LSTM: per direction; transformer: feed-forward
    layers: Count = 2
    heads: Count = 8
    dropout: Fraction = 0.2
    noise: Annotated[float, Field(ge=0)] = (
        0.0  # standard deviation added to normalised embeddings in training
    )
    reverse: Fraction = 0.0  # share of training studies read from the other end
    batch_size: Count = 16  # studies

    @model_validator(mode="after")
    def _some_input(self) -> "StackerConfig":
        if not self.members or not {"embeddings", "logits"} & set(self.inputs):
            raise ValueError("a stacker needs at least one member and embeddings or logits among its inputs")
        return self
