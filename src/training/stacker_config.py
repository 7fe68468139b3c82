"""The configuration of a stacker (stage 2)."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .configs import Count, Fraction, TrainingConfig


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
