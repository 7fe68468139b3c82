"""Predictions of new studies as files: predictions.csv and predictions.json, of one study or of many.

One study is written to the folder itself. Of several each has a folder of its own below it, complete as soon
as the study is, and the two files above them hold all. Started again, what is there and was made from the
same files by the same networks stays.
"""

import hashlib
import logging
import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from ...data.incoming.find import Incoming, find_studies
from ...errors import UserError
from ...files import fingerprint, read_json, write_csv, write_json
from ...labels import LABELS
from .answers import ON_SYNTHETIC
from .predictor import Predictor, check_series
from .study_result import StudyResult

log = logging.getLogger("ich")
TABLE, ABOUT = "predictions.csv", "predictions.json"
Page = Callable[[StudyResult, Predictor, Path], None]


def predict_studies(
    predictor: Predictor, path: Path, out: Path, series: str | None = None, page: Page | None = None
) -> pd.DataFrame:
    """Predict every study under `path` and write the files to `out`; gives the rows of the studies.

    page: what else is written of each study, before predictions.json.

    A study that cannot be used is named there and in a warning, and does not stop the others; UserError where
    it is the only one, or none can be.
    """
    if predictor.experiment.synthetic:
        log.warning("%s: %s", predictor.experiment.name, ON_SYNTHETIC)
    with TemporaryDirectory(prefix="ich_unpacked_") as scratch:
        found = find_studies(path, Path(scratch), predictor.jobs)
        check_series(found, series)
        alone = len(found) == 1
        refused, folders = [], []
        for number, study in enumerate(found, start=1):
            folder = out if alone else out / folder_name(study.study_id)
            own = series if alone or series in study.series else None
            try:
                about = _predict_one(predictor, study, folder, own, page)
            except UserError as error:
                refused.append({"study_id": study.study_id, "cause": str(error)})
                log.warning("not predicted: %s", error)
                continue
            folders.append(folder)
            _say(about["studies"][0], number, len(found))
    if not folders:
        raise UserError(refused[0]["cause"] if alone else f"{path}: none of {len(found)} studies can be used")
    if not alone:
        _write_all(out, folders, predictor, refused)
    table = _read(out / TABLE)
    return table.loc[table["level"] == "study", ["id", *LABELS]]


def folder_name(study_id: str) -> str:
    """A study's id as the name of a folder; what had to be changed is told apart by a checksum."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", study_id).lstrip(".")[:80]
    return name if name == study_id else f"{name}-{fingerprint(study_id)[:8]}"


def write_result(
    result: StudyResult, predictor: Predictor, folder: Path, made_from: str, page: Page | None = None
) -> dict[str, Any]:
    """The files of one study, predictions.json last."""
    write_csv(folder / TABLE, result.probabilities)
    if page is not None:
        page(result, predictor, folder)
    study = result.to_json() | {"made_from": made_from}
    about = {**predictor.origin, "studies": [study], "refused": []}
    write_json(folder / ABOUT, about)
    return about


def _predict_one(
    predictor: Predictor, study: Incoming, folder: Path, series: str | None, page: Page | None
) -> dict[str, Any]:
    made_from = fingerprint([predictor.fingerprint, study.study_id, _contents(study), series])
    if (about := _finished(folder, made_from)) is not None:
        log.info("%s: is predicted, by the same networks from the same files", study.study_id)
        return about
    return write_result(predictor.answer(study, series), predictor, folder, made_from, page)


def _contents(study: Incoming) -> list[str]:
    """A checksum of every file, in an order that does not depend on names."""
    return sorted(_checksum(path) for path in study.paths)


def _checksum(path: str) -> str:
    """Of a file that cannot be read there is none; why is told where it is used."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _finished(folder: Path, made_from: str) -> dict[str, Any] | None:
    if not (folder / ABOUT).is_file() or not (folder / TABLE).is_file():
        return None
    about = read_json(folder / ABOUT)
    studies = about.get("studies", [])
    return about if len(studies) == 1 and studies[0].get("made_from") == made_from else None


def _write_all(out: Path, folders: list[Path], predictor: Predictor, refused: list[dict[str, str]]) -> None:
    write_csv(out / TABLE, pd.concat([_read(folder / TABLE) for folder in folders]))
    studies = [study for folder in folders for study in read_json(folder / ABOUT)["studies"]]
    write_json(out / ABOUT, {**predictor.origin, "studies": studies, "refused": refused})


def _read(path: Path) -> pd.DataFrame:
    """As text: numbers keep their digits."""
    return pd.read_csv(path, dtype="str", keep_default_na=False)


def _say(study: dict[str, Any], number: int, count: int) -> None:
    seconds = sum(study["seconds"].values())
    log.info("%d of %d: %s, %d slices, %.1f s", number, count, study["study_id"], study["slices"], seconds)
    for warning in study["warnings"]:
        log.warning("%s: %s", study["study_id"], warning)
