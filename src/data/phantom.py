"""Write a synthetic head CT data set in the layout of the RSNA 2019 contest.

    python -m src.data.phantom --out data/demo/raw --studies 120 --seed 1

Writes `stage_2_train/`, `stage_2_test/` (DICOM), `stage_2_train.csv`, `stage_2_sample_submission.csv`,
`demo_test_labels.csv` (no step reads it but the final score table) and `phantom.json` (what was asked for),
and masks, volumes and lesion sites into `--truth` (default: `truth` beside the output folder).

The images are drawn, not measured: no score on them says anything about patients. The `demo` preset is
**enriched**: half of the studies bleed, every subtype on 4-9 % of slices, epidural too (12 % of studies,
1.6 % in the contest), and most bleeds are conspicuous. `realistic` has the contest's statistics
(`synthetic.contest`) and bleeds down to barely visible. `--epidural` sets the share of studies with an
epidural bleed, which is too rare in a small realistic set to learn or score; `--studies-per-patient` gives
every training patient that many; `--family` draws from another population and other scanners
(`synthetic.family`), for a hidden set that measures robustness. `phantom.json` records all of it.

A label is true when the slice's mask holds at least 0.2 ml of that blood (`realistic`: 0.1 ml); a pixel
belongs to the mask where at least 40 % of its column through the slice is blood and at most 30 % is bone.

Same arguments, same bytes, whatever `--jobs`. An interrupted run is continued by the same command; a finished
one is left alone. Faults of the real set occur at stated rates (`synthetic.plan.Preset`).
"""

import json
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from tqdm import tqdm

from ..command_line import argument_parser
from ..errors import UserError
from ..files import atomic_path, file_sha256, read_json, write_csv, write_json, write_parquet
from ..labels import LABELS, SUBTYPES
from ..phantom.family import find_family
from ..phantom.plan import (
    PRESETS,
    Preset,
    StudyPlan,
    epidural_share,
    make_plan,
    with_epidural,
    with_studies_per_patient,
)
from ..phantom.study import paint_study
from .synthetic_truth import MANIFEST, RECIPE, TEST_LABELS_CSV

TRAIN_CSV, SAMPLE_CSV = "stage_2_train.csv", "stage_2_sample_submission.csv"


def generate(
    out: Path | str,
    studies: int,
    seed: int,
    preset: str = "demo",
    size: int = 512,
    slices: int | None = None,
    truth: Path | str | None = None,
    jobs: int = 1,
    progress: bool = False,
    family: str | int = "standard",
    epidural: float | None = None,
    studies_per_patient: int | None = None,
) -> bool:
    """Write the data set; False when it was there already.

    `epidural`: share of studies with such a bleed, `studies_per_patient`: of every training patient; default
    the preset's.

    Raises UserError when a folder holds something else or the numbers are impossible.
    """
    out = Path(out)
    truth = out.parent / "truth" if truth is None else Path(truth)
    statistics = prepare_preset(preset, family, epidural, studies_per_patient)
    if jobs == 0:
        raise UserError("--jobs 0: give the number of processes, or -1 for all cores")
    asked = {
        "recipe": RECIPE,
        "preset": preset,
        "family": "standard" if str(family) == "0" else str(family),
        "epidural": round(epidural_share(statistics), 4),
        "studies": studies,
        "seed": seed,
        "size": size,
        "slices": slices,
    }
    if studies_per_patient is not None:
        asked["studies_per_patient"] = studies_per_patient
    plan = make_plan(statistics, studies, seed, size, slices)
    folders = (out, truth)
    finished = [_finished(folder, asked) for folder in folders]
    if all(finished) and _intact(out):
        return False
    for folder in folders:
        write_json(folder / MANIFEST, {"asked": asked, "finished": False})
    work = (joblib.delayed(write_study)(study, statistics, out, truth) for study in plan)
    results = joblib.Parallel(n_jobs=jobs, return_as="generator")(work)
    tables = list(tqdm(results, total=len(plan), desc="studies", unit="study", disable=not progress))
    table = pd.concat([t["slices"] for t in tables], ignore_index=True)
    write_parquet(truth / "slices.parquet", table)
    write_parquet(truth / "sites.parquet", pd.concat([t["sites"] for t in tables], ignore_index=True))
    _write_labels(out, table, statistics, seed)
    names = (TRAIN_CSV, SAMPLE_CSV, TEST_LABELS_CSV)
    checks = {
        "remark": _remark(asked),
        "images": len(table),
        "sha256": {name: file_sha256(out / name) for name in names},
    }
    write_json(truth / MANIFEST, {"asked": asked, "finished": True})
    write_json(out / MANIFEST, {"asked": asked, "finished": True, **checks})
    return True


def prepare_preset(
    name: str,
    family: str | int = "standard",
    epidural: float | None = None,
    studies_per_patient: int | None = None,
) -> Preset:
    """A preset by name, shifted by a family, with another share of epidural studies and another number of
    studies a training patient where one is given.
    """
    if name not in PRESETS:
        raise UserError(f"--preset {name}: unknown; known presets: {', '.join(sorted(PRESETS))}")
    preset = find_family(family).adapt(PRESETS[name])
    if studies_per_patient is not None:
        preset = with_studies_per_patient(preset, studies_per_patient)
    return preset if epidural is None else with_epidural(preset, epidural)


