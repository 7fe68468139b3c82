"""How far a training has come."""

from dataclasses import dataclass, field


@dataclass
class Progress:
    """Where a training stands; everything but the tensors of a checkpoint."""

    step: int = 0  # batches seen since the start of training
    loss_sum: float = 0.0  # over the current epoch
    history: list[dict[str, float]] = field(default_factory=list)  # one entry an epoch
    seconds: float = 0.0
