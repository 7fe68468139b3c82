r"""How hard a synthetic data set is: score against the number of training studies, without and with context.

    python -m src.audit.difficulty experiments/realistic/stage1/efficientnet.json \
        --context experiments/realistic/stage2/lstm.json --settings experiments/realistic/SETTINGS.json \
        --studies 60 120 240 --out results/difficulty_efficientnet.json

For every number of studies the scripts of the steps run in difficulty/<network>_<studies>/ beside
CLEAN_DATA_DIR, on a part of RAW_DATA_DIR: nested choices of training patients, none of them in the test part,
and the whole test part; --also adds all images of other synthetic sets to it, those of another --family as a
part of their own. Test slices are scored with the hidden labels by the mean of the folds' networks. `ratio`
is the weighted log loss over that of the constant prevalence in the largest training set: 1 has learned
nothing. Every size has the configuration's epochs. What is complete is skipped. Intervals: 95 %, bootstrap of
patients.
"""

import hashlib
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pandas as pd

from ..command_line import command_line, positive, run, start_logging
from ..data.contest_csv import read_labels
from ..data.dicom import scan_headers
from ..data.phantom import SAMPLE_CSV, TRAIN_CSV, long_labels
from ..data.synthetic_truth import MANIFEST, TEST_LABELS_CSV
from ..errors import UserError
from ..evaluation.bootstrap import Interval, bootstrap_auc, bootstrap_weighted_log_loss_ratio
from ..evaluation.metrics import constant_predictions, label_log_losses, prevalence
from ..files import read_json, write_csv, write_json
from ..labels import LABELS
from ..settings import Settings, load_settings
from ..training.runs import run_name, runs_of

ROOT = Path(__file__).resolve().parents[2]
PREPARATION = ("--size", "256", "--crop")


def read_set(raw: Path) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """A synthetic set: headers (index image_id; path, patient_id, study_id, split) of its readable files, and
    the labels of its `train` and `test` part.
    """
    names = {"train": TRAIN_CSV, "test": TEST_LABELS_CSV}
    for name in names.values():
        if not (raw / name).is_file():
            raise UserError(f"{raw / name}: missing; generate the data with python -m src.data.phantom")
    files = {path.stem: path for split in names for path in sorted((raw / f"stage_2_{split}").glob("*.dcm"))}
    headers = scan_headers(list(files.values()))[["path", "patient_id", "study_id"]]
    headers.index = pd.Index(list(files), name="image_id")
    headers["split"] = [path.parent.name.removeprefix("stage_2_") for path in files.values()]
    return headers, {split: read_labels(raw / name).labels for split, name in names.items()}


def choose_patients(headers: pd.DataFrame, studies: int) -> pd.Index:
    """Training patients without test images, with at least so many studies together; the choices for all
    numbers are nested.
    """
    train = headers[headers["split"] == "train"]
    counts = train.groupby("patient_id")["study_id"].nunique()
    counts = counts.drop(set(headers.loc[headers["split"] == "test", "patient_id"]) & set(counts.index))
    counts = counts[sorted(counts.index, key=lambda name: hashlib.sha256(name.encode()).digest())].cumsum()
    if counts.empty or counts.iloc[-1] < studies:
        have = 0 if counts.empty else counts.iloc[-1]
        raise UserError(f"--studies {studies}: {have} training studies are there; ask for fewer")
    return counts.index[: int((counts < studies).sum()) + 1]


def link_set(folder: Path, parts: dict[str, pd.DataFrame], labels: pd.DataFrame) -> None:
    """Make `folder` a RAW_DATA_DIR of links to the images in `parts` (split -> index image_id, path)."""
    for split, images in parts.items():
        (folder / f"stage_2_{split}").mkdir(parents=True, exist_ok=True)
        for image_id, path in images["path"].items():
            link = folder / f"stage_2_{split}" / f"{image_id}.dcm"
            if not link.is_symlink():
                link.symlink_to(Path(path).resolve())
    write_csv(folder / TRAIN_CSV, long_labels(labels.loc[parts["train"].index].reset_index()))
    test = pd.DataFrame(0, parts["test"].index, list(LABELS)).reset_index()
    write_csv(folder / SAMPLE_CSV, long_labels(test).assign(Label=0.5))


def train_on(studies: int, arguments: Namespace, raw: Path) -> Settings:
    """Run steps 1 to 4 on `raw` and give the folders."""
    file = raw.parent / "SETTINGS.json"
    names = ("RAW_DATA_DIR", "CLEAN_DATA_DIR", "MODEL_DIR", "CHECKPOINT_DIR", "LOGS_DIR", "SUBMISSION_DIR")
    folders = ("raw", "clean", "models", "checkpoints", "logs", "submissions")
    write_json(file, dict(zip(names, folders, strict=True)))
    common = ["--settings", str(file), "--jobs", str(arguments.jobs), *["--quiet"] * arguments.quiet]

    def step(script: str, *flags: str) -> None:
        command = [sys.executable, str(ROOT / script), *flags, *common]
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            raise UserError(f"{script} failed on {studies} studies; the reason stands above")

    step("prepare_data.py", *PREPARATION, "--folds", str(arguments.folds))
    network = [flag for override in arguments.overrides for flag in ("--set", override)]
    step("train_stage1.py", arguments.config, *network)
    experiment = str(Path(arguments.config).parent.parent)
    if arguments.context:
        step("predict.py", experiment)  # a stacker may want the networks' test outputs to align them
        members = f'members=["{run_name(arguments.config)}"]'
        step("train_stage2.py", arguments.context, "--set", members)
    step("predict.py", experiment)
    return load_settings(file)


