"""The configuration of a stacker (stage 2)."""

from typing import Annotated, ClassVar, Literal

from pydantic import model_validator

from ...config import Count, OneOf, StrictModel
from ...models.studies.boosting import Boosting
from ...models.studies.stackers import StackerOptions, refuse_idle
from ...targets import HEMORRHAGE, Targets
from ..engine.training_config import TrainingConfig
from ..losses import MASKED_LOSSES
from ..slices.views import ViewName
from ..split import PATIENT, SERIES
from .embedding_spaces import EmbeddingOptions
from .slice_positions import POSITIONS
from .study_draws import StudyDrawOptions

Source = tuple[str, tuple[str, ...]]  # a member, and the views of it that are averaged; none: its own tta


class MemberOptions(StrictModel):
    """The stage-1 runs that are read, and how."""

    members: tuple[str, ...]
    """stage-1 runs, such as "baseline/stage1/seresnext50\""""
    views: tuple[ViewName, ...] = ()
    """copies of the members' outputs, one a look; empty: the mean over their tta"""
    view_use: Annotated[str, OneOf(("concatenate", "average", "draw"))] = "concatenate"
    """copies side by side like further members, their mean, or in training a random one a study and epoch
    (prediction: the mean of the answers to all)"""
    positions: tuple[Annotated[str, OneOf(POSITIONS)], ...] = ("relative", "mm")
    """of a slice: 0 to 1 through the study, mm from its middle, mm to the next slice, slices of the study"""

    @property
    def copies(self) -> tuple[tuple[Source, ...], ...]:
        """The alternatives a study can be read from, one or with `draw` one a view; each lists what stands
        side by side.
        """
        if self.views and self.view_use == "draw":
            return tuple(tuple((member, (view,)) for member in self.members) for view in self.views)
        if self.views and self.view_use == "concatenate":
            return (tuple((member, (view,)) for member in self.members for view in self.views),)
        return (tuple((member, self.views) for member in self.members),)

    @property
    def sources(self) -> tuple[str, ...]:
        """The member behind each of the outputs that stand side by side."""
        return tuple(member for member, _ in self.copies[0])

    @model_validator(mode="after")
    def _views_fit(self) -> "MemberOptions":
        if not self.members:
            raise ValueError("a stacker needs a member")
        if len(set(self.views)) < len(self.views):
            raise ValueError("views: one stands twice")
        if self.view_use != "concatenate" and len(self.views) < 2:
            raise ValueError(f"view_use {self.view_use}: needs two views at least")
        return self


class StackerConfig(TrainingConfig, StudyDrawOptions, StackerOptions, EmbeddingOptions, MemberOptions):
    """One model over the outputs of stage-1 runs, a study at a time: its inputs, network and training."""

    absent: ClassVar[dict[str, str]] = {
        "soft_labels": "of stage 1: a stacker learns from what its members say of images that they have not "
        "learned, and those they may have; train the members with them"
    }

    kind: Literal["stacker"] = "stacker"
    """of run"""
    split: Annotated[str, OneOf((PATIENT, SERIES))] = PATIENT
    """what is held out, as by its members: patient: a fold; leaky: series: as large a share of whole
    series, whoever the patient"""
    batch_size: Count = 16
    """studies of a batch, of all processes together"""
    loss: Annotated[str, OneOf(MASKED_LOSSES)] = "metric"
    """of slices; metric: the contest's; bce: `any` counts once"""
    boosting: Boosting = Boosting()
    """in place of the network where the stacker is boosting"""
    tta_reverse: bool = False
    """in prediction also read studies from the other end"""
    bag_epochs: Count = 1
    """average the networks at the end of the last epochs"""
    seeds: Count = 1
    """average networks trained from seed, seed + 1, ..."""

    @property
    def predicted(self) -> Targets:
        """The six labels, as its members."""
        return HEMORRHAGE

    @model_validator(mode="after")
    def _inputs_fit(self) -> "StackerConfig":
        if not ("embeddings" in self.inputs or self.scores):
            raise ValueError("a stacker needs probabilities, embeddings or logits among its inputs")
        several = self.scores and len(self.sources) > 1
        if (self.mean_channel or self.differences) and not several:
            raise ValueError("mean_channel and differences need two members and logits or probabilities")
        if self.bag_epochs > self.epochs:
            raise ValueError(f"bag_epochs is {self.bag_epochs} of {self.epochs} epochs")
        if "embeddings" not in self.inputs:
            idle = {
                "noise": self.noise > 0,
                "normalise": not self.normalise,
                "embedding_space": self.embedding_space == "aligned",
                "selector": self.selector != "none",
            }
            refuse_idle(idle, "acts on embeddings, which are no input")
        return self

    @model_validator(mode="after")
    def _trees_fit(self) -> "StackerConfig":
        if self.stacker != "boosting":
            refuse_idle(
                {"boosting": self.boosting != Boosting()}, f"has no effect on the stacker {self.stacker}"
            )
            return self
        names = ("noise", "crop", "subsample", "reverse", "slice_dropout", "tta_reverse")
        idle = {name: getattr(self, name) for name in names} | {
            "loss": self.loss != "metric",
            "view_use draw": self.view_use == "draw", "seeds": self.seeds > 1,
            "bag_epochs": self.bag_epochs > 1, "ema_decay": self.ema_decay is not None,
        }  # fmt: skip
        refuse_idle(idle, "has no effect on the stacker boosting")
        if not self.scores:
            raise ValueError("the boosting stacker needs logits or probabilities among its inputs")
        if "embeddings" in self.inputs and self.selector == "none":
            raise ValueError("the boosting stacker takes embeddings through a selector only; set one")
        return self
