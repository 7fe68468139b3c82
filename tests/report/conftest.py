"""A made-up experiment with the statistics of a small real one, for which nothing is trained; a browser."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from src.data.folds import link_patients
from src.data.pack import FOUND, Entry, write_pack
from src.data.prepared import FORMAT, Prepared
from src.ensemble.ensemble_config import EnsembleConfig
from src.ensemble.experiment import Experiment, score_experiment
from src.ensemble.gather import Gathered
from src.ensemble.scoring import Part
from src.evaluation.bootstrap import bootstrap_weighted_log_loss
from src.evaluation.metrics import prevalence
from src.files import file_sha256, write_csv, write_json, write_parquet
from src.labels import LABELS, SUBTYPES
from src.settings import Settings
from src.training.runs import Run
from tests.training.prepared import SIZE, pixel_values, sign

PREVALENCE = {
    "epidural": -3.4,
    "intraparenchymal": -3,
    "intraventricular": -3.4,
    "subarachnoid": -3,
    "subdural": -2.6,
}
RUNS = {
    "stage1/resnet": 1.1,
    "stage1/mobilenet": 1.2,
    "stage2/lstm": 0.7,
    "stage2/transformer": 0.75,
}  # noise
MANIFEST = {
    "format": FORMAT,
    "settings": {"size": 256},
    "quarantined": {"truncated": 1, "unreadable": 1},
    "kept_defects": {"padded": 160, "zero step": 0},
}


@pytest.fixture(scope="session")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """The plain one, for tests that only read it."""
    return build_experiment(tmp_path_factory.mktemp("experiment"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium of the system; for modules that import tests.report.browsing, which skips without."""
    from tests.report.browsing import CHROMIUM, playwright

    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def make_experiment(tmp_path: Path) -> Callable[..., Experiment]:
    """Factory: `build_experiment` in the test's own folder."""
    return lambda **options: build_experiment(tmp_path, **options)


def build_experiment(
    folder: Path,
    *,
    runs: dict[str, float] | None = None,
    studies: int = 40,
    slices_a_study: int = 12,
    folds: int = 3,
    test: bool = True,
    absent: tuple[str, ...] = (),
    replicates: int = 100,
    volumes: bool = False,
    **ensemble: Any,
) -> Experiment:
    """runs: name -> noise of its logits.  test: whether the test labels are at hand.  absent: labels without
    a positive slice.  volumes: with prepared slices in HU.  ensemble: keys of ensemble.json."""
    rng = np.random.default_rng(0)
    table, logits = _slices(rng, studies, slices_a_study, absent)
    usable = table["status"] == "ok"
    keyed, logits = table[usable].set_index("image_id"), logits[usable.to_numpy()]
    train = (keyed["split"] == "train").to_numpy()
    labels = keyed.loc[train, list(LABELS)].astype("int8")
    fold = pd.Series(pd.factorize(keyed["patient_id"])[0] % folds, keyed.index)
    settings = Settings(
        folder, *(folder / name for name in ("raw", "clean", "models", "checkpoints", "logs", "out"))
    )
    write_json(settings.clean / "manifest.json", MANIFEST)
    if volumes:
        table = _write_volumes(settings.clean, table)
    members, run_folders = {}, []
    for name, noise in (RUNS if runs is None else runs).items():
        noisy = logits + rng.normal(0, noise, logits.shape)
        p = pd.DataFrame(1 / (1 + np.exp(-1.4 * noisy)), keyed.index, list(LABELS))
        members[f"fake/{name}"] = p[train], p[~train]
        for k in range(folds):
            run = Run(f"fake/{name}", k, settings)
            own = p[train & (fold == k).to_numpy()]
            run.save_predictions("oof", own)
            run.save_predictions("test", p[~train])
            files = {"oof.parquet": file_sha256(run.folder / "oof.parquet")}
            write_json(run.folder / "metrics.json", _metrics(rng, labels, own, noise) | {"files": files})
            run_folders.append(run)
    groups = table.set_index("image_id")["patient_id"].map(link_patients(table))
    hidden = Part(keyed.loc[~train, list(LABELS)].astype("int8"), groups, replicates)
    gathered = Gathered(
        Prepared(settings.clean), table, groups, run_folders, members, {},
        held_out=Part(labels, groups, replicates), hidden=hidden if test else None, synthetic=test,
    )  # fmt: skip
    config = EnsembleConfig(replicates=replicates, **ensemble)
    return score_experiment("fake", config, gathered)


