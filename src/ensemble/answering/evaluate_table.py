"""Every image of a labelled table: prepared as the training data were, answered and scored."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ...data.preparation.options import Options
from ...data.preparation.prepare import prepare
from ...data.prepared import Prepared
from ...data.readers.cq500 import is_reads
from ...data.readers.table_rows import NUMBERS, TEXTS, read_rows
from ...errors import UserError
from ...files import write_csv, write_json
from ...labels import LABELS
from ...training.runs import Run
from .answers import TrainedExperiment
from .subgroups import subgroup_scores
from .transfer import Truth, answer_table, answers_of_files, reference_of

log = logging.getLogger("ich")


def evaluate_table(
    trained: TrainedExperiment,
    table: Path,
    root: Path | None,
    out: Path,
    jobs: int = 1,
    against: Sequence[str] = (),
) -> dict[str, Any]:
    """Write predictions.csv and scores.json to `out`; gives the scores. Nothing is written before the end.
    Scores by subgroup are of images whose kind is known.

    table: as `prepare_data.py --dataset table` reads it, or CQ500's reads.csv; root: the folder of its
    images, by default its own; against: members, or files, see `reference_of`.
    """
    files = answers_of_files(against)
    with TemporaryDirectory(prefix="ich_evaluate_") as temporary:
        prepared = prepare_table(trained.runs[0], table, root or table.parent, Path(temporary), jobs)
        truth = known_truth(prepared, table)
        answers = trained.predict(prepared, folder=Path(temporary) / "outputs")
        references = [reference_of(one, answers, files) for one in against]
        answer = answers.blend
        answered = truth.only(answer)
        scores = answered.scores(answer) | {
            "baseline": {
                "images": answered.slices and answered.slices.baseline,
                "studies": answered.studies and answered.studies.baseline,
            },
            "subgroups": subgroup_scores(prepared, answered, answer),
            "comparisons": answered.comparisons({trained.name: answer}, references),
            "trained_on_synthetic": trained.synthetic,
        }
    rows = answer_table(answer)
    if truth.studies is None:
        rows = rows[rows["level"] == "slice"]
    write_csv(out / "predictions.csv", rows)
    write_json(out / "scores.json", scores)
    return scores


def prepare_table(run: Run, table: Path, root: Path, folder: Path, jobs: int) -> Prepared:
    """The images of a table below `folder`, or of the studies of CQ500's, with the size, crop and further
    changes that a run knows.

    UserError where they are in other units; images that cannot be read are said.
    """
    geometry = dict(run.made_from["geometry"])
    units = geometry.pop("units")
    if is_reads(table):
        options = Options(dataset="cq500", table=str(table.absolute()), folds=2, **geometry)
    else:
        copy = folder / table.with_suffix(".csv").name
        # nothing is trained on them, and as a test part they need no folds, so a single patient will do
        rows = read_rows(table).rows.assign(split="test")
        write_csv(copy, rows[[*TEXTS, *NUMBERS, *LABELS]])
        options = Options(dataset="table", table=str(copy), **geometry)
    prepare(root, folder / "prepared", options, jobs)
    prepared = Prepared(folder / "prepared")
    if prepared.geometry["units"] != units:
        raise UserError(
            f"{table}: its images are {KINDS[prepared.geometry['units']]}, and {run.name} was trained on "
            f"{KINDS[units]}; {REMEDIES[units]}"
        )
    unread = prepared.slices[prepared.slices["status"] != "ok"]
    for cause, rows in unread.groupby("cause"):
        log.warning("%d images are not answered: %s, such as %s", len(rows), cause, rows["image_id"].iloc[0])
    return prepared


KINDS = {"hu": "HU", "gray": "gray levels"}
REMEDIES = {
    "hu": "fill in window_center and window_width, the window in HU that each picture shows, or give DICOM",
    "gray": "give pictures without a window",
}


def known_truth(prepared: Prepared, table: Path) -> Truth:
    """By study only where the table knows studies of several images, or has labels of studies."""
    usable = prepared.slices[prepared.slices["status"] == "ok"]
    if is_reads(table):
        return Truth.of(prepared)
    if usable[list(LABELS)].isna().all(axis=None):
        raise UserError(f"{table}: no readable image has one of the labels {', '.join(LABELS)}; fill them in")
    truth = Truth.of(prepared)
    several = usable["study_id"].duplicated().any()
    return truth if several else replace(truth, studies=None)


def text_of(scores: dict[str, Any]) -> str:
    """A line for each label, of images where these are labelled, else of studies."""
    unit = "images" if scores["labels"] else "studies"
    scores = scores if scores["labels"] else scores["studies"]
    loss = scores["weighted_log_loss"]
    lines = [f"{scores[unit]:,} {unit} of {scores['patients']:,} patients"]
    if loss is not None:
        lines.append(f"weighted log loss  {loss['value']:.4f}{_bounds(loss['interval'], '.4f')}")
    for label, one in scores["labels"].items():
        if one["auc"] is not None:
            area = f"AUC {one['auc']:.3f}{_bounds(one['interval'], '.3f')}"
            lines.append(f"{label:17}  {area}, {one['positives']:,} positives")
    return "\n".join(lines)


def _bounds(interval: list[float] | None, how: str) -> str:
    return "" if interval is None else f" [{interval[0]:{how}}, {interval[1]:{how}}]"
