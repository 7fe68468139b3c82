"""The configurations of what reads pixels (stage 1)."""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from ...config import OneOf, StrictModel
from ...models.slice_classifier import ClassifierOptions
from ...models.slice_images import check_count
from ...targets import HEMORRHAGE
from ..engine.training_config import TrainingConfig
from ..losses import LossOptions
from ..soft_labels import SoftLabelOptions
from ..split import PATIENT, SERIES, SLICE
from .draws import Augmentation
from .masks import Segmentation
from .sampling import SamplingOptions
from .views import ViewName


class ReadingOptions(StrictModel):
    """What of a stored slice is seen, how it is changed in training and looked at in prediction."""

    # For all slices of a study one square around the head, as prepare_data.py --crop cuts it.
    crop: Annotated[float, Field(gt=0, le=1)] | Literal["head"] = 1.0
    """side of the middle square that is seen, training included; head: a square around the head, for data
    prepared without"""
    edge: Annotated[str, OneOf(("repeat", "air"))] = "repeat"
    """what stands for a neighbour beyond the end of a study: its last slice again, or air"""
    augmentation: Augmentation = Augmentation()
    """random changes in training"""
    tta: tuple[ViewName, ...] = ("identity",)
    """views averaged in every prediction"""


class PixelConfig(TrainingConfig, LossOptions, SoftLabelOptions, ReadingOptions, ClassifierOptions):
    """What every kind has that reads pixels: its images, its network, its loss and training."""

    @property
    def middle(self) -> float:
        """Side of the middle square that is seen, of the stored slice or of the square around the head."""
        return 1.0 if self.crop == "head" else self.crop

    @model_validator(mode="after")
    def _combinations(self) -> "PixelConfig":
        draws = self.augmentation
        if not self.tta:
            raise ValueError("tta needs at least one entry")
        for name in ("window_center_jitter", "window_width_jitter"):
            jitter = getattr(draws, name)
            if isinstance(jitter, tuple):
                check_count(f"augmentation.{name}", jitter, self.windows)
            if self.learn_windows and np.any(jitter):
                raise ValueError(f"learn_windows: takes windows without augmentation.{name}; see hu_shift")
        if self.learn_windows and draws.sharpen:
            raise ValueError(
                "learn_windows: has no fixed window to sharpen in; leave augmentation.sharpen out"
            )
        mirrored = sorted(-k for k in self.neighbours) == sorted(self.neighbours)
        if not mirrored and (draws.reverse or "reverse" in self.tta):
            raise ValueError("reverse: needs the same neighbours on both sides, such as [-1, 0, 1]")
        if self.predicted is not HEMORRHAGE and self.loss != "metric":
            raise ValueError(f"loss {self.loss}: of the six labels; other targets have their own, `metric`")
        if self.soft_labels is None and self.soft_label_weight != 1:
            raise ValueError("soft_label_weight: of slices that soft_labels names; leave it out")
        if self.soft_labels is not None and self.predicted is not HEMORRHAGE:
            raise ValueError(f"soft_labels: of the six labels, not of {self.targets}; leave them out")
        if self.soft_label_weight != 1 and (draws.cutmix or draws.mixup):
            raise ValueError(
                "soft_label_weight: mixed samples have no weight of their own; set augmentation.cutmix and "
                "mixup to 0, or leave it out"
            )
        weights = (self.presence_weight, self.location_weight)
        if weights != (1.0, 1.0) and self.targets != "presence_and_location":
            name = "presence_weight" if weights[0] != 1.0 else "location_weight"
            raise ValueError(f"{name}: of the targets presence_and_location only; leave it out")
        if weights == (0.0, 0.0):
            raise ValueError("presence_weight and location_weight are both 0: nothing would be learned")
        if self.trainable == "head" and (self.encoder_rate, self.layer_decay) != (None, None):
            raise ValueError("encoder_rate and layer_decay: an encoder that stays as it is has no rate")
        return self


class SliceConfig(PixelConfig, SamplingOptions):
    """One slice classifier, and the slices it learns from."""

    kind: Literal["slice"] = "slice"
    """of run"""
    segmentation: Segmentation | None = None
    """an auxiliary task: draw the blood too"""
    split: Annotated[str, OneOf((PATIENT, SERIES, SLICE))] = PATIENT
    """what is held out: patient: a fold; leaky, to show what that feigns: series: as large a share of whole
    series, whoever the patient; slice: a tenth of all slices, of presence and location"""

    @model_validator(mode="after")
    def _masks_stay(self) -> "SliceConfig":
        draws = self.augmentation
        if self.segmentation is not None and (draws.cutmix or draws.mixup):
            raise ValueError("segmentation: masks are not mixed; set augmentation.cutmix and mixup to 0")
        if self.segmentation is not None and self.soft_labels is not None:
            raise ValueError("soft_labels: images without labels teach no masks; leave segmentation out")
        if self.sampling == "balanced" and self.predicted is not HEMORRHAGE:
            raise ValueError("sampling balanced: of the six labels; take another one")
        published = self.replication != "none" or self.split == SLICE
        if published and self.predicted is HEMORRHAGE:
            raise ValueError(
                "replication and split slice: of presence and location; the six labels have neither"
            )
        if self.replication == "paper" and self.split != SLICE:
            raise ValueError(
                'replication paper: copies before a split by slice, a leak; say "split": "slice"'
            )
        return self