def _slices(
    rng: np.random.Generator, studies: int, slices_a_study: int, absent: tuple[str, ...]
) -> tuple[pd.DataFrame, np.ndarray]:
    """slices.parquet with the columns the report reads, and (n, 6) logits the labels were drawn from."""
    count = studies * slices_a_study
    study = np.repeat(np.arange(studies), slices_a_study)
    height = np.tile(np.linspace(-1, 1, slices_a_study), studies)
    bleeding = rng.normal(0, 2.5, (studies, len(SUBTYPES)))[study] - 3 * height[:, None] ** 2
    logits = bleeding + np.array([PREVALENCE[label] for label in SUBTYPES])
    positive = rng.random((count, len(SUBTYPES))) < 1 / (1 + np.exp(-2 * logits))
    positive[:, [SUBTYPES.index(label) for label in absent]] = False
    table = pd.DataFrame(positive.astype("int8"), columns=list(SUBTYPES))
    table["any"] = table.max(axis=1)
    table.insert(0, "image_id", [f"ID_{i:09x}" for i in range(count)])
    table["study_id"] = [f"ST_{i:04x}" for i in study]
    table["patient_id"] = [f"PT_{i // 2 * 2 if i % 8 == 1 else i:04x}" for i in study]
    table["series_id"] = [f"SE_{i:04x}" for i in study]
    table["split"] = np.where(study < 0.8 * studies, "train", "test")
    table["order"] = np.tile(np.arange(slices_a_study), studies)
    table["padded"] = (study % 3 == 0).astype(bool)
    table["tilt_deg"] = np.where(study % 10 == 0, 0.0, 15.0)
    table["status"], table["cause"] = "ok", pd.Series([None] * count, dtype="str")
    bad = [3, count - 2]
    table.loc[bad, "status"] = "quarantined"
    table.loc[bad, "cause"] = ["truncated: 153710 of 524288 bytes of pixels", "unreadable: <not DICOM>"]
    return table, np.column_stack([logits, logits.max(axis=1)])


def _write_volumes(clean: Path, table: pd.DataFrame) -> pd.DataFrame:
    """A prepared folder of such slices; the table with what a page of a study reads besides."""
    table = table.assign(
        volume="all.pack", volume_index=np.arange(len(table)), units="hu", position_mm=5.0 * table["order"],
        pixel_spacing_mm=2.0, square_side=float(SIZE),
    )  # fmt: skip
    entries = [
        Entry(row.image_id, row.study_id, pixel_values(at, row.order, row.any), dict.fromkeys(FOUND))
        for at, row in enumerate(table.itertuples())
    ]
    write_pack(clean / "volumes" / "all.pack", entries, SIZE, {})
    write_parquet(clean / "slices.parquet", table)
    write_csv(clean / "folds.csv", pd.DataFrame({"patient_id": table["patient_id"].unique(), "fold": 0}))
    sign(clean)
    return table


def _metrics(rng: np.random.Generator, labels: pd.DataFrame, oof: pd.DataFrame, noise: float) -> dict:
    own = labels.loc[oof.index]
    score = bootstrap_weighted_log_loss(own, oof, pd.Series(own.index, own.index), replicates=1).estimate
    epochs = np.arange(1, 9)
    train = 0.08 * noise + 0.25 * np.exp(-epochs / 3) + rng.normal(0, 0.004, len(epochs))
    valid = score + 0.22 * np.exp(-epochs / 2.5) + rng.normal(0, 0.006, len(epochs))
    return {
        "score": score,
        "baseline": float(prevalence(labels).mean()),
        "seconds": 61.5,
        "device": "cpu",
        "seed": 0,
        "made_from": {"data": "0123456789abcdef"},
        "git": "0123456789abcdef0123456789abcdef01234567",
        "python": "3.11.7",
        "torch": "2.13.0",
        "opencv": "4.14.0",
        "threads": 1,
        "history": [
            {"epoch": int(e), "step": int(e) * 10, "lr": 1e-3, "train_loss": float(t), "valid_loss": float(v)}
            for e, t, v in zip(epochs, train, valid, strict=True)
        ],
    }
