"""The configuration of a network that sees a slice among the others of its study, trained end to end."""

from typing import Annotated, Literal

from pydantic import model_validator

from ...config import Count, OneOf, StrictModel
from ...models.sequence_classifier import SequenceOptions
from ..slices.slice_config import PixelConfig


class DrawnStudies(StrictModel):
    """How the slices of a study are augmented."""

    draws: Annotated[str, OneOf(("slice", "study"))] = "slice"
    """slice: every slice has changes of its own; study: the slices of a study share them"""


class SequenceConfig(PixelConfig, DrawnStudies, SequenceOptions):
    """A slice classifier with a context, and the runs of slices it learns from."""

    kind: Literal["sequence"]
    """of run"""
    batch_size: Count = 5
    """studies of a batch, of all processes together"""
    length: Count = 10
    """adjacent slices of a study that are seen together in training; shorter studies give all"""
    embeddings: Annotated[str, OneOf(("encoder", "context", "both"))] = "context"
    """what is stored of a slice for a second stage"""

    @model_validator(mode="after")
    def _context_is_there(self) -> "SequenceConfig":
        if self.context is None and self.embeddings == "both":
            raise ValueError("embeddings both: without a context there is one; take encoder")
        if self.compile and self.checkpointing:
            raise ValueError("compile and checkpointing: not together; leave one out")
        return self
