"""Batches of slices for stage 1, built in one background thread as int16 HU."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch

from ...data.prepared import Prepared
from ...data.square import Square
from ...data.windows import check_units
from ...errors import UserError
from ..engine import distributed
from ..soft_labels import WEIGHT
from .draws import Draw, draw, middle_matrix
from .head_squares import HeadSquares
from .masks import Masks
from .sample_changes import finish, warp_by_opencv
from .sampling import build_sampler
from .slice_config import PixelConfig, SliceConfig
from .warps import AIR, shrink, warp

Batch = dict[str, Any]


class SliceReader:
    """Stored HU of slices with their neighbours, and the windows they are seen through."""

    def __init__(self, prepared: Prepared, config: PixelConfig):
        self.prepared, self.volumes, self.config = prepared, prepared.volumes, config
        check_units(config.windows, prepared.geometry["units"], prepared)
        volumes = prepared.volumes
        self.fixed = np.array([w for w in config.windows if w != "file"], np.float32).reshape(-1, 2)
        self.own = _own_windows(prepared) if "file" in config.windows else None
        self.heads = HeadSquares(prepared) if config.crop == "head" else None
        # Volumes list images by study and order, so a neighbour is a neighbouring number.
        self.number: dict[str, int] = {}
        if config.neighbours != (0,):
            sizes = [len(volumes.study_images(study)) for study in volumes.study_ids]
            ends = np.cumsum(sizes)
            self.first, self.last = np.repeat(ends - sizes, sizes), np.repeat(ends, sizes) - 1
            self.number = {image_id: number for number, image_id in enumerate(volumes.image_ids)}

    @property
    def side(self) -> int:
        """Pixels of the images that `hu` returns."""
        return len(shrink(np.empty((self.volumes.size,) * 2, np.int16), *self.target))

    @property
    def target(self) -> tuple[int, float]:
        return self.config.image_size, self.config.middle

    def hu(self, image_ids: Sequence[str]) -> np.ndarray:
        """(n, neighbours, side, side) int16.

        HU below -1024 are padding outside the scan circle: clipped, or they would bleed into the edges.
        """
        stack = self.volumes.slices(image_ids)[:, None] if not self.number else self._stacks(image_ids)
        for image in stack.reshape(-1, *stack.shape[2:]):
            if image.min() < AIR:  # looking is six times as fast as writing, and few caches have such values
                np.maximum(image, AIR, out=image)
        if self.heads is not None:
            for image_id, images in zip(image_ids, stack, strict=True):
                for image in images:
                    image[:] = self.heads.cut(image_id, image, AIR)
        if self.side == stack.shape[-1]:
            return stack
        out = np.empty((*stack.shape[:2], self.side, self.side), np.int16)
        for small, large in zip(
            out.reshape(-1, *out.shape[2:]), stack.reshape(-1, *stack.shape[2:]), strict=True
        ):
            small[:] = shrink(large, *self.target)
        return out

    def seen(self, image_id: str) -> Square:
        """What the network sees of a slice, in pixels of the stored one."""
        if self.heads is not None:
            return self.heads.of(image_id)
        side = self.config.middle * self.volumes.size
        return Square(*[(self.volumes.size - side) / 2] * 2, side)

    def mask(self, image_id: str, masks: Masks) -> np.ndarray:
        """(side, side) int16, where `hu` has the slice."""
        mask = masks.read(image_id)
        if self.heads is not None:
            mask = self.heads.cut(image_id, mask, fill=0)
        return shrink(mask, *self.target)

    def _stacks(self, image_ids: Sequence[str]) -> np.ndarray:
        try:
            rows = np.array([self.number[image_id] for image_id in image_ids])
        except KeyError as error:
            self.volumes.slice(str(error.args[0]))  # raises what is to be done about a missing image
            raise
        wanted = rows[:, None] + np.array(self.config.neighbours)
        inside = (wanted >= self.first[rows, None]) & (wanted <= self.last[rows, None])
        nearest = wanted.clip(self.first[rows, None], self.last[rows, None])
        distinct, place = np.unique(nearest, return_inverse=True)
        stored = self.volumes.slices([self.volumes.image_ids[number] for number in distinct])
        stack = stored[place.reshape(nearest.shape)]
        if self.config.edge == "air":
            stack[~inside] = AIR
        return stack

    def windows(self, image_ids: Sequence[str]) -> np.ndarray:
        """(1 or n, windows, 2) float32 center and width in HU; one for all where no image has its own."""
        if self.own is None:
            return self.fixed[None]
        own = self.own.reindex(list(image_ids)).to_numpy(np.float32)
        if np.isnan(own).any() or (own[:, 1] <= 0).any():
            bad = int((np.isnan(own).any(1) | (own[:, 1] <= 0)).argmax())
            raise UserError(
                f'{image_ids[bad]}: its file has no window; replace "file" in `windows` by a center and width'
            )
        fixed = iter(self.fixed)
        columns = [
            own if w == "file" else np.broadcast_to(next(fixed), own.shape) for w in self.config.windows
        ]
        return np.stack(columns, axis=1)


def _own_windows(prepared: Prepared) -> pd.DataFrame:
    columns = ["window_center", "window_width"]
    return prepared.slices.set_index("image_id")[columns].astype("float32")


class SliceBatches:
    """Training batches: a new order each epoch, augmented; a function of (seed, epoch, index) alone.

    On a CPU a batch comes ready for the network. For a GPU it comes as stored, with the random numbers of its
    augmentation, which `sample_changes.on_device` applies there. Of several processes each builds its part of
    every batch, the same samples with the same random numbers as one process would.
    """

    def __init__(
        self,
        prepared: Prepared,
        slices: pd.DataFrame,
        config: SliceConfig,
        device: torch.device | None = None,
        masks: Masks | None = None,
    ):
        """slices: image_id, study_id and the columns of the targets, studies together and in order; maybe
        sample_weight, what each counts in the loss.
        """
        self.config, self.masks = config, masks
        self.reader = SliceReader(prepared, config)
        self.on_cpu = device is None or device.type == "cpu"
        self.pinned = not self.on_cpu  # page-locked memory, from which a copy runs beside the computation
        self.gpu = torch.cuda.current_device() if self.pinned else None
        self.ids = slices["image_id"].to_numpy()
        self.labels = slices[list(config.predicted.columns)].to_numpy(np.float32)
        self.weights = slices[[WEIGHT]].to_numpy(np.float32) if WEIGHT in slices else None
        self.prepare_epochs(slices)
        processes = distributed.world_size()
        if min(config.batch_size, self.samples) % processes:
            raise UserError(f"batch_size {config.batch_size}: does not divide among {processes} processes")

    def prepare_epochs(self, slices: pd.DataFrame) -> None:
        """Set `samples`, those an epoch has, and `steps`."""
        self.sampler = build_sampler(slices, self.config, self.config.seed)
        self.samples = len(self.sampler)
        # The tail that does not fill a batch waits for another epoch: a batch of one breaks batch norm.
        self.steps = max(1, self.samples // self.config.batch_size)

    def rows(self, epoch: int) -> list[np.ndarray]:
        """The row numbers of every batch of an epoch."""
        order, size = self.sampler.order(epoch), self.config.batch_size
        return [order[index * size : (index + 1) * size] for index in range(self.steps)]

    def own(self, rows: np.ndarray) -> np.ndarray:
        """Which of a batch's rows are this process's, as numbers from 0."""
        return np.arange(len(rows))[distributed.rank() :: distributed.world_size()]

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        rows = self.rows(epoch)

        def build() -> Iterator[Batch]:
            if self.gpu is not None:  # a thread begins on the first GPU, and would take memory of it
                torch.cuda.set_device(self.gpu)
            for index in range(start, self.steps):
                yield self.batch(rows[index], (self.config.seed, epoch, index))

        return prefetch(build)

    def drawn(self, rows: np.ndarray, seed: tuple[int, int, int]) -> Draw:
        """The random numbers of a batch of these rows."""
        windows = self.reader.windows(list(self.ids[rows]))
        return draw(
            np.random.default_rng(seed), self.config.augmentation, len(rows), self.config.image_size, windows,
            self.reader.side, self.config.middle,
        )  # fmt: skip

    def batch(self, rows: np.ndarray, seed: tuple[int, int, int]) -> Batch:
        """The augmented slices of some rows, or this process's part of them."""
        config, numbers = self.config, self.drawn(rows, seed)
        own = self.own(rows)
        # Mixed with a sample of another process: its pixels are read and augmented here too.
        lent = np.setdiff1d(numbers.partners[own][numbers.kept[own] < 1], own)
        here = np.concatenate([own, lent])
        numbers, rows = numbers.part(here), rows[here]
        ids = list(self.ids[rows])
        hu = self.reader.hu(ids)
        hu[numbers.reverse] = hu[numbers.reverse, ::-1]
        batch = {"ids": ids, "labels": torch.from_numpy(self.labels[rows]), "hu": torch.from_numpy(hu)}
        batch |= _as_tensors(numbers, config)
        place = {row: number for number, row in enumerate(here.tolist())}
        partners = [place.get(row, 0) for row in numbers.partners.tolist()]  # 0 where nothing is mixed
        batch["mixing"] = list(zip(partners, numbers.kept.tolist(), numbers.pastes.tolist(), strict=True))
        del batch["mixing"][len(own) :]
        if self.weights is not None:
            batch["sample_weights"] = torch.from_numpy(self.weights[rows])
        if self.masks is not None:
            batch |= self._masks(ids)
        if self.on_cpu:
            return finish(warp_by_opencv(batch, config.image_size), config)
        if not self.pinned:
            return batch
        return {k: v.pin_memory() if isinstance(v, torch.Tensor) else v for k, v in batch.items()}

    def _masks(self, ids: list[str]) -> Batch:
        side = self.reader.side
        masks, known = np.zeros((len(ids), 1, side, side), np.int16), np.zeros(len(ids), bool)
        for row, image_id in enumerate(ids):
            if image_id in self.masks:
                masks[row, 0], known[row] = self.reader.mask(image_id, self.masks), True
        return {"masks": torch.from_numpy(masks), "known": torch.from_numpy(known)}


