"""A trained experiment on labelled data it was not trained on: answers, scores, comparisons."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ...data.folds import link_patients
from ...data.prepared import Prepared
from ...data.readers.csv_file import read_texts
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

    def comparisons(
        self, asked: Mapping[str, Answer], references: Sequence[tuple[str, Answer]]
    ) -> list[dict[str, Any]]:
        """Each answer minus each reference, on what both answered. UserError where that is nothing."""
        found = []
        for second, reference in references:
            both = self.only(reference)
            if both.slices is None and both.studies is None:
                raise UserError(f"--against {second}: answers none of these images; give answers of the same")
            found += [
                {"first": first, "second": second, **both.difference(answer, reference)}
                for first, answer in asked.items()
                if first != second
            ]
        return found


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
    references: Sequence[tuple[str, Answer]],
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """The content of transfer.json.

    references: what every member and the blend are compared with; about: of the data.
    """
    asked = {**answers.members, answers.combined: answers.blend}
    answered = truth.only(answers.blend)
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
        "comparisons": answered.comparisons(asked, references),
    }


def score_transfer(
    settings: Settings,
    experiment: Path | str,
    against: Sequence[str],
    out: Path,
    device: str,
    jobs: int,
    quiet: bool,
) -> dict[str, Any]:
    """Answer every labelled image of CLEAN_DATA_DIR, score the answers, and write predictions.csv and
    transfer.json to `out`. Killed and called again it goes on where it was.
    """
    files = answers_of_files(against)
    prepared = Prepared(settings.clean)
    truth = Truth.of(prepared)
    images, place = list(truth.study_of.index), out / "outputs"

    def ask(name: str) -> Answers:
        trained = TrainedExperiment(settings, name, device, jobs, quiet=quiet)
        return trained.predict(prepared, images, place)

    name = experiment_name(experiment)
    answers = ask(name)
    references = [reference_of(one, answers, files, ask) for one in against]
    about = data_about(prepared, is_synthetic(settings.raw))
    scores = transfer_scores(name, answers, truth, references, about)
    write_csv(out / "predictions.csv", answer_table(answers.blend))
    write_json(out / "transfer.json", scores)
    shutil.rmtree(place)
    return scores


def answers_of_files(against: Sequence[str]) -> dict[str, Answer]:
    """Those of predictions.csv, read before anything that takes its time."""
    return {one: read_answer(Path(one)) for one in against if one.endswith(".csv")}


def reference_of(
    against: str,
    answers: Answers,
    files: Mapping[str, Answer],
    ask: Callable[[str], Answers] | None = None,
) -> tuple[str, Answer]:
    """Name and answer of what a person compares with: a member; predictions.csv of the same images, named by
    its folder; with `ask` another experiment. Anything else is a UserError.
    """
    if against in files:
        return Path(against).absolute().parent.name, files[against]
    if against in answers.members:
        return against, answers.members[against]
    if ask is None:
        names = ", ".join(answers.members)
        raise UserError(f"--against {against}: expected a predictions.csv, or a member; these are {names}")
    other = other_experiment(against, list(answers.members))
    return other, ask(other).blend


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


def read_answer(file: Path) -> Answer:
    """What a predictions.csv of predict.py says. Raises UserError."""
    remedy = "give a predictions.csv that predict.py wrote"
    texts = read_texts(file, remedy)
    if missing := [name for name in ("level", "id", *LABELS) if name not in texts]:
        raise UserError(f"{file}: the column {missing[0]} is missing; {remedy}")
    numbers = texts.reindex(columns=[*LABELS, *SPREADS]).apply(pd.to_numeric, errors="coerce")
    if not numbers[list(LABELS)].stack(future_stack=True).between(0, 1).all():
        raise UserError(f"{file}: a probability is not a number from 0 to 1; {remedy}")
    parts = []
    for level in ("slice", "study"):
        rows = numbers.set_index(texts["id"])[texts["level"].to_numpy() == level]
        parts += [rows[list(LABELS)], rows[list(SPREADS)].set_axis(list(LABELS), axis=1)]
    return Answer(*parts)


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
