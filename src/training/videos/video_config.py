"""The configuration of a network that answers for a study from some of its slices."""

from typing import Annotated, Literal

from pydantic import model_validator

from ...config import Count, OneOf
from ...models.video_classifier import VideoOptions
from ..sequences.sequence_config import DrawnStudies
from ..slices.slice_config import PixelConfig
from .frames import FRAMES


class VideoConfig(VideoOptions, PixelConfig, DrawnStudies):
    """A network on the frames of a study, and how they are chosen."""

    kind: Literal["video"]
    """of run"""
    batch_size: Count = 8
    """studies of a batch, of all processes together"""
    frame_choice: Annotated[str, OneOf(FRAMES)] = "evenly"
    """evenly: from the lowest to the highest; first: the lowest ones; where a study has fewer, some again"""

    @model_validator(mode="after")
    def _studies_stay(self) -> "VideoConfig":
        if self.augmentation.cutmix or self.augmentation.mixup:
            raise ValueError("augmentation.cutmix and mixup: mix slices, not studies; leave them out")
        if self.soft_labels is not None:
            raise ValueError("soft_labels: of slices, and a video learns studies; leave them out")
        return self
