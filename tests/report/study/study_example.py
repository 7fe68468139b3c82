"""A small made-up study for the page of one study: values, positions and probabilities known by heart."""

from typing import Any

import numpy as np
import pandas as pd

from src.labels import LABELS
from src.report.study.study_page import Point, ShownStudy

COUNT, HEIGHT, WIDTH = 12, 48, 64
IDS = [f"1.2.840.99.{number}" for number in range(1, COUNT + 1)]


def volume(count: int = COUNT, height: int = HEIGHT, width: int = WIDTH, noise: float = 12.0) -> np.ndarray:
    """(count, height, width) int16 HU: air, and a head whose brightness rises from slice to slice."""
    rng = np.random.default_rng(3)
    row, column = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    head = np.hypot(row, column) < 0.8
    bone = head & (np.hypot(row, column) > 0.7)
    slices = np.where(head, 20 + 4 * np.arange(count)[:, None, None], -1000)
    slices = np.where(bone, 1200, slices) + rng.normal(0, noise, (count, height, width))
    return np.clip(np.rint(slices), -1024, 3071).astype(np.int16)


def example(**other: Any) -> ShownStudy:
    """Subdural blood on slices 5 to 7, which say so; slice 6 most."""
    slices = pd.DataFrame(0.02, pd.Index(IDS, name="image_id"), LABELS)
    slices.loc[IDS[4:7], ["subdural", "any"]] = [[0.6, 0.7], [0.9, 0.95], [0.5, 0.55]]
    usual = {
        "hu": volume(),
        "slices": slices,
        "study": slices.max(),
        "spread": slices * 0.1,
        "study_spread": slices.max() * 0.1,
        "positions_mm": 5.0 * np.arange(COUNT) - 20,
        "spacing_mm": (0.5, 0.4),
        "axes": ((1.0, 0.0, 0.0), (0.0, 0.9, -0.4)),
        "points": {label: Point(0.5, 0.9, 0.8) for label in ("subdural", "any")},
        "maps": {(IDS[5], "subdural"): np.eye(HEIGHT, WIDTH, dtype=np.float32)},
        "synthetic": True,
    }
    return ShownStudy(**usual | other)
