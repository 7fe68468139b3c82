"""The configuration of a stacker (stage 2)."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ..config import StrictModel
from .configs import Count, Fraction, NotNegative, Positive, TrainingConfig

Score = Literal["logits", "probabilities"]


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

    @model_validator(mode="after")
    def _inputs_fit(self) -> "StackerConfig":
        if not self.members or not ("embeddings" in self.inputs or self.scores):
            raise ValueError(
                "a stacker needs a member, and probabilities, embeddings or logits among its inputs"
            )
        several = self.scores and len(self.members) > 1
        if (self.mean_channel or self.differences) and not several:
            raise ValueError("mean_channel and differences need two members and logits or probabilities")
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
        idle = {
            "first_weight": self.first_weight and self.stacker != "two_branch",
            "study_weight": self.study_weight and self.stacker in ("two_branch", "boosting"),
            "instance_weight": self.instance_weight and self.stacker in ("two_branch", "boosting"),
            "residual_sums": self.residual_sums and self.stacker not in ("lstm", "gru"),
            "deltas": self.deltas != "none" and self.stacker in ("two_branch", "boosting"),
            "seeds": self.seeds > 1 and self.stacker == "boosting",
            "bag_epochs": self.bag_epochs > 1 and self.stacker == "boosting",
        }
        wrong = [name for name, misplaced in idle.items() if misplaced]
        if wrong:
            raise ValueError(f"{', '.join(wrong)}: has no effect on the stacker {self.stacker}; leave it out")
        if self.stacker == "boosting" and not self.scores:
            raise ValueError("the boosting stacker needs logits or probabilities among its inputs")
        if self.stacker == "boosting" and "embeddings" in self.inputs and self.selector == "none":
            raise ValueError("the boosting stacker takes embeddings through a selector only; set one")
        return self
