"""Applying the augmentation that was drawn for a batch: on the CPU by OpenCV, or on the device by torch."""

from typing import Any

import numpy as np
import torch

from .intensity import add_noise, blur, erase, mix, sharpen
from .slice_config import SliceConfig
from .warps import warp, warp_on_device

Batch = dict[str, Any]
HALF = 127  # masks are 0 or 255 before they are resampled


def warp_by_opencv(batch: Batch, size: int) -> Batch:
    """Geometry of a batch in CPU memory; hu (b, s, k, k) int16 -> (b, s, size, size) int16."""
    changed = dict(batch)
    matrices, moves = changed.pop("matrices").numpy(), changed.pop("moves").numpy()
    for name in ("hu", "masks"):
        if name not in batch:
            continue
        source = batch[name].numpy()
        out = np.empty((*source.shape[:2], size, size), np.int16)
        for stack, targets, matrix, move in zip(source, out, matrices, moves, strict=True):
            for image, target in zip(stack, targets, strict=True):
                warp(image, matrix, target, move if move.size else None)
        changed[name] = torch.from_numpy(out)
    return changed


def on_device(batch: Batch, config: SliceConfig) -> Batch:
    """All changes of a batch that came as stored, where its tensors are; nothing to do for another."""
    if "matrices" not in batch:
        return batch
    changed = dict(batch)
    matrices, moves = changed.pop("matrices"), changed.pop("moves")
    # HU have more digits than bfloat16: no mixed precision before the windows.
    with torch.autocast(batch["hu"].device.type, enabled=False):
        for name in ("hu", "masks"):
            if name in batch:
                changed[name] = warp_on_device(batch[name], matrices, config.image_size, moves)
        return finish(changed, config)


def finish(batch: Batch, config: SliceConfig) -> Batch:
    """Everything after the geometry; takes out of the batch what the network does not read.

    Single numbers come as lists, not as tensors: asking a GPU for one would wait for all its work.
    """
    changed, draws = dict(batch), config.augmentation
    noise, seeds, softness, sharpness = (
        changed.pop(name) for name in ("noise", "noise_seeds", "blur", "sharpness")
    )
    holes, mixing = changed.pop("holes"), changed.pop("mixing")
    hu = changed["hu"]
    if draws.blur or draws.noise or draws.sharpen or "hu_scale" in changed:
        hu = hu.float()
    if "hu_scale" in changed:
        scale, shift = (changed.pop(name).float().view(-1, 1, 1, 1) for name in ("hu_scale", "hu_shift"))
        hu = hu * scale + shift
    hu = add_noise(blur(hu, softness), noise, seeds)
    if draws.sharpen:
        hu = sharpen(hu, changed["windows"], sharpness)
    hu = erase(hu, holes)
    if draws.cutmix or draws.mixup:
        hu, changed["labels"] = mix(hu, changed["labels"], mixing)
        changed["windows"] = changed["windows"][: len(hu)]  # without those who only lent their pixels
    changed["hu"] = hu
    if "masks" in changed:
        changed["masks"] = changed["masks"] > HALF
    return changed
