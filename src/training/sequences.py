"""Stage-2 inputs: what stage-1 runs say of every slice, by study.

Stage 2 trains on out-of-fold outputs only: a slice's inputs come from the network that did not train on it.
The networks of different folds have different embedding spaces; `aligned` maps each onto the first fold's by
an orthogonal Procrustes map fitted on test slices, which no fold trained on; `pooled` takes them as they are.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.linalg import orthogonal_procrustes
from scipy.special import logit

from ..errors import UserError
from ..labels import LABELS
from ..models.stackers import POSITIONS
from .runs import Run
from .stacker_config import StackerConfig

Batch = dict[str, Any]
PROBES = 20_000  # slices an alignment is fitted on, at most
_EPS = 1e-6  # probabilities become logits within +-13.8


@dataclass(frozen=True)
class Alignment:
    """Embeddings of one fold -> the space of the first fold: (x - source) @ rotation + target."""

    source: np.ndarray  # (d,)
    rotation: np.ndarray  # (d, d)
    target: np.ndarray  # (d,)

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


def fit_alignments(members: Sequence[str], runs: Mapping[str, Sequence[Run]]) -> dict[str, Alignment]:
    """One alignment a member and fold, keyed `<member>/fold<k>`, from the members' test embeddings."""
    alignments = {}
    for member in members:
        first, *_ = runs[member]
        count = len(first.predictions("test"))
        if count < 2:
            raise UserError(f"{first.folder}: embedding_space aligned needs test slices; set it to pooled")
        rows = np.linspace(0, count - 1, min(count, PROBES)).astype(int)
        reference = np.asarray(first.embeddings("test")[rows], np.float64)
        for run in runs[member]:
            embeddings = np.asarray(run.embeddings("test")[rows], np.float64)
            alignments[f"{member}/fold{run.fold}"] = fit_alignment(embeddings, reference)
    return alignments


class StudyInputs:
    """The inputs of every slice of a table, gathered a study at a time from memory-mapped arrays.

    `sources[member]` lists the runs that speak for the slices; each slice takes the one whose table holds it.
    """

    def __init__(
        self,
        slices: pd.DataFrame,
        sources: Mapping[str, Sequence[Run]],
        part: str,
        config: StackerConfig,
        alignments: Mapping[str, Alignment] | None,
    ):
        """slices: image_id, study_id, order, position_mm and maybe LABELS, sorted by study and order."""
        self.config = config
        self.image_ids = slices["image_id"].to_numpy()
        starts = np.flatnonzero(slices["study_id"].ne(slices["study_id"].shift()).to_numpy())
        self.bounds = np.append(starts, len(slices))  # study i is rows bounds[i]:bounds[i + 1]
        self.positions = _positions(slices, self.bounds)
        has_labels = set(LABELS) <= set(slices.columns) and part == "oof"
        self.labels = slices[list(LABELS)].to_numpy(np.float32) if has_labels else None
        self.members = [_Member(self.image_ids, sources[name], part, alignments) for name in config.members]

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.bounds)

    @property
    def embedding_sizes(self) -> tuple[int, ...]:
        return tuple(m.width for m in self.members) if "embeddings" in self.config.inputs else ()

    def study(self, index: int) -> dict[str, np.ndarray]:
        """embeddings (s, d), logits (s, 6 * members), position (s, p), labels (s, 6) where known; float32"""
        rows = slice(self.bounds[index], self.bounds[index + 1])
        count, kinds = rows.stop - rows.start, self.config.inputs
        empty = np.empty((count, 0), np.float32)
        values = {
            "embeddings": np.hstack([m.embeddings(rows) for m in self.members])
            if "embeddings" in kinds
            else empty,
            "logits": np.hstack([m.logits[rows] for m in self.members]) if "logits" in kinds else empty,
            "position": self.positions[rows] if "position" in kinds else empty,
        }
        if self.labels is not None:
            values["labels"] = self.labels[rows]
        return values


