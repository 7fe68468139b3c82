"""What the report says of the studies on which the blend does worst."""

from typing import Any

from ...ensemble.experiment import Experiment
from ...evaluation.hardest import HardStudy
from ...labels import SUBTYPES
from .outcome import Outcome

KINDS = {  # of Hardest, in the order of the page
    "missed": "bleeding, and the lowest probability of it",
    "alarms": "no bleeding, and the highest probability of it",
    "loss": "highest loss",
}


def hard_rows(experiment: Experiment, outcome: Outcome) -> dict[str, list[dict[str, Any]]]:
    """What makes a study hard -> its rows: the study, its labels in words, the subtype thought likeliest, the
    place of its worst slice, counted from below as on its page, and the address of that slice, None where
    there is no page.
    """
    columns = ["image_id", "study_id", "order"]
    slices = experiment.slices.set_index("image_id", drop=False).loc[experiment.labels.index, columns]
    place = slices.sort_values(["study_id", "order"]).groupby("study_id").cumcount() + 1

    def row(study: HardStudy) -> dict[str, Any]:
        number, page = int(place.loc[study.worst.image_id]), outcome.pages.get(study.study_id)
        return {
            "study": study,
            "labelled": _labelled(study),
            "other": max(SUBTYPES, key=study.highest.__getitem__),
            "number": number,
            "address": page and f"{page}#slice={number}",
        }

    return {words: [row(study) for study in getattr(outcome.hardest, kind)] for kind, words in KINDS.items()}


def _labelled(study: HardStudy) -> str:
    """`subdural 5, any 6 of 29`"""
    named = [f"{label} {count}" for label, count in study.positives.items() if count]
    return f"{', '.join(named) or 'none'} of {study.slices}"
