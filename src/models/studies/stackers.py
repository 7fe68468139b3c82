"""Stage 2: sequence models over the slices of a study, by name."""

from collections.abc import Callable, Mapping
from typing import Annotated

import torch
from pydantic import model_validator
from torch import nn

from ...config import Count, Fraction, NotNegative, OneOf
from ...labels import LABELS
from ..slice_inputs import InputOptions, InputSizes, SliceInputs
from .contexts import (
    ENCODINGS,
    RECURRENT,
    BiRecurrent,
    DenseConv,
    SliceTransformer,
    Slicewise,
    SummedRecurrent,
)
from .masked import ClassAttention
from .sequence_model import SequenceModel, SliceSequence, StackerOutput, prior_logits
from .two_branch import TwoBranch


def recurrent(width: int, options: "StackerOptions") -> nn.Module:
    kind = SummedRecurrent if options.residual_sums else BiRecurrent
    return kind(options.stacker, width, options.hidden, options.layers, options.within)


def transformer(width: int, options: "StackerOptions") -> nn.Module:
    sizes = width, options.hidden, options.layers, options.heads
    return SliceTransformer(*sizes, options.within, options.encoding)


def conv(width: int, options: "StackerOptions") -> nn.Module:
    return DenseConv(width, options.hidden)


def mlp(width: int, options: "StackerOptions") -> nn.Module:
    return Slicewise(width, options.hidden, options.layers, options.within)


# How the slices of a study see each other between the inputs and the head of a `Stacker`.
CONTEXTS: dict[str, Callable[[int, "StackerOptions"], nn.Module]] = {
    **dict.fromkeys(RECURRENT, recurrent), "transformer": transformer, "conv": conv, "mlp": mlp,
}  # fmt: skip


class Stacker(SequenceModel):
    """Inputs -> context over the slices of a study -> six logits a slice.

    The output is added to the mean logit of the members (where logits are an input): an untrained stacker
    predicts what its members say, and training learns what the neighbours change.
    """

    def __init__(self, sizes: InputSizes, options: "StackerOptions"):
        super().__init__()
        self.inputs, self.members = SliceInputs(sizes, options), sizes.members
        self.context = context = CONTEXTS[options.stacker](self.inputs.width, options)
        self.adds_mean = "logits" in self.inputs.scores.kinds
        self.scores_after = options.scores_after
        beside = sizes.members * len(LABELS) if options.scores_after else 0
        self.head = nn.Sequential(nn.Dropout(options.dropout), nn.Linear(context.out + beside, len(LABELS)))
        self.study = ClassAttention(context.out, len(LABELS)) if options.study_weight else None
        self.instances = ClassAttention(self.inputs.width, len(LABELS)) if options.instance_weight else None

    def start_at(self, slices: torch.Tensor, studies: torch.Tensor) -> None:
        if not self.adds_mean:
            self.head[1].bias.data.copy_(prior_logits(slices))
        for head in (self.study, self.instances):
            if head is not None:
                head.bias.data.copy_(prior_logits(studies))

    def forward(self, slices: SliceSequence) -> StackerOutput:
        hidden = self.inputs(slices)
        context = self.context(hidden, slices.mask)
        seen = torch.cat([context, slices.logits.sigmoid()], -1) if self.scores_after else context
        logits = self.head(seen)
        if self.adds_mean:
            logits = logits + slices.logits.unflatten(-1, (self.members, len(LABELS))).mean(-2)
        study = None if self.study is None else self.study(context, slices.mask)
        instances = None if self.instances is None else self.instances(hidden, slices.mask)
        return StackerOutput(logits, None, study, instances)


def two_branch(sizes: InputSizes, options: "StackerOptions") -> SequenceModel:
    width, hidden = options.width, options.hidden
    return TwoBranch(sizes, width, hidden, options.layers, options.dropout, options.noise)


NETWORKS: dict[str, Callable[[InputSizes, "StackerOptions"], SequenceModel]] = {
    **dict.fromkeys(CONTEXTS, Stacker), "two_branch": two_branch,
}  # fmt: skip


class StackerOptions(InputOptions):
    """The network over the slices of a study."""

    stacker: Annotated[str, OneOf((*NETWORKS, "boosting"))]
    """lstm, gru, transformer, conv; mlp: every slice by itself; two_branch: the network of the 1st place;
    boosting: trees in place of a network"""
    hidden: Count = 256
    """width of layers; recurrent: per direction; transformer: of the feed-forward part; conv: channels"""
    layers: Count = 2
    """layers of recurrent networks, transformer, mlp and two_branch"""
    heads: Count = 8
    """heads of the transformer's attention"""
    encoding: Annotated[str, OneOf(ENCODINGS)] = "relative"
    """transformer: how it knows a slice's place"""
    context_dropout: Fraction | None = None
    """share left out within the context alone; null: as `dropout`"""
    scores_after: bool = False
    """whether the head reads the members' probabilities beside the context"""
    residual_sums: bool = False
    """lstm, gru: the sums of the 2nd place of RSNA 2019"""
    first_weight: NotNegative = 0.0
    """two_branch: weight of the first branch's own loss"""
    study_weight: NotNegative = 0.0
    """weight of the loss of the study's labels, by class attention over slices that saw each other"""
    instance_weight: NotNegative = 0.0
    """weight of the same over slices that did not (multiple-instance learning)"""

    @property
    def within(self) -> float:
        """Dropout within the context."""
        return self.dropout if self.context_dropout is None else self.context_dropout

    @model_validator(mode="after")
    def _options_act(self) -> "StackerOptions":
        """An option that would do nothing is a misunderstanding."""
        needed = {
            "first_weight": self.first_weight and self.stacker != "two_branch",
            "residual_sums": self.residual_sums and self.stacker not in RECURRENT,
            "study_weight": self.study_weight and self.stacker not in CONTEXTS,
            "instance_weight": self.instance_weight and self.stacker not in CONTEXTS,
            "deltas": self.deltas != "none" and self.stacker not in CONTEXTS,
            "scores_after": self.scores_after and self.stacker not in CONTEXTS,
            "normalise": not self.normalise and self.stacker not in CONTEXTS,
            "context_dropout": self.context_dropout is not None
            and self.stacker not in CONTEXTS.keys() - {"conv"},
        }
        refuse_idle(needed, f"has no effect on the stacker {self.stacker}")
        return self

    @model_validator(mode="after")
    def _network_fits(self) -> "StackerOptions":
        if self.scores_after and not self.scores:
            raise ValueError("scores_after: needs logits or probabilities among the inputs; leave it out")
        if self.stacker == "two_branch" and not {"embeddings", "probabilities"} <= set(self.inputs):
            raise ValueError("the two_branch stacker needs embeddings and probabilities among its inputs")
        if self.stacker in ("transformer", "two_branch") and self.width is None:
            raise ValueError(f"the stacker {self.stacker} needs a width")
        if self.stacker == "transformer" and self.width % self.heads:
            raise ValueError(
                f"width {self.width} is not a multiple of heads {self.heads}; change one of them"
            )
        return self


def refuse_idle(idle: Mapping[str, object], reason: str) -> None:
    """ValueError that names the options that are set and should not be."""
    if wrong := [name for name, misplaced in idle.items() if misplaced]:
        raise ValueError(f"{', '.join(wrong)}: {reason}; leave it out")


def build_stacker(options: StackerOptions, sizes: InputSizes) -> SequenceModel:
    """The network of a configuration whose stacker is one."""
    return NETWORKS[options.stacker](sizes, options)
