"""What a trained experiment says of any data that fit: every fold of every member, and the blend.

It takes run folders and blend.json alone, neither the training data nor a place among them: what stage 1 says
on the way to stage 2 is kept in a folder of the caller's, or in a temporary one.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from ...data.prepared import Prepared
from ...data.synthetic_truth import is_synthetic
from ...errors import UserError
from ...evaluation.blend import Blend
from ...evaluation.metrics import study_maximum
from ...files import read_json, reading
from ...labels import LABELS
from ...settings import Settings
from ...targets import HEMORRHAGE
from ...training.launch import predict_part
from ...training.provenance import check_alike, check_geometry, check_unchanged
from ...training.runs import Loaded, Run
from ...training.split import part_of
from ..gather import complete_runs, without_leaks
from .known_patients import ALL_FOLDS, NO_FOLD, held_out_folds

log = logging.getLogger("ich")
MEAN, BLEND = "mean", "blend"
ON_SYNTHETIC = "trained on synthetic images: probabilities say nothing about a patient"


@dataclass(frozen=True)
class Answer:
    """Probabilities of the six labels, the mean over the folds that may answer, and their sample standard
    deviation over these folds, NaN where a single one answers. Columns LABELS.
    """

    slices: pd.DataFrame  # index image_id
    slice_spread: pd.DataFrame
    studies: pd.DataFrame  # index study_id: the maximum over its slices
    study_spread: pd.DataFrame  # of the folds' own maxima

    @classmethod
    def of(cls, mean: pd.DataFrame, folds: Sequence[pd.DataFrame], studies: pd.Series) -> "Answer":
        """mean: index image_id; folds: what each says of the images it may answer; studies: image_id ->
        study_id.
        """
        of_studies = [study_maximum(fold, studies.loc[fold.index]) for fold in folds]
        largest = study_maximum(mean, studies.loc[mean.index])
        return cls(mean, spread(folds, mean.index), largest, spread(of_studies, largest.index))


@dataclass(frozen=True)
class StudyHead:
    """What stackers with a head for whole studies say of them, without a maximum: the mean over members and
    folds, and the folds' sample standard deviation. Index study_id, columns LABELS.
    """

    studies: pd.DataFrame
    spread: pd.DataFrame

    @classmethod
    def of(cls, said: Mapping[int, Sequence[pd.DataFrame]]) -> "StudyHead | None":
        """said: fold -> tables of members, or of parts of the studies; None where nobody said anything."""
        folds = [pd.concat(tables).groupby(level=0).mean() for tables in said.values() if tables]
        if not folds:
            return None
        index = pd.concat(folds).index.unique().sort_values()
        return cls(mean_of_folds(folds, index), spread(folds, index))


@dataclass(frozen=True)
class Answers:
    """What an experiment says of some images."""

    members: dict[str, Answer]
    blend: Answer
    combined: str  # how the last one was made: `blend`, or `mean` where no blend was fitted
    left_out: list[str]  # images nobody answered: no complete fold held their patients out
    head: StudyHead | None = None  # where a member has one


class TrainedExperiment:
    """The complete folds of an experiment and its blend, ready to be asked.

    keep: networks stay loaded from one question to the next, in this process; synthetic: known to be trained
    on synthetic images, whatever its runs remember; precision: of all networks, in place of their own.
    """

    def __init__(
        self, settings: Settings, name: str, device: str = "auto", jobs: int = 1, keep: bool = False,
        quiet: bool = False, synthetic: bool = False, precision: str | None = None,
    ):  # fmt: skip
        self.name, self.device, self.jobs, self.quiet = name, device, jobs, quiet
        self.blend = read_blend(settings.submissions / name)
        members = None if self.blend is None else list(self.blend.weights.index)
        self.runs = complete_runs(settings, name, members)
        self.precision = precision
        if self.blend is None:
            log.warning("%s has no blend, so the mean of the members answers; ensemble.py fits one", name)
            self.runs = without_leaks(self.runs)
        self.loaded: Loaded | None = {} if keep else None
        for member in self.members:
            check_alike(self.folds(member))
        for run in self.runs:
            check_unchanged(run)
            check_targets(run)
        check_one_training(self.runs)
        # a run that was trained before runs remembered it still lies beside its data
        remembered = any(run.metrics().get("synthetic", False) for run in self.runs)
        self.synthetic = synthetic or remembered or is_synthetic(settings.raw)

    @property
    def members(self) -> list[str]:
        """Names of the runs that answer, in the order of the blend."""
        return list(dict.fromkeys(run.name for run in self.runs))

    def folds(self, member: str) -> list[Run]:
        return [run for run in self.runs if run.name == member]

    def predict(
        self, prepared: Prepared, image_ids: Sequence[str] | None = None, folder: Path | None = None
    ) -> Answers:
        """Answers for some usable images, or for all; for what is asked a stacker reads whole studies.

        Data prepared differently than the runs are used to are a UserError. folder: where the runs' outputs
        are kept, so that a question asked again goes on where it was; None: they are not kept.
        """
        for run in self.runs:
            check_geometry(run, prepared)
        usable = prepared.slices[prepared.slices["status"] == "ok"].set_index("image_id")
        asked = usable if image_ids is None else usable.loc[usable_images(usable, image_ids, prepared)]
        if asked.empty:
            raise UserError(f"{prepared}: no image to ask about; its quarantine.csv says why none is usable")
        held_out = held_out_folds(self.runs, prepared).reindex(asked["study_id"].unique())
        possible = asked["study_id"].isin(held_out.index[held_out != NO_FOLD])
        self._say_left_out(asked[~possible], len(asked))
        with place_of(folder) as place:
            said, heads = self._ask(prepared, held_out[held_out != NO_FOLD], place)
        said = {name: {k: f[f.index.isin(asked.index)] for k, f in own.items()} for name, own in said.items()}
        answers = self._combine(said, asked.loc[possible, "study_id"], list(asked.index[~possible]))
        return replace(answers, head=StudyHead.of(heads))

    def _say_left_out(self, left_out: pd.DataFrame, asked: int) -> None:
        if len(left_out) == asked:
            raise UserError(
                f"{self.name}: no complete fold held out the patients of the {asked} images asked for; train "
                "the folds that do, or ask about other patients"
            )
        if len(left_out):
            text = "%d of %d images are left out: no complete fold held their patients out"
            log.warning(text, len(left_out), asked)

    def _ask(
        self, prepared: Prepared, held_out: pd.Series, place: Path
    ) -> tuple[dict[str, dict[int, pd.DataFrame]], dict[int, list[pd.DataFrame]]]:
        """member -> fold -> its probabilities of all slices of the studies it may answer; fold -> what heads
        for whole studies say.

        held_out: study_id -> the fold that alone may answer, or ALL_FOLDS.
        """
        said: dict[str, dict[int, list[pd.DataFrame]]] = {
            member: {run.fold: [] for run in self.folds(member)} for member in self.members
        }
        heads: dict[int, list[pd.DataFrame]] = {run.fold: [] for run in self.runs}
        for fold in sorted(held_out.unique()):
            only = None if fold == ALL_FOLDS else int(fold)
            part = part_of(prepared, held_out.index[held_out == fold], only)
            below = place / ("all" if only is None else f"fold{only}")
            asked = {"place": below, "precision": self.precision}
            runs = [replace(run, **asked) for run in self.runs if only in (None, run.fold)]
            predict_part(runs, part, self.device, self.jobs, self.quiet, self.loaded)
            for run in runs:
                said[run.name][run.fold].append(run.predictions("test")[list(LABELS)])
                if (head := run.study_head()) is not None:
                    heads[run.fold].append(head)
        whole = {
            member: {fold: pd.concat(tables) for fold, tables in folds.items() if tables}
            for member, folds in said.items()
        }
        return whole, heads

    def _combine(
        self, said: Mapping[str, Mapping[int, pd.DataFrame]], studies: pd.Series, left_out: list[str]
    ) -> Answers:
        """studies: image_id -> study_id of what was answered, in the order of the answers."""
        means = {member: mean_of_folds(list(folds.values()), studies.index) for member, folds in said.items()}
        members = {
            member: Answer.of(means[member], list(folds.values()), studies) for member, folds in said.items()
        }
        common = set.intersection(*(set(folds) for folds in said.values()))
        by_fold = [self.combine({m: folds[k] for m, folds in said.items()}) for k in sorted(common)]
        blend = Answer.of(self.combine(means), by_fold, studies)
        return Answers(members, blend, MEAN if self.blend is None else BLEND, left_out)

    def combine(self, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
        """Tables of the members -> the experiment's own: its blend, or their mean."""
        if self.blend is not None:
            return self.blend.apply(tables)
        first = next(iter(tables.values()))
        return sum(table.loc[first.index] for table in tables.values()) / len(tables)