def _remark(asked: dict) -> str:
    """What whoever reads a score on this set has to know."""
    contest = epidural_share(PRESETS["realistic"])
    return (
        f"synthetic, preset {asked['preset']}, family {asked['family']}; epidural bleeds in "
        f"{asked['epidural']:.1%} of the studies (RSNA: {contest:.1%})"
    )


def _finished(folder: Path, asked: dict) -> bool:
    """True when the folder holds this data set, complete. UserError when it holds something else."""
    manifest = folder / MANIFEST
    if manifest.exists():
        found = read_json(manifest)
        if found.get("asked") != asked:
            raise UserError(
                f"{folder}: holds another synthetic data set ({json.dumps(found.get('asked'))}); "
                f"delete the folder {folder} or choose another one"
            )
        return bool(found.get("finished"))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            f"{folder}: is not empty and was not written by this command; delete it or choose another one"
        )
    return False


def _intact(out: Path) -> bool:
    """True when the tables and the number of images are those of the manifest."""
    manifest = read_json(out / MANIFEST)
    images = sum(1 for part in ("stage_2_train", "stage_2_test") for _ in (out / part).glob("*.dcm"))
    tables = all(
        (out / name).exists() and file_sha256(out / name) == sha for name, sha in manifest["sha256"].items()
    )
    return tables and images == manifest["images"]


def write_study(plan: StudyPlan, preset: Preset, out: Path, truth: Path) -> dict[str, pd.DataFrame]:
    """Paint and write one study, its truth last; a study whose truth and images exist is only read."""
    folder, record = out / f"stage_2_{plan.split}", truth / "masks" / f"{plan.study_id}.npz"
    if record.exists():
        with np.load(record) as saved:
            tables = {name: _from_text(saved[name]) for name in ("slices", "sites")}
        if all((folder / f"{image_id}.dcm").exists() for image_id in tables["slices"]["image_id"]):
            return tables
    folder.mkdir(parents=True, exist_ok=True)
    painted = paint_study(plan, preset)
    for image_id, content in zip(painted.slices["image_id"], painted.files, strict=True):
        temporary = folder / f".{image_id}.partial"
        temporary.write_bytes(content)  # renamed without fsync: one a slice would triple the time
        temporary.replace(folder / f"{image_id}.dcm")
    truths = {
        "labels": np.array(SUBTYPES),
        "blood": np.packbits(painted.blood),
        "cavity": np.packbits(painted.cavity),
        "shape": np.array(painted.blood.shape),
        "slices": _as_text(painted.slices),
        "sites": _as_text(painted.sites),
    }
    with atomic_path(record) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **truths)
    return {name: _from_text(truths[name]) for name in ("slices", "sites")}


def _as_text(table: pd.DataFrame) -> np.ndarray:
    return np.array(json.dumps(table.to_dict("list")))


def _from_text(text: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(json.loads(str(text)))


def _write_labels(out: Path, table: pd.DataFrame, preset: Preset, seed: int) -> None:
    """The contest's three CSV files; the label rows of a few training images occur twice."""
    ordered = table.sort_values("image_id", ignore_index=True)  # names are random, so the order tells nothing
    train, test = ordered[ordered["split"] == "train"], ordered[ordered["split"] == "test"]
    rng = np.random.default_rng((seed, 3))
    again = train.iloc[np.sort(rng.choice(len(train), min(preset.duplicates, len(train)), replace=False))]
    at = rng.integers(0, len(train), len(again))
    order = np.argsort(np.concatenate([np.arange(len(train)), at + 0.5]), kind="stable")
    write_csv(out / TRAIN_CSV, long_labels(pd.concat([train, again]).iloc[order]))
    hidden = long_labels(test)
    write_csv(out / SAMPLE_CSV, hidden.assign(Label=0.5))
    write_csv(out / TEST_LABELS_CSV, hidden)


def long_labels(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of images with columns image_id and LABELS -> the contest's form: ID, Label, six rows an image."""
    names = np.char.add(
        np.repeat(table["image_id"].to_numpy(str), len(LABELS)),
        np.tile([f"_{x}" for x in LABELS], len(table)),
    )
    return pd.DataFrame({"ID": names, "Label": table[list(LABELS)].to_numpy(np.int64).ravel()})


def main(arguments: list[str] | None = None) -> int:
    parser = argument_parser(__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the data set")
    parser.add_argument(
        "--studies", type=int, required=True, help="number of studies, train and test together"
    )
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="demo")
    parser.add_argument(
        "--family",
        default="standard",
        help="standard, elderly, or a number: shifts of population and scanners",
    )
    parser.add_argument(
        "--epidural", type=float, help="share of studies with an epidural bleed (default: the preset's)"
    )
    parser.add_argument(
        "--studies-per-patient", type=int, metavar="N",
        help="studies of every training patient (default: as the preset says)",
    )  # fmt: skip
    parser.add_argument("--size", type=int, default=512, help="image side in pixels (default 512)")
    parser.add_argument("--slices", type=int, help="slices a study (default: as the preset says)")
    parser.add_argument("--truth", type=Path, help="folder of masks and sites (default: OUT/../truth)")
    parser.add_argument("--jobs", type=int, default=1, help="processes; the result does not depend on it")
    flags = parser.parse_args(arguments)
    try:
        made = generate(**vars(flags), progress=sys.stderr.isatty())
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    remark = read_json(flags.out / MANIFEST)["remark"]
    print(f"{flags.out}: {'written' if made else 'already complete'} ({remark})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
