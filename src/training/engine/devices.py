"""Which device a command works on, and how torch is set up for it."""

import ctypes
import os
import sys

import torch

from ...errors import UserError
from . import distributed

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h of glibc


def choose_device(name: str) -> torch.device:
    """`auto` is the GPU where there is one."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "--device cuda: torch sees no GPU here; use --device cpu, or install a CUDA build of torch"
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def prepare_torch(device_name: str) -> torch.device:
    """Choose the device. A CPU works on one thread unless OMP_NUM_THREADS says otherwise: the number of
    threads changes the last bits of every sum, and folds side by side use the cores better than threads do.
    """
    device = distributed.local_device(choose_device(device_name))
    if device.type == "cpu":
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))
        torch.set_flush_denormal(True)
        keep_freed_memory()
    return device


def keep_freed_memory() -> bool:
    """Let the process keep what it frees; False where the C library has no such setting (macOS, musl).

    glibc gives blocks above 32 MB back to the system and asks for them again at the next step, which clears
    every page anew: a third of a small network's training time. Nothing here changes a result.
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return bool(library.mallopt(M_MMAP_MAX, 0)) and bool(library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