def read_blend(folder: Path) -> Blend | None:
    """The blend that ensemble.py left in the folder of an experiment; None where it left none.

    One with members that were predicted elsewhere can say nothing of other data: UserError.
    """
    path = folder / "blend.json"
    if not path.exists():
        return None
    with reading(path):
        blend = Blend.from_dict(read_json(path))
    if elsewhere := [name for name in blend.weights.index if name.startswith("external/")]:
        raise UserError(
            f"{path}: {', '.join(elsewhere)} was predicted elsewhere and cannot be asked about other data; "
            "run ensemble.py for an experiment without it"
        )
    return blend


def check_targets(run: Run) -> None:
    """UserError unless a run gives the six labels of every slice."""
    if run.targets != HEMORRHAGE.name:
        raise UserError(
            f"{run.folder}: predicts {run.targets}; only runs that predict the six labels can be asked "
            "together: name these in `members` of an ensemble.json"
        )


def check_one_training(runs: Sequence[Run]) -> None:
    """UserError unless all folds were trained on the same data, whose patients are then recognised."""
    first = runs[0]
    for run in runs:
        if run.made_from["data"] != first.made_from["data"]:
            raise UserError(
                f"{run.folder}: was trained on other data than {first.folder}; train both on the same, or "
                "leave one out of `members` in ensemble.json"
            )


