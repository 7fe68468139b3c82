"""A tiny experiment, trained once: every kind of member, two folds, a blend; and data it never saw."""

import logging

import pandas as pd
import pytest
import torch

from src.config import parse_config
from src.data.prepared import Prepared
from src.evaluation.blend import fit_blend
from src.files import write_json
from src.labels import LABELS
from src.settings import load_settings
from src.training.kinds import load_kind
from src.training.runs import Run
from src.training.split import labelled_slices, unlabelled_part
from tests.ensemble.tiny_experiment import CONFIGS, FOLDS
from tests.training.prepared import rewrite, write_clean, write_settings

CPU, LOG = torch.device("cpu"), logging.getLogger("ich.test")


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Two folds of every kind of member and their test predictions, on 6 training and 2 test studies."""
    settings = load_settings(write_settings(tmp_path_factory.mktemp("trained")))
    write_clean(settings.clean)
    prepared = Prepared(settings.clean)
    for name, (kind_name, values) in CONFIGS.items():
        kind = load_kind(kind_name)
        for fold in FOLDS:
            run = Run(name, fold, settings)
            kind.train(run, prepared, parse_config(kind.config, values, name), CPU, LOG, False)
        for fold in FOLDS:
            kind.predict(Run(name, fold, settings), unlabelled_part(prepared), CPU, LOG)
    oofs = {n: pd.concat([Run(n, k, settings).predictions("oof") for k in FOLDS]) for n in CONFIGS}
    labels = labelled_slices(prepared).set_index("image_id")[list(LABELS)].astype("int8")
    groups = prepared.slices.set_index("image_id")["patient_id"]
    blend = fit_blend(labels, oofs, groups, folds=3, steps=("raise_any",))
    write_json(settings.submissions / "tiny/blend.json", blend.to_dict())
    return settings, blend


@pytest.fixture
def elsewhere(trained, tmp_path):
    """The trained runs alone, without the data they were trained on; and 12 studies under other names."""
    settings, _ = trained
    away = load_settings(
        write_settings(tmp_path, MODEL_DIR=str(settings.models), SUBMISSION_DIR=str(settings.submissions))
    )
    write_clean(away.clean, studies=12)

    def rename(slices):
        names = {key: "other/" + slices[key].str.replace("0", "o") for key in ("image_id", "study_id")}
        return slices.assign(patient_id="other" + slices["patient_id"], **names)

    rewrite(away.clean, "slices.parquet", rename)
    folds = lambda table: table.assign(patient_id="other" + table["patient_id"])  # noqa: E731
    rewrite(away.clean, "folds.csv", folds)
    return away
