"""A trained experiment asked about new studies: from a path on a disk to probabilities, nothing else needed.

from ich import Predictor
result = Predictor.load("bundle.zip").study("folder")
"""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ...data.incoming.find import Incoming, find_studies
from ...data.incoming.study import prepare_study
from ...errors import UserError
from ...evaluation.operating import POINTS
from ...files import fingerprint, read_json
from ...settings import load_settings
from ...training.provenance import environment
from ...training.runs import experiment_name
from .answers import ON_SYNTHETIC, TrainedExperiment
from .bundle import open_bundle
from .study_result import StudyResult, probability_table

log = logging.getLogger("ich")


@dataclass(frozen=True)
class Refused:
    """A study that was not predicted, and why."""

    study_id: str
    reason: str


class Predictor:
    """Predicts one study after the other; networks are loaded once."""

    def __init__(self, experiment: TrainedExperiment, jobs: int = 1, holds: TemporaryDirectory | None = None):
        self.experiment, self.jobs = experiment, jobs
        self._holds = holds  # the folder of an opened bundle lives as long as this

    @classmethod
    def load(
        cls, experiment: Path | str, settings: Path | str = "SETTINGS.json", device: str = "auto",
        jobs: int = 1, precision: str | None = None,
    ) -> "Predictor":  # fmt: skip
        """An experiment's folder (experiments/NAME, whose runs `settings` finds) or a bundle's file.

        precision: fp32, bf16 or fp16 (a GPU's) for all networks, by default what they were trained with.
        """
        if Path(experiment).is_file() or Path(experiment).suffix == ".zip":
            return cls.from_bundle(experiment, device, jobs, precision)
        found, name = load_settings(settings), experiment_name(experiment)
        trained = TrainedExperiment(found, name, device, jobs, keep=True, quiet=True, precision=precision)
        return cls(trained, jobs)

    @classmethod
    def from_bundle(
        cls, path: Path | str, device: str = "auto", jobs: int = 1, precision: str | None = None
    ) -> "Predictor":
        """Checks the whole file before anything in it is used. Raises UserError."""
        holds = TemporaryDirectory(prefix="ich_bundle_")
        opened = open_bundle(Path(path), Path(holds.name))
        experiment = TrainedExperiment(
            opened.settings, opened.experiment, device, jobs, keep=True, quiet=True,
            synthetic=opened.synthetic, precision=precision,
        )  # fmt: skip
        return cls(experiment, jobs, holds)

    @property
    def geometry(self) -> dict[str, Any]:
        """How slices are prepared for these networks."""
        return self.experiment.runs[0].made_from["geometry"]

    @property
    def fingerprint(self) -> str:
        """Of the networks, what they compute in, and how they are combined."""
        blend = None if self.experiment.blend is None else self.experiment.blend.to_dict()
        runs = [run.fingerprint for run in self.experiment.runs]
        return fingerprint([runs, blend, self.experiment.precision])

    @property
    def operating_points(self) -> dict[str, Any]:
        """By label, as step 5 found them on held-out slices; empty where the experiment has none."""
        path = self.experiment.runs[0].settings.submissions / self.experiment.name / POINTS
        return read_json(path)["labels"] if path.is_file() else {}

    @property
    def origin(self) -> dict[str, Any]:
        """What answers: for JSON."""
        folds = {name: [run.fold for run in self.experiment.folds(name)] for name in self.experiment.members}
        return {
            "note": ON_SYNTHETIC if self.experiment.synthetic else None,
            "synthetic": self.experiment.synthetic,
            "experiment": self.experiment.name,
            "fingerprint": self.fingerprint,
            "runs": folds,
            "preparation": self.geometry,
            "precision": self.experiment.precision,
            "versions": environment(),
        }

    def study(self, path: Path | str, series: str | None = None) -> StudyResult:
        """The answer for the one study under a path: a folder of DICOM files, a zip archive of one, or a
        NIfTI file. Raises UserError where there are several, or where it cannot be used.

        series: SeriesInstanceUID to use against the choice of the rules.
        """
        with TemporaryDirectory(prefix="ich_unpacked_") as scratch:
            found = find_studies(Path(path), Path(scratch), self.jobs)
            if len(found) > 1:
                names = ", ".join(study.study_id for study in found[:5])
                raise UserError(
                    f"{path}: holds {len(found)} studies ({names}); ask for `studies`, or give one"
                )
            return self.answer(found[0], series)

    def studies(self, path: Path | str, series: str | None = None) -> Iterator[StudyResult | Refused]:
        """The answers for all studies under a path, one after the other; what is wrong with one of them does
        not stop the others. `series` counts for the study that has it.
        """
        with TemporaryDirectory(prefix="ich_unpacked_") as scratch:
            found = find_studies(Path(path), Path(scratch), self.jobs)
            check_series(found, series)
            for study in found:
                own = series if series in study.series or len(found) == 1 else None
                try:
                    yield self.answer(study, own)
                except UserError as error:
                    yield Refused(study.study_id, str(error))

    def answer(self, study: Incoming, series: str | None = None) -> StudyResult:
        """The answer for one study that was found. Raises UserError where it cannot be used."""
        holds = TemporaryDirectory(prefix="ich_study_")
        clean = Path(holds.name)
        started = time.perf_counter()
        prepared = prepare_study(study, self.geometry, clean, series, self.jobs)
        ready = time.perf_counter()
        answers = self.experiment.predict(prepared.prepared)
        table = probability_table(prepared, answers)
        seconds = {"prepare": ready - started, "predict": time.perf_counter() - ready}
        return StudyResult(prepared, answers, table, seconds, holds)


def check_series(found: list[Incoming], series: str | None) -> None:
    """UserError for a series that no study has."""
    if series is not None and not any(series in study.series for study in found):
        known = ", ".join(sorted({uid for study in found for uid in study.series if uid})) or "none"
        raise UserError(f"--series {series}: no study there has it; series: {known}")
