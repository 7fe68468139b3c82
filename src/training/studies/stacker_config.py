"""The configuration of a stacker (stage 2)."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ...config import StrictModel
from ..engine.training_config import Count, Fraction, NotNegative, Positive, TrainingConfig
from ..slices.slice_config import View

Score = Literal["logits", "probabilities"]
Source = tuple[str, tuple[View, ...]]  # a member, and the views of it that are averaged; none: its own tta


class Boosting(StrictModel):
    """Gradient-boosted trees on a slice and its neighbours, one model a label."""

    neighbours: Annotated[int, Field(ge=0)] = 9  # slices to either side
    rounds: Count = 300
    learning_rate: Positive = 0.03
    leaves: Annotated[int, Field(ge=2)] = 15
    slices_in_leaf: Count = 20
    feature_share: Positive = 0.5  # of the columns, drawn for every tree
    row_share: Positive = 0.8  # of the slices, drawn for every tree
    l2: NotNegative = 1.0


class StackerConfig(TrainingConfig):
    """One sequence model over the outputs of stage-1 runs, a study at a time."""

    stacker: Literal["lstm", "gru", "transformer", "conv", "mlp", "two_branch", "boosting"]
    members: tuple[str, ...]  # stage-1 runs, such as "baseline/stage1/seresnext50"

    # What stands for a slice
    views: tuple[View, ...] = ()  # copies of the members' outputs, one a look; empty: the mean over their tta
    # Copies side by side like further members, their mean, or in training a random one a study and epoch
    # (prediction: the mean of the answers to all)
    view_use: Literal["concatenate", "average", "draw"] = "concatenate"
    inputs: tuple[Literal["embeddings", "logits", "probabilities", "position"], ...] = (
        "embeddings",
        "logits",
        "position",
    )
    positions: tuple[Literal["relative", "mm", "step", "length"], ...] = ("relative", "mm")
    deltas: Literal["none", "lag", "lag_lead"] = "none"  # minus the slice before, minus the slice after
    mean_channel: bool = False  # the members' mean as one more channel of logits and probabilities
    differences: bool = False  # member minus next member, likewise
    embedding_space: Literal["pooled", "aligned", "per_fold"] = "pooled"  # per_fold: in-sample, to compare
    selector: Literal["none", "pca", "kbest", "tree", "linear_svm"] = "none"  # of embedding columns
    components: Count = 120  # columns a selector leaves

    # The network
    width: Count | None = 256  # of the projected inputs; null: no projection
    hidden: Count = 256  # recurrent: per direction; transformer: feed-forward; conv: channels
    layers: Count = 2
    heads: Count = 8  # transformer
    encoding: Literal["relative", "absolute"] = "relative"  # transformer: of a slice's place
    residual_sums: bool = False  # lstm, gru: the sums of the 2nd place of RSNA 2019
    dropout: Fraction = 0.2
    boosting: Boosting = Boosting()  # in place of the above where the stacker is boosting

    # Training
    batch_size: Count = 16  # studies
    noise: NotNegative = 0.0  # standard deviation added to normalised embeddings
    crop: Count | None = None  # longest run of neighbouring slices a study gives
    subsample: Fraction = 0.0  # share of studies of which every second slice is taken
    reverse: Fraction = 0.0  # share of studies read from the other end
    slice_dropout: Fraction = 0.0  # share of slices hidden as if they could not be read
    first_weight: NotNegative = 0.0  # two_branch: of the first branch's own loss
    study_weight: NotNegative = 0.0  # of the study's labels, by class attention over the context
    instance_weight: NotNegative = (
        0.0  # of the same, over slices without context (multiple-instance learning)
    )

    # Prediction
    tta_reverse: bool = False  # also read studies from the other end
    bag_epochs: Count = 1  # average the networks at the end of the last epochs
    seeds: Count = 1  # average networks trained from seed, seed + 1, ...

    @property
    def scores(self) -> tuple[Score, ...]:
        """The kinds of stage-1 predictions among the inputs."""
        return tuple(kind for kind in ("logits", "probabilities") if kind in self.inputs)

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
    def _inputs_fit(self) -> "StackerConfig":
        if not self.members or not ("embeddings" in self.inputs or self.scores):
            raise ValueError(
                "a stacker needs a member, and probabilities, embeddings or logits among its inputs"
            )
        several = self.scores and len(self.sources) > 1
        if (self.mean_channel or self.differences) and not several:
            raise ValueError("mean_channel and differences need two members and logits or probabilities")
        if len(set(self.views)) < len(self.views):
            raise ValueError("views: one stands twice")
        if self.view_use != "concatenate" and len(self.views) < 2:
            raise ValueError(f"view_use {self.view_use}: needs two views at least")
        if self.stacker == "two_branch" and not {"embeddings", "probabilities"} <= set(self.inputs):
            raise ValueError("the two_branch stacker needs embeddings and probabilities among its inputs")
        if self.stacker == "transformer" and self.width is None:
            raise ValueError("the transformer needs a width")
        if self.bag_epochs > self.epochs:
            raise ValueError(f"bag_epochs is {self.bag_epochs} of {self.epochs} epochs")
        return self

    @model_validator(mode="after")
    def _options_act(self) -> "StackerConfig":
        """An option that would do nothing is a misunderstanding."""
        trees = self.stacker == "boosting"
        idle = {
            "first_weight": self.first_weight and self.stacker != "two_branch",
            "study_weight": self.study_weight and self.stacker in ("two_branch", "boosting"),
            "instance_weight": self.instance_weight and self.stacker in ("two_branch", "boosting"),
            "residual_sums": self.residual_sums and self.stacker not in ("lstm", "gru"),
            "deltas": self.deltas != "none" and self.stacker in ("two_branch", "boosting"),
            "boosting": self.boosting != Boosting() and not trees,
            "view_use draw": self.view_use == "draw" and trees,
            "seeds": self.seeds > 1 and trees,
            "bag_epochs": self.bag_epochs > 1 and trees,
            "ema_decay": self.ema_decay is not None and trees,
        } | {
            name: getattr(self, name) and trees
            for name in ("noise", "crop", "subsample", "reverse", "slice_dropout", "tta_reverse")
        }  # fmt: skip
        wrong = [name for name, misplaced in idle.items() if misplaced]
        if wrong:
            raise ValueError(f"{', '.join(wrong)}: has no effect on the stacker {self.stacker}; leave it out")
        if "embeddings" not in self.inputs:
            idle = {
                "noise": self.noise > 0,
                "embedding_space": self.embedding_space == "aligned",
                "selector": self.selector != "none",
            }
            if wrong := [name for name, misplaced in idle.items() if misplaced]:
                raise ValueError(f"{', '.join(wrong)}: acts on embeddings, which are no input; leave it out")
        if self.stacker == "boosting" and not self.scores:
            raise ValueError("the boosting stacker needs logits or probabilities among its inputs")
        if self.stacker == "boosting" and "embeddings" in self.inputs and self.selector == "none":
            raise ValueError("the boosting stacker takes embeddings through a selector only; set one")
        return self
