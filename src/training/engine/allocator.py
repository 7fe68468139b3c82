"""Keeping freed memory for the next step of a training on a CPU.

The C library gives blocks above 32 MB back to the system and asks for them again at the next step, which
clears every page anew: a third of a small network's training time. Nothing here changes a result.
"""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h of glibc


def keep_freed_memory() -> bool:
    """Let the process keep what it frees; False where the C library has no such setting (macOS, musl)."""
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return bool(library.mallopt(M_MMAP_MAX, 0)) and bool(library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
