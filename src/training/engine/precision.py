"""Mixed precision, and moving batches to the device."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from ...errors import UserError

Batch = dict[str, Any]
TYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
PRECISIONS = ("auto", *TYPES)


def autocast_type(precision: str, device: torch.device) -> torch.dtype | None:
    """The type of mixed-precision arithmetic; None is plain float32."""
    if precision == "auto":
        precision = _best_precision(device)
    if precision == "fp16" and device.type != "cuda":
        raise UserError("precision fp16 needs a GPU; use auto, fp32 or bf16 on a CPU")
    return TYPES[precision]


def _best_precision(device: torch.device) -> str:
    if device.type != "cuda":
        return "fp32"
    # Older GPUs than Ampere only emulate bfloat16, far slower than they compute in float16.
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def autocast(kind: torch.dtype | None, device: torch.device) -> AbstractContextManager:
    return nullcontext() if kind is None else torch.autocast(device.type, dtype=kind)


def to_device(batch: Batch, device: torch.device) -> Batch:
    return {
        k: v.to(device, non_blocking=True) if isinstance(v, torch.Tensor) else v for k, v in batch.items()
    }
