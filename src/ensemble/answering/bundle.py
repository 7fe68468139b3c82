"""A trained experiment in one zip file: weights, configurations, blend, how slices are prepared, checksums.

It is opened without trust: the list of files comes first, with sizes and SHA-256; a file that is not listed,
that has no place in a bundle or another size or checksum is refused before anything is used, and nothing in
it is a program: safetensors, LightGBM's text, JSON, Parquet.
"""

import hashlib
import json
import re
import struct
import zipfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ...errors import UserError
from ...evaluation.operating import POINTS
from ...files import atomic_path, file_sha256
from ...settings import Settings
from ...training.runs import HASHED, Run
from .answers import TrainedExperiment

MANIFEST, CARD, BLEND_FILE = "manifest.json", "model_card.md", "blend.json"
FORMAT = 2
RUN_FILES = (*HASHED, "metrics.json")
NAME = r"[A-Za-z0-9][\w.-]{0,99}"
PLACE = re.compile(rf"models/{NAME}/stage[12]/{NAME}/fold\d{{1,3}}/({'|'.join(map(re.escape, RUN_FILES))})")
MOST_BYTES = 64 << 30
MOST_MANIFEST_BYTES = 16 << 20
MOST_FILES = 10_000


def write_bundle(experiment: TrainedExperiment, texts: dict[str, str], path: Path) -> Path:
    """Write an experiment's folds, its blend and further texts (model_card.md, operating_points.json)."""
    files: dict[str, Path | bytes] = {
        f"models/{run.name}/fold{run.fold}/{name}": run.folder / name
        for run in with_inputs(experiment.runs)
        for name in RUN_FILES
        if (run.folder / name).exists()
    }
    files |= {name: text.encode() for name, text in texts.items()}
    if experiment.blend is not None:
        files[BLEND_FILE] = experiment.runs[0].settings.submissions / experiment.name / BLEND_FILE
    manifest = {
        "format": FORMAT,
        "experiment": experiment.name,
        "synthetic": experiment.synthetic,
        "preparation": experiment.runs[0].made_from["geometry"],
        "versions": {name: version(name) for name in ("torch", "timm", "safetensors", "pydicom")},
        "files": {name: _described(content) for name, content in sorted(files.items())},
    }
    # A ZipInfo has the date of its format's beginning, so that the same experiment gives the same bytes.
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        archive.writestr(zipfile.ZipInfo(MANIFEST), json.dumps(manifest, indent=1))
        for name, content in sorted(files.items()):
            data = content if isinstance(content, bytes) else content.read_bytes()
            archive.writestr(zipfile.ZipInfo(name), data)
    return path


def with_inputs(runs: Sequence[Run]) -> list[Run]:
    """The folds themselves and the stage-1 folds that stackers among them read."""
    found = {(run.name, run.fold): run for run in runs}
    for run in runs:
        for key in run.made_from["inputs"]:
            name, _, fold = key.rpartition("/fold")
            found.setdefault((name, int(fold)), Run(name, int(fold), run.settings))
    return [found[key] for key in sorted(found)]


class Opened(NamedTuple):
    """A bundle that was checked and unpacked."""

    settings: Settings  # which find its runs and blend
    experiment: str
    synthetic: bool  # whether it was trained on synthetic images


def open_bundle(path: Path, folder: Path) -> Opened:
    """Check and unpack a bundle into an empty folder. Raises UserError for anything that is not as
    `write_bundle` made it.
    """
    if not path.is_file():
        raise UserError(
            f"{path}: no such file; make one with: python predict.py EXPERIMENT --export {path.name}"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            manifest = _read_manifest(archive, path)
            _check_directory(archive, manifest["files"], path)
            for name, described in manifest["files"].items():
                _unpack(archive, name, described, folder / _place(name, manifest["experiment"]), path)
    except (zipfile.BadZipFile, EOFError, OSError, RuntimeError, ValueError, struct.error) as error:
        raise _damaged(path, str(error)) from None
    places = {
        name: folder / name for name in ("raw", "clean", "models", "checkpoints", "logs", "submissions")
    }
    return Opened(Settings(file=path.resolve(), **places), manifest["experiment"], manifest["synthetic"])


def _read_manifest(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    try:
        info = archive.getinfo(MANIFEST)
    except KeyError:
        raise UserError(f"{path}: no bundle, it has no {MANIFEST}; give one made by --export") from None
    if info.file_size > MOST_MANIFEST_BYTES:
        raise _damaged(path, f"its {MANIFEST} has {info.file_size} bytes")
    try:
        manifest = json.loads(archive.read(info))
        files, name = manifest["files"], manifest["experiment"]
        whole = all(
            isinstance(described["bytes"], int) and re.fullmatch("[0-9a-f]{64}", described["sha256"])
            for described in files.values()
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _damaged(path, f"its {MANIFEST} is not as it is written") from None
    if manifest.get("format") != FORMAT:
        raise UserError(f"{path}: a bundle of another version of this program; export it again")
    whole = whole and isinstance(manifest.get("synthetic"), bool)
    if not whole or not isinstance(name, str) or not re.fullmatch(NAME, name):
        raise _damaged(path, f"its {MANIFEST} is not as it is written")
    return manifest


def _check_directory(archive: zipfile.ZipFile, files: dict[str, Any], path: Path) -> None:
    """Names and sizes, before a byte of any file is read."""
    stored = [info for info in archive.infolist() if info.filename != MANIFEST]
    names = [info.filename for info in stored]
    if len(names) > MOST_FILES or len(names) + 1 != len(archive.infolist()) or sorted(names) != sorted(files):
        odd = sorted(set(names) ^ set(files))[:1] or ["a file that stands there twice"]
        raise _damaged(path, f"its files are not those of its {MANIFEST}: {odd[0]!r}")
    for name in names:
        if name not in (CARD, BLEND_FILE, POINTS) and not PLACE.fullmatch(name):
            raise _damaged(path, f"{name!r} has no place in a bundle")
    if any(info.file_size != files[info.filename]["bytes"] for info in stored):
        raise _damaged(path, f"sizes are not those of its {MANIFEST}")
    if sum(info.file_size for info in stored) > MOST_BYTES:
        raise _damaged(path, f"its files have more than {MOST_BYTES >> 30} GiB")


def _place(name: str, experiment: str) -> PurePosixPath:
    """Where a member goes below the folder."""
    return PurePosixPath(name) if PLACE.fullmatch(name) else PurePosixPath("submissions", experiment, name)


def _unpack(archive: zipfile.ZipFile, name: str, described: dict[str, Any], target: Path, path: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(name) as member, open(target, "wb") as file:
        while block := member.read(1 << 20):
            file.write(block)
    if file_sha256(target) != described["sha256"]:
        raise _damaged(path, f"{name}: its checksum does not agree")


def _described(content: Path | bytes) -> dict[str, Any]:
    if isinstance(content, bytes):
        return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return {"bytes": content.stat().st_size, "sha256": file_sha256(content)}


def _damaged(path: Path, what: str) -> UserError:
    return UserError(f"{path}: {what}; copy or export the bundle again")
