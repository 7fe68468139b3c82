"""Batches of slices for stage 1, built in one background thread as int16 HU."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..data.volumes import Volumes
from ..labels import LABELS
from .augmentation import draw, resize, warp
from .slice_config import SliceConfig

Batch = dict[str, Any]


class SliceBatches:
    """Training batches: a new order each epoch, augmented; a function of (seed, epoch, index) alone."""

    def __init__(self, volumes: Volumes, slices: pd.DataFrame, config: SliceConfig):
        """slices: columns image_id and LABELS, no nulls."""
        self.volumes, self.config = volumes, config
        self.ids = slices["image_id"].to_numpy()
        self.labels = slices[list(LABELS)].to_numpy(np.float32)
        # The tail that does not fill a batch waits for another epoch: a batch of one breaks batch norm.
        self.steps = max(1, len(self.ids) // config.batch_size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        order = np.random.default_rng((self.config.seed, epoch)).permutation(len(self.ids))

        def build() -> Iterator[Batch]:
            for index in range(start, self.steps):
                rows = order[index * self.config.batch_size : (index + 1) * self.config.batch_size]
                rng = np.random.default_rng((self.config.seed, epoch, index))
                yield self._batch(rows, rng)

        return prefetch(build)

    def _batch(self, rows: np.ndarray, rng: np.random.Generator) -> Batch:
        config, ids = self.config, list(self.ids[rows])
        size = config.image_size
        numbers = draw(rng, config.augmentation, len(ids), size, np.array(config.windows))
        hu = np.empty((len(ids), 1, size, size), np.int16)
        for stored, matrix, shift, out in zip(
            self.volumes.slices(ids), numbers.matrices, numbers.hu_shift, hu, strict=True
        ):
            warp(resize(stored, size), matrix, out[0])
            if shift:
                out += np.int16(round(shift))
        return {
            "ids": ids,
            "hu": torch.from_numpy(hu),
            "windows": torch.from_numpy(numbers.windows),
            "labels": torch.from_numpy(self.labels[rows]),
        }


def plain_batches(
    volumes: Volumes, image_ids: list[str], config: SliceConfig, batch_size: int
) -> Iterator[Batch]:
    """Batches for prediction, in the order of `image_ids`, without augmentation."""
    windows = torch.tensor([config.windows])

    def build() -> Iterator[Batch]:
        for start in range(0, len(image_ids), batch_size):
            ids = image_ids[start : start + batch_size]
            hu = np.stack([resize(stored, config.image_size) for stored in volumes.slices(ids)])
            yield {"ids": ids, "hu": torch.from_numpy(hu[:, None]), "windows": windows}

    return prefetch(build)


def prefetch(build: Callable[[], Iterator[Batch]], ahead: int = 3) -> Iterator[Batch]:
    """Run a generator in a background thread, a few batches ahead; its exception is raised here."""
    ready: queue.Queue = queue.Queue(ahead)
    stop = threading.Event()
    end = object()

    def put(item: Any) -> None:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def work() -> None:
        try:
            for batch in build():
                put(batch)
                if stop.is_set():
                    return
            put(end)
        except BaseException as error:  # handed over to the consumer, who raises it
            put(error)

    thread = threading.Thread(target=work, daemon=True, name="batches")
    thread.start()
    try:
        while (item := ready.get()) is not end:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()
