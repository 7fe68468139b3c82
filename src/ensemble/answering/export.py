"""Everything a bundle says about its experiment besides weights: operating points and a model card."""

import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ...data.prepared import Prepared
from ...evaluation.metrics import weighted_log_loss
from ...evaluation.operating import POINTS, operating_points
from ...labels import LABELS
from ...settings import Settings
from ...training.runs import experiment_name
from ...training.split import labelled_slices
from .answers import ON_SYNTHETIC, TrainedExperiment
from .bundle import CARD, write_bundle

IMAGES = (
    "oof.parquet of every fold names the images that were trained on and what was said of them while they "
    "were held out; by these names a patient who was trained on is recognised, and answered only by a fold "
    "that held out all there is of them. Weights trained on RSNA or CQ500 data inherit the non-commercial "
    "terms of those data sets."
)


def export_bundle(settings: Settings, experiment: Path | str, path: Path) -> Path:
    """Write an experiment as a bundle. Its operating points need the labels of the data it was trained on."""
    name = experiment_name(experiment)
    trained = TrainedExperiment(settings, name, quiet=True)
    prepared = Prepared(settings.clean)
    labels = labelled_slices(prepared).set_index("image_id")[list(LABELS)].astype(bool)
    held_out = held_out_answers(trained)
    labels = labels.loc[held_out.index]
    points = operating_points(labels, held_out)
    if leak := trained.runs[0].leak:
        points["leak"] = leak
    card = model_card(trained, labels, held_out)
    texts = {POINTS: json.dumps(points, indent=1), CARD: card}
    return write_bundle(trained, texts, path)


def held_out_answers(trained: TrainedExperiment) -> pd.DataFrame:
    """Index image_id, columns LABELS: what the folds said of patients they had not seen, combined."""
    tables = {
        name: pd.concat([run.predictions("oof") for run in trained.folds(name)]) for name in trained.members
    }
    return trained.combine({name: table[list(LABELS)] for name, table in tables.items()})


def model_card(trained: TrainedExperiment, labels: pd.DataFrame, answers: pd.DataFrame) -> str:
    """In words: what it is, what it was trained on, and what it must not be used for."""
    banner = [f"**{ON_SYNTHETIC[0].upper()}{ON_SYNTHETIC[1:]}.**"] if trained.synthetic else []
    banner += [f"**{leak[0].upper()}{leak[1:]}.**"] if (leak := trained.runs[0].leak) else []
    kind = "synthetic" if trained.synthetic else "real"
    combined = "the mean" if trained.blend is None else "blend.json"
    runs = "\n".join(f"* {name}, folds {_numbers(trained, name)}" for name in trained.members)
    paragraphs = [
        *banner,
        f"Six probabilities for every slice of a non-contrast head CT: {', '.join(LABELS)}.",
        "Research software. Not a medical device: it must not be used to diagnose, triage or exclude "
        "bleeding.",
        f"Trained on {kind} images. Held-out weighted log loss {weighted_log_loss(labels, answers):.4f} on "
        f"{len(labels)} slices, combined with weights that were fitted on the same slices, which makes it a "
        "little optimistic.",
        f"Slices are prepared as {_words(trained.runs[0].made_from['geometry'])}. Combined by {combined} of:",
    ]
    text = "\n\n".join(textwrap.fill(paragraph, 100) for paragraph in paragraphs)
    return f"# {trained.name}\n\n{text}\n\n{runs}\n\n{textwrap.fill(IMAGES, 100)}\n"


def _numbers(trained: TrainedExperiment, name: str) -> str:
    return ", ".join(str(run.fold) for run in trained.folds(name))


def _words(geometry: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in geometry.items())