def usable_images(usable: pd.DataFrame, image_ids: Sequence[str], prepared: Prepared) -> list[str]:
    """The ids themselves; one that is not among the usable images raises UserError."""
    if unknown := [image_id for image_id in image_ids if image_id not in usable.index]:
        raise UserError(
            f"{prepared}: {len(unknown)} of the images asked for are not there or could not be read "
            f"({unknown[0]}, ...); its quarantine.csv names the latter"
        )
    return list(image_ids)


def mean_of_folds(folds: Sequence[pd.DataFrame], index: pd.Index) -> pd.DataFrame:
    """Of every image the mean over the folds that answered it."""
    return pd.DataFrame(_over_folds(np.nanmean, folds, index), index, list(LABELS))


def spread(folds: Sequence[pd.DataFrame], index: pd.Index) -> pd.DataFrame:
    """Of every row the sample standard deviation over the folds that answered it; NaN for a single one."""
    if len(folds) < 2:
        return pd.DataFrame(np.nan, index, list(LABELS))

    def deviation(values: np.ndarray, axis: int) -> np.ndarray:
        count = np.isfinite(values).sum(axis)
        squares = np.nansum((values - np.nanmean(values, axis)) ** 2, axis)
        return np.sqrt(np.divide(squares, count - 1, out=np.full(count.shape, np.nan), where=count > 1))

    return pd.DataFrame(_over_folds(deviation, folds, index), index, list(LABELS))


def _over_folds(statistic: Callable, folds: Sequence[pd.DataFrame], index: pd.Index) -> np.ndarray:
    """(rows, 6): a function of (folds, rows, 6), NaN where a fold did not answer."""
    values = np.stack([fold.reindex(index)[list(LABELS)].to_numpy(np.float64) for fold in folds])
    return statistic(values, axis=0)


@contextmanager
def place_of(folder: Path | None) -> Iterator[Path]:
    """The folder itself, or a temporary one."""
    if folder is not None:
        yield Path(folder)
        return
    with TemporaryDirectory(prefix="ich_") as temporary:
        yield Path(temporary)
