"""How the embeddings of different folds are made comparable, and which of their columns are used.

Networks of different folds have different embedding spaces.  `aligned` maps each onto the first fold's by an
orthogonal Procrustes map fitted on slices no fold trained on (see probes.py); `pooled` takes them as they
are.
A selector then reduces the columns; it is fitted on training slices of the stacker's own fold only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from scipy.linalg import orthogonal_procrustes

from ...config import OneOf
from ...errors import UserError
from ...files import atomic_path, reading
from .selectors import Selector, SelectorOptions

FILE = "embedding_map.safetensors"
ALIGNMENT = ("source", "rotation", "target")


class EmbeddingOptions(SelectorOptions):
    """How embeddings of different folds are made comparable."""

    embedding_space: Annotated[str, OneOf(("pooled", "aligned", "in_fold"))] = "pooled"
    """pooled: as they are; aligned: mapped onto the first fold's space; in_fold: those of one network
    alone, also of the slices it trained on"""


@dataclass(frozen=True)
class Alignment:
    """Embeddings of one fold -> the space of the first fold: (x - source) @ rotation + target."""

    source: np.ndarray  # (d,) float32
    rotation: np.ndarray  # (d, d) float32
    target: np.ndarray  # (d,) float32

    def __call__(self, embeddings: np.ndarray) -> np.ndarray:
        """(n, d) -> (n, d) float32"""
        return (embeddings.astype(np.float32) - self.source) @ self.rotation + self.target


def fit_alignment(embeddings: np.ndarray, reference: np.ndarray) -> Alignment:
    """The orthogonal map of one fold's embeddings (n, d) onto another fold's of the same n slices.

    Schönemann, Psychometrika 1966.
    """
    source, target = embeddings.mean(0, dtype=np.float64), reference.mean(0, dtype=np.float64)
    rotation, _ = orthogonal_procrustes(embeddings - source, reference - target)
    return Alignment(source.astype(np.float32), rotation.astype(np.float32), target.astype(np.float32))


@dataclass(frozen=True)
class EmbeddingMap:
    """Stored embeddings of the members, side by side, -> what a stacker reads.

    alignments: by member and fold, empty for `pooled`.
    """

    members: tuple[str, ...]
    sizes: tuple[int, ...]  # stored width of every member
    alignments: Mapping[tuple[str, int], Alignment] = field(default_factory=dict)
    selector: Selector | None = None

    @property
    def out(self) -> tuple[int, ...]:
        """Widths of the parts that come out: one a member, or one in all behind a selector."""
        return self.sizes if self.selector is None else (self.selector.out,)

    def on(self, device: torch.device) -> "DeviceMap":
        """The map as tensors of a device, ready to be called."""
        return DeviceMap(self, device)

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything fitted, by name."""
        arrays = {
            f"{member}/fold{fold}/{name}": getattr(alignment, name)
            for (member, fold), alignment in self.alignments.items()
            for name in ALIGNMENT
        }
        if self.selector is not None:
            arrays |= {"selector/mean": self.selector.mean, "selector/columns": self.selector.columns}
        return arrays

    def save(self, folder: Path) -> None:
        """What was fitted goes beside the weights; nothing is written where nothing was fitted."""
        from safetensors.numpy import save_file

        if arrays := self.arrays():
            with atomic_path(folder / FILE) as temporary:
                save_file({name: np.ascontiguousarray(a) for name, a in arrays.items()}, temporary)

    @classmethod
    def load(cls, folder: Path, members: Sequence[str], sizes: Sequence[int], fitted: bool) -> "EmbeddingMap":
        """The map of a run folder; `fitted`: whether its configuration calls for a file."""
        from safetensors.numpy import load_file

        if not fitted:
            return cls(tuple(members), tuple(sizes))
        if not (folder / FILE).exists():
            raise UserError(f"{folder / FILE}: missing; delete this folder and train this fold again")
        with reading(folder / FILE):
            arrays = load_file(folder / FILE)
        selector = None
        if "selector/mean" in arrays:
            selector = Selector(arrays.pop("selector/mean"), arrays.pop("selector/columns"))
        alignments = {}
        for key in {name.rpartition("/")[0] for name in arrays}:
            member, _, fold = key.rpartition("/fold")
            parts = {name: arrays[f"{key}/{name}"] for name in ALIGNMENT}
            alignments[member, int(fold)] = Alignment(**parts)
        return cls(tuple(members), tuple(sizes), alignments, selector)


class DeviceMap:
    """An EmbeddingMap at work: what it holds lies on the device, so that no mapped copy is ever stored."""

    def __init__(self, fitted: EmbeddingMap, device: torch.device):
        self.members, self.sizes = fitted.members, fitted.sizes
        self.aligns, self.selects = bool(fitted.alignments), fitted.selector is not None
        self.tensors = {name: torch.from_numpy(array).to(device) for name, array in fitted.arrays().items()}

    def __call__(self, embeddings: torch.Tensor, folds: torch.Tensor) -> torch.Tensor:
        """embeddings (b, s, sum of sizes) as stored, folds (b, members) the fold that speaks for a study
        -> (b, s, sum of out) float32
        """
        x = embeddings.float()
        if self.aligns:
            parts = x.split(self.sizes, -1)
            x = torch.cat([self._aligned(m, part, folds[:, m]) for m, part in enumerate(parts)], -1)
        if self.selects:
            x = (x - self.tensors["selector/mean"]) @ self.tensors["selector/columns"]
        return x

    def _aligned(self, member: int, x: torch.Tensor, folds: torch.Tensor) -> torch.Tensor:
        out = torch.empty_like(x)
        for fold in folds.unique().tolist():
            own = folds == fold
            source, rotation, target = (
                self.tensors[f"{self.members[member]}/fold{fold}/{name}"] for name in ALIGNMENT
            )
            out[own] = (x[own] - source) @ rotation + target
        return out