def score(
    settings: Settings, experiment: str, labels: pd.DataFrame, patients: pd.Series, base: pd.Series
) -> list[dict[str, Any]]:
    """One row a run: `labels` (index image_id) against the mean of its folds' test predictions.

    base: the prevalence that the ratios refer to.
    """
    rows, losses = [], {}
    for name in dict.fromkeys(one.name for one in runs_of(settings, experiment) if one.complete):
        folds = [one for one in runs_of(settings, experiment) if one.name == name]
        table = (sum(one.predictions("test") for one in folds) / len(folds)).loc[labels.index]
        constant = constant_predictions(base, labels.index)
        ratio = bootstrap_weighted_log_loss_ratio(labels, table, constant, patients)
        areas = bootstrap_auc(labels, table, patients, replicates=200)
        own, least = label_log_losses(labels, table), label_log_losses(labels, constant)
        losses[name] = table
        rows.append(
            {
                "run": name,
                "ratio": list(ratio),
                "labels": {
                    label: {
                        "positives": int(labels[label].sum()),
                        "ratio": float(own[label] / least[label]),
                        "auc": [None if value != value else float(value) for value in areas.loc[label]],
                    }
                    for label in LABELS
                },
            }
        )
    if len(losses) == 2:
        first, second = losses.values()  # stage 1 comes before stage 2
        gain: Interval = bootstrap_weighted_log_loss_ratio(labels, second, first, patients)
        rows[1]["of_stage1"] = list(gain)
    return rows


def main() -> None:
    arguments = parse_arguments()
    start_logging(arguments.quiet)
    settings = load_settings(arguments.settings)
    headers, labels = read_set(settings.raw)
    test, truth = headers[headers["split"] == "test"].assign(part="held out"), labels["test"]
    asked = read_json(settings.raw / MANIFEST)["asked"]
    also = [read_json(raw / MANIFEST)["asked"] for raw in arguments.also]
    for raw, other in zip(arguments.also, also, strict=True):
        others, other_labels = read_set(raw)
        if len(both := others.index.intersection(headers.index.union(test.index))):
            raise UserError(f"{raw}: {both[0]} is in another set too; give one of them another --seed")
        part = "held out" if other["family"] == asked["family"] else f"family {other['family']}"
        test, truth = pd.concat([test, others.assign(part=part)]), pd.concat([truth, *other_labels.values()])
    experiment = run_name(arguments.config).split("/")[0]
    rows, base = [], None
    for studies in sorted(arguments.studies, reverse=True):
        patients = choose_patients(headers, studies)
        train = headers[headers["patient_id"].isin(patients) & (headers["split"] == "train")]
        folder = settings.clean.parent / "difficulty" / f"{Path(arguments.config).stem}_{studies}"
        link_set(folder / "raw", {"train": train, "test": test}, labels["train"])
        trained = train_on(studies, arguments, folder / "raw")
        base = prevalence(labels["train"].loc[train.index]) if base is None else base
        usable = runs_of(trained, experiment)[0].predictions("test").index
        for part, images in test.groupby("part"):
            ids = images.index.intersection(usable)
            found = score(trained, experiment, truth.loc[ids], images.loc[ids, "patient_id"], base)
            counts = {"studies": int(train["study_id"].nunique()), "slices": len(train), "part": part}
            rows += [counts | {"scored": len(ids)} | row for row in found]
    result = {"data": asked, "also": also, "folds": arguments.folds}
    write_json(arguments.out, result | {"rows": rows})
    print(f"{arguments.out}: written; python -m src.report.generated makes the table")


def parse_arguments() -> Namespace:
    parser = command_line(__doc__)
    add = parser.add_argument
    add("config", metavar="CONFIG.json", help="a stage-1 configuration below experiments/")
    add("--context", metavar="CONFIG.json", help="a stage-2 configuration; its only member is the network")
    add("--studies", type=positive, nargs="+", required=True, metavar="N", help="sizes of the training set")
    add("--folds", type=positive, default=2, metavar="K", help="each network sees (K - 1) / K (default: 2)")
    add("--also", type=Path, nargs="*", default=[], metavar="RAW", help="other synthetic sets to score on")
    text = "replace a key of the stage-1 configuration; repeatable"
    add("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help=text)
    add("--out", type=Path, required=True, metavar="FILE.json", help="such as results/difficulty_NAME.json")
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