class _Member:
    """One stage-1 run: for every slice the fold that speaks for it and the row there."""

    def __init__(
        self,
        image_ids: np.ndarray,
        runs: Sequence[Run],
        part: str,
        alignments: Mapping[str, Alignment] | None,
    ):
        tables = [run.predictions(part) for run in runs]
        known = pd.concat(
            [pd.DataFrame({"source": i, "row": np.arange(len(t))}, t.index) for i, t in enumerate(tables)]
        )
        if known.index.has_duplicates:
            twice = known.index[known.index.duplicated()][0]
            raise UserError(
                f"{runs[0].name}: {part} predictions of {twice} stand in two folds; train the run again"
            )
        missing = pd.Index(image_ids).difference(known.index)
        if len(missing):
            raise UserError(
                f"{runs[0].name}: no {part} prediction for {len(missing)} slices ({missing[0]}, ...); "
                "delete its run folders and run its stage again on this prepared data"
            )
        known = known.loc[image_ids]
        self.source, self.row = known["source"].to_numpy(), known["row"].to_numpy()
        self.arrays = [run.embeddings(part) for run in runs]
        self.maps = [alignments[f"{run.name}/fold{run.fold}"] if alignments else None for run in runs]
        self.width = self.arrays[0].shape[1]
        probabilities = pd.concat(tables).loc[image_ids].to_numpy(np.float64)
        self.logits = logit(probabilities.clip(_EPS, 1 - _EPS)).astype(np.float32)

    def embeddings(self, rows: slice) -> np.ndarray:
        """(s, d) float32. A study lies in one fold, since folds group patients."""
        source = self.source[rows.start]
        values = self.arrays[source][self.row[rows]]
        return self.maps[source](values) if self.maps[source] else values.astype(np.float32)


def _positions(slices: pd.DataFrame, bounds: np.ndarray) -> np.ndarray:
    """(n, 2) float32: index in the study from 0 to 1; position along z from its middle, in 100 mm."""
    lengths = np.diff(bounds)
    study = np.repeat(np.arange(len(lengths)), lengths)
    index = np.arange(len(slices)) - bounds[study]
    z = slices["position_mm"].to_numpy(np.float64)
    if np.isnan(z).any():
        raise UserError(
            "slices.parquet: position_mm is missing for some usable slices; leave position out of inputs"
        )
    lowest, highest = np.minimum.reduceat(z, bounds[:-1]), np.maximum.reduceat(z, bounds[:-1])
    middle = ((lowest + highest) / 2)[study]
    relative = index / np.maximum(1, lengths - 1)[study]
    positions = np.stack([relative, (z - middle) / 100], 1).astype(np.float32)
    assert positions.shape[1] == POSITIONS
    return positions


class StudyBatches:
    """Training batches of studies of similar length, shuffled each epoch by (seed, epoch, index)."""

    def __init__(self, inputs: StudyInputs, config: StackerConfig):
        self.inputs, self.config = inputs, config
        self.steps = -(-len(inputs) // config.batch_size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        rng = np.random.default_rng((self.config.seed, epoch))
        batches = bucketed(self.inputs.lengths, self.config.batch_size, rng)
        for index in range(start, self.steps):
            draw = np.random.default_rng((self.config.seed, epoch, index))
            reverse = draw.random(len(batches[index])) < self.config.reverse
            yield collate(self.inputs, batches[index], reverse)


def bucketed(lengths: np.ndarray, batch_size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """All studies once, in batches of similar length (little padding), batches in random order."""
    near = np.lexsort((rng.random(len(lengths)), lengths + rng.uniform(-2, 2, len(lengths))))
    batches = [near[i : i + batch_size] for i in range(0, len(near), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]


def collate(inputs: StudyInputs, studies: np.ndarray, reverse: np.ndarray | None = None) -> Batch:
    """Pad studies to the longest: every array (b, s, k), `mask` (b, s) True for real slices."""
    values = [inputs.study(i) for i in studies]
    longest = max(len(v["position"]) for v in values)
    batch: Batch = {"ids": [str(inputs.image_ids[inputs.bounds[i]]) for i in studies]}
    mask = torch.zeros(len(values), longest, dtype=torch.bool)
    for key in values[0]:
        padded = np.zeros((len(values), longest, values[0][key].shape[1]), np.float32)
        for row, value in enumerate(values):
            flip = reverse is not None and reverse[row]
            padded[row, : len(value[key])] = value[key][::-1] if flip else value[key]
            mask[row, : len(value[key])] = True
        batch[key] = torch.from_numpy(padded)
    batch["mask"] = mask
    return batch