def _as_tensors(numbers: Draw, config: PixelConfig) -> Batch:
    """What augmentation needs, by name; scale and shift of HU only where windows cannot take them."""
    lists = {name: getattr(numbers, name).tolist() for name in ("noise", "noise_seeds", "blur", "sharpness")}
    arrays = {name: getattr(numbers, name) for name in ("matrices", "moves", "holes")}
    if config.learn_windows:
        arrays |= {"windows": numbers.windows, "hu_scale": numbers.hu_scale, "hu_shift": numbers.hu_shift}
    else:
        arrays |= {"windows": numbers.shifted_windows}
    return lists | {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def plain_batches(
    prepared: Prepared, image_ids: list[str], config: PixelConfig, batch_size: int
) -> Iterator[Batch]:
    """Batches for prediction, in the order of `image_ids`, without augmentation."""
    starts = range(0, len(image_ids), batch_size)
    return group_batches(prepared, [image_ids[start : start + batch_size] for start in starts], config)


def group_batches(prepared: Prepared, groups: Sequence[list[str]], config: PixelConfig) -> Iterator[Batch]:
    """A batch of every group of images, without augmentation."""
    reader = SliceReader(prepared, config)

    def build() -> Iterator[Batch]:
        for ids in groups:
            hu = middle(reader.hu(ids), config.image_size, config.middle)
            yield {"ids": ids, "hu": torch.from_numpy(hu), "windows": torch.from_numpy(reader.windows(ids))}

    return prefetch(build)


def middle(hu: np.ndarray, size: int, crop: float) -> np.ndarray:
    """The middle square of every slice, (n, s, k, k) int16 -> (n, s, size, size) int16, linearly."""
    if hu.shape[-1] == size and crop == 1.0:
        return hu
    out = np.empty((*hu.shape[:2], size, size), np.int16)
    matrix = middle_matrix(size, hu.shape[-1], crop)
    for target, image in zip(out.reshape(-1, size, size), hu.reshape(-1, *hu.shape[2:]), strict=True):
        if crop == 1.0:
            target[:] = cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)
        else:
            warp(image, matrix, target)
    return out


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
