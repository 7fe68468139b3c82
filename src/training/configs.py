"""What every training configuration has. A JSON file under experiments/ states only what differs."""

from typing import Annotated, Literal

from pydantic import Field

from ..config import StrictModel

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class TrainingConfig(StrictModel):
    """What the engine needs, whatever it trains."""

    source: str = ""  # the publication or repository a recipe follows
    notes: str = ""
    seed: int = 0
    epochs: Count = 4
    batch_size: Count = 32
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: Positive = 3e-4
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: Fraction = 0.05  # share of all steps with linearly rising rate
    accumulation: Count = 1  # batches per optimiser step
    clip_norm: Positive | None = 1.0
    ema_decay: Fraction | None = None  # exponential moving average of the weights, used for every prediction
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"  # auto: bf16 where a GPU has it, else fp32
    checkpoint_steps: Count = 500
