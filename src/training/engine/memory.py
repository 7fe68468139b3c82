"""When a batch does not fit into GPU memory: find out how many of its samples do, and say so."""

import gc
from collections.abc import Callable
from typing import Any

import torch

from ...errors import UserError

Batch = dict[str, Any]


def out_of_memory(
    attempt: Callable[[Batch], None], batch: Batch, batch_size: int, processes: int
) -> UserError:
    """The error to raise, with the largest batch that fits.

    `attempt(batch)` runs forward and backward and forgets the gradients; it raises torch.OutOfMemoryError
    where the batch is too large. `batch_size` is the configured one, over all `processes`.
    """
    fits = largest_batch(attempt, batch)
    if not fits:
        return UserError(
            "the GPU has too little memory for a single sample; lower image_size or take a smaller backbone"
        )
    whole = fits * processes
    steps = -(-batch_size // whole)
    return UserError(
        f"the GPU has too little memory for batch_size {batch_size}; the largest that fits is {whole}: "
        f"--set batch_size={whole} --set accumulation={steps} steps after about as many samples"
    )


def largest_batch(attempt: Callable[[Batch], None], batch: Batch) -> int:
    """How many samples of a batch that is too large fit, by bisection; 0 when not even one does."""
    fits, too_many = 0, len(batch["ids"])
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if _fits(attempt, first_samples(batch, middle)):
            fits = middle
        else:
            too_many = middle
    return fits


def first_samples(batch: Batch, count: int) -> Batch:
    """The batch cut to its first samples; what is not one a sample stays whole."""
    size = len(batch["ids"])
    return {
        key: value[:count] if isinstance(value, (torch.Tensor, list)) and len(value) == size else value
        for key, value in batch.items()
    }


def _fits(attempt: Callable[[Batch], None], batch: Batch) -> bool:
    try:
        attempt(batch)
    except torch.OutOfMemoryError:
        fits = False
    else:
        fits = True
    if torch.cuda.is_available():
        gc.collect()  # the frames of a failed attempt hold its tensors
        torch.cuda.empty_cache()
    return fits
