"""The configuration of a slice classifier (stage 1)."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ..config import StrictModel
from ..data.windows import BRAIN, SOFT_TISSUE, SUBDURAL
from .configs import Count, Fraction, Positive, TrainingConfig


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
