"""What every training configuration has. A JSON file under experiments/ states only what differs."""

from typing import Annotated

from ...config import Count, Fraction, OneOf, Positive
from .precision import PRECISIONS
from .schedules import RateOptions

# Keys that change no weight: a run may be continued, or found complete, with other values of them.
WITHOUT_EFFECT = frozenset(("source", "notes", "checkpoint_steps", "checkpoint_minutes", "tensorboard"))


class TrainingConfig(RateOptions):
    """The training, whatever is trained."""

    source: str = ""
    """the publication or repository a recipe follows"""
    notes: str = ""
    """whatever a reader should know"""
    seed: int = 0
    """fixes the first weights and everything drawn"""
    batch_size: Count = 32
    """samples of a batch, of all processes together"""
    accumulation: Count = 1
    """batches per step of the optimiser"""
    clip_norm: Positive | None = 1.0
    """longest gradient; longer ones are shortened to it"""
    ema_decay: Fraction | None = None
    """exponential moving average of the weights, used for every prediction"""
    precision: Annotated[str, OneOf(PRECISIONS)] = "auto"
    """auto: bf16 where a GPU has it, else fp16, on a CPU fp32"""
    compile: bool = False
    """torch.compile; on a CPU it costs more than it gives"""
    checkpoint_steps: Count = 500
    """batches between two checkpoints"""
    checkpoint_minutes: Positive = 10.0
    """minutes between two checkpoints; whichever comes first"""
    tensorboard: bool = False
    """learning curves also as events beside the log"""
