"""What every training configuration has. A JSON file under experiments/ states only what differs."""

from typing import Annotated, Literal

from pydantic import Field

from ...config import StrictModel

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]

# Keys that change no weight: a run may be continued, or found complete, with other values of them.
WITHOUT_EFFECT = frozenset(("source", "notes", "checkpoint_steps", "checkpoint_minutes", "tensorboard"))


class TrainingConfig(StrictModel):
    """What the engine needs, whatever it trains."""

    source: str = ""  # the publication or repository a recipe follows
    notes: str = ""
    seed: int = 0
    epochs: Count = 4
    batch_size: Count = 32  # of all processes together
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: Positive = 3e-4
    weight_decay: NotNegative = 0.01
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = (
        None  # the rate of a layer over that of the next
    )
    schedule: Literal["cosine", "constant", "step", "one_cycle", "restarts"] = "cosine"
    warmup: Fraction = (
        0.05  # share of all steps with linearly rising rate; one_cycle: of the rising half wave
    )
    min_lr: NotNegative = 0.0  # where a cosine ends
    decay_epochs: Positive = 1.0  # step: the rate falls by `decay_rate` after every so many
    decay_rate: Fraction = 0.1
    restart_epochs: Positive = 1.0  # restarts: length of one cosine
    accumulation: Count = 1  # batches per optimiser step
    clip_norm: Positive | None = 1.0
    ema_decay: Fraction | None = None  # exponential moving average of the weights, used for every prediction
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"  # auto: bf16 where a GPU has it, else fp32
    compile: bool = False  # torch.compile; on a CPU it costs more than it gives
    checkpoint_steps: Count = 500
    checkpoint_minutes: Positive = 10.0  # whichever comes first
    tensorboard: bool = False  # learning curves also as events beside the log
