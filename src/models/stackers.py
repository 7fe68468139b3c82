"""Stage 2: sequence models over the slices of a study, by name."""

import torch
from torch import nn

from ..errors import UserError
from ..labels import LABELS
from .contexts import BiRecurrent, DenseConv, SliceTransformer, Slicewise, SummedRecurrent
from .masked import ClassAttention
from .sequence_model import SequenceModel, StackerOutput, prior_logits
from .slice_inputs import InputSizes, Scores, SliceInputs
from .two_branch import TwoBranch

NETWORKS = ("lstm", "gru", "transformer", "conv", "mlp", "two_branch")


class Stacker(SequenceModel):
    """Inputs -> context over the slices of a study -> six logits a slice.

    The output is added to the mean logit of the members (where logits are an input): an untrained stacker
    predicts what its members say, and training learns what the neighbours change.
    """

    def __init__(
        self,
        inputs: SliceInputs,
        context: nn.Module,
        members: int,
        dropout: float,
        study: bool,
        instances: bool,
        scores_after: bool = False,
    ):
        """study, instances: whether there are heads for the study, see StackerOutput; scores_after: whether
        the slices' head reads the members' probabilities beside the context.
        """
        super().__init__()
        self.inputs, self.context, self.members = inputs, context, members
        self.adds_mean = "logits" in inputs.scores.kinds
        self.scores_after = scores_after
        beside = members * len(LABELS) if scores_after else 0
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(context.out + beside, len(LABELS)))
        self.study = ClassAttention(context.out, len(LABELS)) if study else None
        self.instances = ClassAttention(inputs.width, len(LABELS)) if instances else None

    def start_at(self, slices: torch.Tensor, studies: torch.Tensor) -> None:
        if not self.adds_mean:
            self.head[1].bias.data.copy_(prior_logits(slices))
        for head in (self.study, self.instances):
            if head is not None:
                head.bias.data.copy_(prior_logits(studies))

    def forward(
        self,
        embeddings: torch.Tensor,
        logits: torch.Tensor,
        position: torch.Tensor,
        mask: torch.Tensor,
        missing: torch.Tensor | None = None,
    ) -> StackerOutput:
        hidden = self.inputs(embeddings, logits, position, mask, missing)
        context = self.context(hidden, mask)
        slices = self.head(torch.cat([context, logits.sigmoid()], -1) if self.scores_after else context)
        if self.adds_mean:
            slices = slices + logits.unflatten(-1, (self.members, len(LABELS))).mean(-2)
        study = None if self.study is None else self.study(context, mask)
        instances = None if self.instances is None else self.instances(hidden, mask)
        return StackerOutput(slices, None, study, instances)


def build_stacker(
    kind: str,
    sizes: InputSizes,
    *,
    scores: tuple[str, ...] = ("logits",),
    mean_channel: bool = False,
    differences: bool = False,
    deltas: str = "none",
    width: int | None = 256,
    hidden: int = 256,
    layers: int = 2,
    heads: int = 8,
    encoding: str = "relative",
    residual_sums: bool = False,
    dropout: float = 0.2,
    noise: float = 0.0,
    marks: bool = False,
    study: bool = False,
    instances: bool = False,
    normalise: bool = True,
    context_dropout: float | None = None,
    scores_after: bool = False,
) -> SequenceModel:
    """One of NETWORKS; the options are those of the stacker's configuration.

    context_dropout: within the context, `dropout` where it is None; `dropout` is that of inputs and head.
    """
    if kind == "two_branch":
        if width is None:
            raise UserError("stacker two_branch: needs a width (512 as published); leave null out")
        return TwoBranch(sizes, width, hidden, layers, dropout, noise)
    channels = Scores(sizes.members, scores, mean_channel, differences)
    if scores_after and not scores:
        raise UserError("scores_after: needs logits or probabilities among the inputs; leave it out")
    inputs = SliceInputs(sizes, channels, deltas, width, dropout, noise, marks, normalise)
    within = dropout if context_dropout is None else context_dropout
    if kind in ("lstm", "gru"):
        recurrent = SummedRecurrent if residual_sums else BiRecurrent
        context: nn.Module = recurrent(kind, inputs.width, hidden, layers, within)
    elif kind == "transformer":
        if inputs.width % heads:
            raise UserError(
                f"stacker transformer: width {inputs.width} is not a multiple of heads {heads}; "
                "change one of them"
            )
        context = SliceTransformer(inputs.width, hidden, layers, heads, within, encoding)
    elif kind == "conv":
        context = DenseConv(inputs.width, hidden)
    else:
        context = Slicewise(inputs.width, hidden, layers, within)
    return Stacker(inputs, context, sizes.members, dropout, study, instances, scores_after)
