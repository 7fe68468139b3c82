"""Mixed precision, and moving batches to the device."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from ...errors import UserError

Batch = dict[str, Any]


def autocast_type(precision: str, device: torch.device) -> torch.dtype | None:
    """The type of mixed-precision arithmetic; None is plain float32."""
    if precision == "fp32" or (precision == "auto" and device.type != "cuda"):
        return None
    if precision == "fp16":
        if device.type != "cuda":
            raise UserError("precision fp16 needs a GPU; use auto, fp32 or bf16 on a CPU")
        return torch.float16
    # Older GPUs than Ampere only emulate it, far slower than they compute in float16.
    if precision == "auto" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.bfloat16


def autocast(kind: torch.dtype | None, device: torch.device) -> AbstractContextManager:
    return nullcontext() if kind is None else torch.autocast(device.type, dtype=kind)


def to_device(batch: Batch, device: torch.device) -> Batch:
    return {
        k: v.to(device, non_blocking=True) if isinstance(v, torch.Tensor) else v for k, v in batch.items()
    }
