"""The configuration of a slice classifier (stage 1)."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ...config import StrictModel
from ...data.windows import BRAIN, SOFT_TISSUE, SUBDURAL
from ..engine.training_config import Count, Fraction, NotNegative, Positive, TrainingConfig

View = Literal[
    "identity", "hflip", "vflip", "transpose", "rotate_left", "rotate_right", "zoom_in", "zoom_out", "reverse"
]
Window = tuple[float, Positive] | Literal["file"]  # (center, width) in HU; file: the image's own


class Augmentation(StrictModel):
    """Random changes of one training sample: geometry on HU, then HU, then windows.

    Names without a unit are probabilities. The slices of a 2.5D stack share one draw.
    """

    strength: NotNegative = 1.0  # multiplies every size below, no probability
    one_of: bool = False  # at most one of affine, elastic, intensity, noise, blur, erase a sample, or none
    hflip: Fraction = 0.5
    vflip: Fraction = 0.0
    transpose: Fraction = 0.0
    reverse: Fraction = 0.0  # the neighbours of a slice change sides
    affine: Fraction = 1.0
    rotate_deg: NotNegative = 15.0
    scale: Fraction = 0.1
    aspect: Fraction = 0.0  # one axis longer, the other shorter
    shear_deg: NotNegative = 0.0
    shift: Fraction = 0.05  # of the image side
    crop: tuple[Positive, Positive] | None = None  # side of a random square, as shares of the image side
    elastic: Fraction = 0.0
    elastic_size: Fraction = 0.03  # largest move of a grid point, of the image side
    elastic_cells: Count = 4  # grid points along a side
    intensity: Fraction = 1.0
    hu_scale: Fraction = 0.0  # HU times 1 +- this
    hu_shift: NotNegative = 0.0  # HU
    window_center_jitter: NotNegative | tuple[NotNegative, ...] = 0.0  # HU, each window by itself
    window_width_jitter: Fraction | tuple[Fraction, ...] = 0.0  # of the width
    noise: Fraction = 0.0
    noise_hu: NotNegative = 10.0  # largest standard deviation
    blur: Fraction = 0.0
    blur_px: NotNegative = 1.5  # largest standard deviation, pixels of the network's input
    erase: Fraction = 0.0
    erase_holes: tuple[Count, Count] = (1, 4)
    erase_side: tuple[Fraction, Fraction] = (0.05, 0.2)  # of the image side
    cutmix: Fraction = 0.0
    mixup: Fraction = 0.0
    mix_alpha: Positive = 1.0  # of the Beta distribution of the shares


class Segmentation(StrictModel):
    """A U-Net decoder beside the classifier; slices without a mask do not count in its loss."""

    masks: Literal["prepared", "truth"]  # the data set's own, or those of synthetic data beside RAW_DATA_DIR
    weight: Positive = 0.3  # of its loss
    channels: Count = 64  # of the decoder's first block, half as many in every next one


class SliceConfig(TrainingConfig):
    """One slice classifier: windows of a slice and its neighbours, a timm backbone, pooling, six logits."""

    backbone: str  # any timm model name
    pretrained: bool | str = True  # true: timm's own weights; a path: a local file or folder; false: random
    image_size: Count = 512
    # The side of the middle square that is seen, training included; head: one square around the head for all
    # slices of a study, as prepare_data.py --crop cuts it, for data prepared without.
    crop: Annotated[float, Field(gt=0, le=1)] | Literal["head"] = 1.0
    neighbours: tuple[int, ...] = (0,)  # slices seen, by order in the study: 0 the slice, 1 the next one up
    edge: Literal["repeat", "air"] = "repeat"  # what stands for a neighbour beyond the end of a study
    channel_order: Literal["slice", "window"] = "slice"  # which of the two changes last
    windows: tuple[Window, ...] = (BRAIN, SUBDURAL, SOFT_TISSUE)
    learn_windows: bool = False  # sigmoid windows as parameters that start at `windows`
    normalisation: Literal["fixed", "minmax", "instance"] = "fixed"
    mean: tuple[float, ...] = (0.2,)  # of the windowed channels; one value, or one per window
    std: tuple[Positive, ...] = (0.3,)
    pooling: Literal["backbone", "avg", "max", "gem"] = "backbone"  # backbone: as timm defines the model
    dropout: Fraction = 0.0
    dropout_samples: Count = 1  # dropout masks whose logits are averaged in training
    drop_path: Fraction = 0.0
    channels_last: bool = True
    segmentation: Segmentation | None = None
    loss: Literal["metric", "bce", "bce_any_twice", "focal"] = "metric"
    focal_gamma: NotNegative = 2.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    sampling: Literal["all", "per_study", "mid_slices", "balanced"] = "all"
    slices_per_study: Count = 4  # per_study and mid_slices: drawn from each study in an epoch
    min_brain_range: NotNegative = 0.0  # HU within 0..80 a training slice must span: leaves out blank ones
    augmentation: Augmentation = Augmentation()
    tta: tuple[View, ...] = ("identity",)  # views averaged in every prediction

    @property
    def middle(self) -> float:
        """Side of the middle square that is seen, of the stored slice or of the square around the head."""
        return 1.0 if self.crop == "head" else self.crop

    @property
    def channels(self) -> int:
        """Of the network's input."""
        return len(self.neighbours) * len(self.windows)

    @model_validator(mode="after")
    def _counts(self) -> "SliceConfig":
        if not self.windows or not self.tta or not self.neighbours:
            raise ValueError("windows, neighbours and tta need at least one entry")
        draws = self.augmentation
        lists = {
            "mean": self.mean,
            "std": self.std,
            "augmentation.window_center_jitter": draws.window_center_jitter,
            "augmentation.window_width_jitter": draws.window_width_jitter,
        }
        for name, values in lists.items():
            if isinstance(values, tuple) and len(values) not in (1, len(self.windows)):
                raise ValueError(
                    f"{name} has {len(values)} values for {len(self.windows)} windows; give one or one each"
                )
        for name in ("crop", "erase_holes", "erase_side"):
            bounds = getattr(draws, name)
            if bounds is not None and bounds[0] > bounds[1]:
                raise ValueError(f"augmentation.{name}: {bounds[0]} is above {bounds[1]}")
        if draws.cutmix + draws.mixup > 1:
            raise ValueError("augmentation.cutmix and mixup are shares of the samples: together at most 1")
        return self

    @model_validator(mode="after")
    def _combinations(self) -> "SliceConfig":
        draws = self.augmentation
        jitter = (draws.window_center_jitter, draws.window_width_jitter)
        if self.learn_windows and ("file" in self.windows or any(map(_some, jitter))):
            raise ValueError("learn_windows: takes fixed windows to start from, without jitter; see hu_shift")
        mirrored = sorted(-k for k in self.neighbours) == sorted(self.neighbours)
        if not mirrored and (draws.reverse or "reverse" in self.tta):
            raise ValueError("reverse: needs the same neighbours on both sides, such as [-1, 0, 1]")
        if self.segmentation is not None and (draws.cutmix or draws.mixup):
            raise ValueError("segmentation: masks are not mixed; set augmentation.cutmix and mixup to 0")
        return self


def _some(value: float | tuple[float, ...]) -> bool:
    return any(value) if isinstance(value, tuple) else value > 0
