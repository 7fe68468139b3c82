"""One run on several devices: processes that torchrun started, each with its part of every batch.

    torchrun --standalone --nproc_per_node=2 train_stage1.py CONFIG.json --fold 0

Without torchrun every function here answers for a single process. The first process alone writes files.
"""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.distributed as dist


def launched() -> bool:
    """Whether torchrun started this process together with others."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def local_device(device: torch.device) -> torch.device:
    """The GPU of this process: torchrun's local rank; a CPU is shared."""
    if device.type != "cuda" or not launched():
        return device
    own = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(own)
    return own


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Connect the processes; nothing to do for one."""
    if not launched():
        yield
        return
    # Flags and tables travel by gloo also between processes that have GPUs.
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def leave() -> None:
    """End a process that torchrun started, its work done and written.

    Threads of the connection may still run, and the interpreter's own end then aborts now and then.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def world_size() -> int:
    return dist.get_world_size() if _connected() else 1


def rank() -> int:
    return dist.get_rank() if _connected() else 0


def is_first() -> bool:
    return rank() == 0


def gather(value: Any) -> list[Any]:
    """Every process's value, in the order of ranks."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def mean(value: float) -> float:
    """The mean over the processes, the same bits in each of them."""
    return value if world_size() == 1 else float(np.mean(gather(value)))


def largest(value: int) -> int:
    """The largest value over the processes; a fraction of a millisecond."""
    if world_size() == 1:
        return value
    tensor = torch.tensor(value)
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return int(tensor)


def barrier() -> None:
    largest(0)


def _connected() -> bool:
    return dist.is_available() and dist.is_initialized()
