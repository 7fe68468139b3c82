"""Stage-2 inputs: what stage-1 runs say of every slice, by study.

Stage 2 trains on out-of-fold outputs: a slice's inputs come from the network that did not train on it. With
`embedding_space: in_fold` a stacker trains on what one network says of its own training slices; its held-out
predictions are as honest, for neither network nor stacker saw those studies.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import logit

from ...errors import UserError
from ...labels import LABELS
from ..missing import interpolate
from ..runs import Run
from .slice_positions import slice_positions
from .stacker_config import StackerConfig

StudyValues = dict[str, Any]
EPS = 1e-6  # probabilities become logits within +-13.8


class StudyInputs:
    """The inputs of every slice of a table, gathered a study at a time from memory-mapped arrays.

    `sources[member]` lists the runs that speak for the slices; each slice takes the one whose table holds it.
    `copies` of the inputs differ by the view through which stage 1 looked; there is one unless views are
    drawn.
    """

    def __init__(
        self, slices: pd.DataFrame, sources: Mapping[str, Sequence[Run]], part: str, config: StackerConfig
    ):
        """slices: image_id, study_id, position_mm and maybe LABELS, sorted by study and place in it; maybe
        `missing`, True where no stage-1 run could read the slice: its logits are its neighbours'.
        """
        self.config = config
        self.image_ids = slices["image_id"].to_numpy()
        starts = np.flatnonzero(slices["study_id"].ne(slices["study_id"].shift()).to_numpy())
        self.bounds = np.append(starts, len(slices))  # study i is rows bounds[i]:bounds[i + 1]
        count = len(slices)
        self.missing = slices["missing"].to_numpy(bool) if "missing" in slices else np.zeros(count, bool)
        self.positions = np.empty((count, 0), np.float32)
        if "position" in config.inputs:
            self.positions = slice_positions(slices, self.bounds, config.positions)
        has_labels = part != "test" and set(LABELS) <= set(slices.columns)
        self.labels = slices[list(LABELS)].to_numpy(np.float32, copy=True) if has_labels else None
        self.copies = [
            [_Member(self.image_ids, self.missing, sources[name], part, views) for name, views in copy]
            for copy in config.copies
        ]
        self.reads_embeddings = "embeddings" in config.inputs
        self.logits = np.empty((len(self.copies), count, 0), np.float32)
        if config.scores:
            self.logits = np.stack([np.hstack([member.logits for member in copy]) for copy in self.copies])
            for study in np.unique(np.searchsorted(self.bounds, np.flatnonzero(self.missing), "right") - 1):
                rows = slice(self.bounds[study], self.bounds[study + 1])
                for logits in self.logits:
                    logits[rows] = interpolate(logits[rows], self.missing[rows])

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.bounds)

    @property
    def embedding_sizes(self) -> tuple[int, ...]:
        """Stored widths of what stands side by side, or nothing where embeddings are no input."""
        return tuple(m.width for m in self.copies[0]) if self.reads_embeddings else ()

    def folds(self, studies: np.ndarray) -> np.ndarray:
        """(n,) studies -> (n, members) int64: the fold whose networks speak for a study."""
        first = self.bounds[studies]
        return np.stack([member.folds[member.source[first]] for member in self.copies[0]], 1)

    def study(self, index: int, copy: int = 0) -> StudyValues:
        """embeddings, a list of (s, d) float16 as stored, one a member; logits (s, 6 * members), position
        (s, p), labels (s, 6) where known, float32; missing (s,) bool.
        """
        rows = slice(self.bounds[index], self.bounds[index + 1])
        values: StudyValues = {
            "embeddings": [member.embeddings(rows) for member in self.copies[copy]]
            if self.reads_embeddings
            else [],
            "logits": self.logits[copy, rows],
            "position": self.positions[rows],
            "missing": self.missing[rows],
        }
        if self.labels is not None:
            values["labels"] = self.labels[rows]
        return values


class _Member:
    """One stage-1 run: for every slice the fold that speaks for it and the row there (-1: none does).

    views: the looks that are averaged; none: what the run says by its own `tta`.
    """

    def __init__(
        self,
        image_ids: np.ndarray,
        missing: np.ndarray,
        runs: Sequence[Run],
        part: str,
        views: Sequence[str] = (),
    ):
        parts = [f"{part}_{view}" for view in views] or [part]
        tables = [_mean_table(run, parts) for run in runs]
        known = pd.concat(
            [pd.DataFrame({"source": i, "row": np.arange(len(t))}, t.index) for i, t in enumerate(tables)]
        )
        if known.index.has_duplicates:
            twice = known.index[known.index.duplicated()][0]
            raise UserError(
                f"{runs[0].name}: {part} predictions of {twice} stand in two folds; train the run again"
            )
        place = known.index.get_indexer(image_ids)
        absent = image_ids[(place < 0) & ~missing]
        if len(absent):
            raise UserError(
                f"{runs[0].name}: no {part} prediction for {len(absent)} slices ({absent[0]}, ...); "
                "delete its run folders and run its stage again on this prepared data"
            )
        place = np.where(missing, -1, place)
        self.source = np.where(place < 0, 0, known["source"].to_numpy()[place])
        self.row = np.where(place < 0, -1, known["row"].to_numpy()[place])
        self.folds = np.array([run.fold for run in runs])
        self.arrays = [[run.embeddings(part) for part in parts] for run in runs]
        self.width = self.arrays[0][0].shape[1]
        probabilities = np.concatenate([table.to_numpy(np.float64) for table in tables])[place]
        self.logits = logit(probabilities.clip(EPS, 1 - EPS)).astype(np.float32)

    def embeddings(self, rows: slice) -> np.ndarray:
        """(s, d) as stored, zeros for a missing slice.  Folds group patients: a study lies in one fold."""
        row = self.row[rows]
        arrays = self.arrays[self.source[rows.start]]
        if row[0] >= 0 and row[-1] - row[0] + 1 == len(row) and (np.diff(row) == 1).all():
            # a run of rows, as stage 1 writes them: one sequential read
            return _mean_array([array[row[0] : row[-1] + 1] for array in arrays])
        values = _mean_array([array[row] for array in arrays])
        values[row < 0] = 0
        return values


def _mean_table(run: Run, parts: Sequence[str]) -> pd.DataFrame:
    """The mean of a run's predictions of the same slices; tables of others are a UserError."""
    first, *others = (run.predictions(part) for part in parts)
    for part, table in zip(parts[1:], others, strict=True):
        if not table.index.equals(first.index):
            raise UserError(
                f"{run.folder / f'{part}.parquet'}: holds other slices than {parts[0]}.parquet; delete both"
            )
    return sum(others, first) / len(parts) if others else first


def _mean_array(copies: Sequence[np.ndarray]) -> np.ndarray:
    """float16; of a single copy, itself."""
    return copies[0] if len(copies) == 1 else np.mean(copies, 0, dtype=np.float32).astype(np.float16)
