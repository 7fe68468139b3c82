"""A trained experiment on labelled data it was not trained on: answers, scores, comparisons."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ...data.folds import link_patients
from ...data.prepared import Prepared
from ...data.synthetic_truth import is_synthetic
from ...errors import UserError
from ...evaluation.labelled_scores import Labelled
from ...evaluation.metrics import SCORING_EPS
from ...files import write_csv, write_json
from ...labels import LABELS
from ...settings import Settings
from ...training.runs import experiment_name
from .answers import Answer, Answers, TrainedExperiment

SPREADS = tuple(f"{label}_spread" for label in LABELS)


@dataclass(frozen=True)
class Truth:
    """What is known of the usable images of some data, and of their studies; None where there is nothing."""

    slices: Labelled | None
    studies: Labelled | None
    study_of: pd.Series  # image_id -> study_id, of all usable images in a study with a label

    @classmethod
    def of(cls, prepared: Prepared) -> "Truth":
        """A study's label is its own where the data have it, else the maximum over its images. UserError
        where nothing is labelled.
        """
        usable = prepared.slices[prepared.slices["status"] == "ok"].set_index("image_id")
        images = label_columns(usable)
        group = link_patients(prepared.slices)
        of_study = study_labels(images, usable["study_id"], prepared.studies)
        patients = usable.groupby("study_id")["patient_id"].first().map(group)
        slices = labelled(images, usable["patient_id"].map(group), by_study=False)
        studies = labelled(of_study, patients, by_study=True)
        if slices is None and studies is None:
            raise UserError(
                f"{prepared}: no usable image or study has one of the six labels; prepare labelled data"
            )
        known = set() if studies is None else set(studies.labels.index)
        known |= set() if slices is None else set(usable.loc[slices.labels.index, "study_id"])
        return cls(slices, studies, usable.loc[usable["study_id"].isin(known), "study_id"])

    def only(self, answer: Answer) -> "Truth":
        """Of the images and studies that were answered."""
        return Truth(
            _among(self.slices, answer.slices.index),
            _among(self.studies, answer.studies.index),
            self.study_of,
        )

    def scores(self, answer: Answer) -> dict[str, Any]:
        """images, patients, weighted_log_loss, labels; studies: the same by study, or None."""
        by_study = None
        if self.studies is not None:
            count = int(self.study_of.isin(self.studies.labels.index).sum())
            by_study = {
                "images": count,
                "studies": len(self.studies.labels),
                **self.studies.scores(answer.studies),
            }
        if self.slices is None:
            nothing = dict.fromkeys(("patients", "weighted_log_loss", "labels"))
            return {"images": 0, **nothing, "studies": by_study}
        images = {"images": len(self.slices.labels), **self.slices.scores(answer.slices)}
        return images | {"studies": by_study}

    def difference(self, first: Answer, second: Answer) -> dict[str, Any]:
        """First minus second, by image and by study."""
        return {
            "images": self.slices and self.slices.difference(first.slices, second.slices),
            "studies": self.studies and self.studies.difference(first.studies, second.studies),
        }


def label_columns(table: pd.DataFrame) -> pd.DataFrame:
    """The six labels as float64, NaN where not known."""
    found = {label: table[label].astype("Float64") if label in table else None for label in LABELS}
    return pd.DataFrame(found, table.index).astype("float64")


def study_labels(images: pd.DataFrame, study_of: pd.Series, studies: pd.DataFrame) -> pd.DataFrame:
    """index study_id. A maximum counts where every image of the study is labelled."""
    grouped = images.groupby(study_of)
    maximum = grouped.max().where(images.notna().groupby(study_of).all())
    own = label_columns(studies.set_index("study_id")).reindex(maximum.index)
    return own.combine_first(maximum)[list(LABELS)]


def labelled(labels: pd.DataFrame, patients: pd.Series, by_study: bool) -> Labelled | None:
    known = labels[labels.notna().any(axis=1)]
    return None if known.empty else Labelled(known, patients.loc[known.index], by_study)


def _among(rows: Labelled | None, index: pd.Index) -> Labelled | None:
    if rows is None:
        return None
    return labelled(rows.labels[rows.labels.index.isin(index)], rows.patients, rows.by_study)


def transfer_scores(
    name: str,
    answers: Answers,
    truth: Truth,
    reference: tuple[str, Answer] | None,
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """The content of transfer.json.

    reference: what every member and the blend are compared with; about: of the data.
    """
    asked = {**answers.members, answers.combined: answers.blend}
    answered = truth.only(answers.blend)
    comparisons = []
    if reference is not None:
        second, compared = reference[0], answered.only(reference[1])
        comparisons = [
            {"first": member, "second": second, **compared.difference(answer, reference[1])}
            for member, answer in asked.items()
            if member != second
        ]
    return {
        "experiment": name,
        "data": dict(about),
        "eps": SCORING_EPS,
        "left_out": len(answers.left_out),
        "baseline": {
            "images": answered.slices and answered.slices.baseline,
            "studies": answered.studies and answered.studies.baseline,
        },
        "members": {member: answered.scores(answer) for member, answer in asked.items()},
        "comparisons": comparisons,
    }


def score_transfer(
    settings: Settings,
    experiment: Path | str,
    against: str | None,
    out: Path,
    device: str,
    jobs: int,
    quiet: bool,
) -> dict[str, Any]:
    """Answer every labelled image of CLEAN_DATA_DIR, score the answers, and write predictions.csv and
    transfer.json to `out`. Killed and called again it goes on where it was.
    """
    prepared = Prepared(settings.clean)
    truth = Truth.of(prepared)
    images, place = list(truth.study_of.index), out / "outputs"

    def ask(name: str) -> Answers:
        trained = TrainedExperiment(settings, name, device, jobs, quiet=quiet)
        return trained.predict(prepared, images, place)

    name = experiment_name(experiment)
    answers, reference = ask(name), None
    if against is not None and against in answers.members:
        reference = against, answers.members[against]
    elif against is not None:
        other = other_experiment(against, list(answers.members))
        reference = other, ask(other).blend
    about = data_about(prepared, is_synthetic(settings.raw))
    scores = transfer_scores(name, answers, truth, reference, about)
    write_csv(out / "predictions.csv", answer_table(answers.blend))
    write_json(out / "transfer.json", scores)
    shutil.rmtree(place)
    return scores


def other_experiment(against: str, members: Sequence[str]) -> str:
    """The name of an experiment given as a folder; a run that is no member is a UserError."""
    if "/stage" in against.removeprefix("experiments/"):
        raise UserError(
            f"--against {against}: is no member of this experiment; these are {', '.join(members)}. Another "
            "experiment is named by its folder"
        )
    return experiment_name(against)


def answer_table(answer: Answer) -> pd.DataFrame:
    """predictions.csv: level (study or slice), id, the six labels, their spreads over folds."""
    levels = {
        "study": (answer.studies, answer.study_spread),
        "slice": (answer.slices, answer.slice_spread),
    }
    return pd.concat([_rows(level, *tables) for level, tables in levels.items()])


def _rows(level: str, mean: pd.DataFrame, spread: pd.DataFrame) -> pd.DataFrame:
    table = mean[list(LABELS)].join(spread[list(LABELS)].set_axis(list(SPREADS), axis=1))
    return table.rename_axis("id").reset_index().assign(level=level)[["level", "id", *LABELS, *SPREADS]]


def data_about(prepared: Prepared, synthetic: bool) -> dict[str, Any]:
    """What a reader should know of the data that were scored."""
    return {
        "synthetic": synthetic,
        "dataset": prepared.settings.get("dataset"),
        "size": prepared.size,
        "units": prepared.geometry["units"],
        "fingerprint": prepared.fingerprint,
    }
