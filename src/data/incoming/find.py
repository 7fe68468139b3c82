"""Which studies lie under a path: DICOM files by StudyInstanceUID, and every NIfTI volume on its own."""

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ...errors import UserError
from ..dicom import scan_headers
from ..formats.nifti import SUFFIXES
from ..readers.dicom import may_be_dicom, unique_ids
from ..readers.nifti import without_volume_suffix
from ..source import list_files, printable
from .unpack import unpack

ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".xz", ".bz2", ".7z", ".rar")


@dataclass(frozen=True)
class Incoming:
    """The files of a study before anything but their headers is read.

    paths: as they lie on the disk; names: as a person knows them; series: SeriesInstanceUID of every file
    ("" where there is none, and of a volume); uids: SOPInstanceUID of every file, likewise.
    """

    study_id: str
    volume: bool  # one NIfTI file
    paths: list[str]
    names: list[str]
    series: list[str]
    uids: list[str]


def find_studies(path: Path, scratch: Path, jobs: int = 1) -> list[Incoming]:
    """The studies under a DICOM or NIfTI file, a folder or a zip archive, which is unpacked to `scratch`, in
    the order of their ids.

    Files without StudyInstanceUID, which cannot be used, go with the only other study, or are one of their
    own. Raises UserError where there is no study.
    """
    root, shown = path, path
    if path.is_file() and (path.suffix.lower() == ".zip" or zipfile.is_zipfile(path)):
        root = unpack(path, scratch)
    elif path.is_file():
        return _studies([str(path)], path.parent, path, jobs)
    elif not path.is_dir():
        raise UserError(f"{path}: no such file or folder; check the path")
    return _studies([entry.path for entry in list_files(root)], root, shown, jobs)


def _studies(paths: list[str], root: Path, shown: Path, jobs: int) -> list[Incoming]:
    volumes = [path for path in paths if path.lower().endswith(SUFFIXES)]
    images = [path for path in paths if path not in set(volumes) and may_be_dicom(path)]
    found = [*_by_study(images, root, jobs), *_volumes(volumes, root)]
    if not found:
        raise UserError(f"{printable(shown)}: {_nothing(paths)}")
    return sorted(found, key=lambda study: study.study_id)


def _nothing(paths: list[str]) -> str:
    if any(path.lower().endswith(ARCHIVES) for path in paths):
        return "only archives that are not opened here; unpack them and give the folder"
    if not paths:
        return "is empty; give a folder of DICOM files, a zip archive of one, or a NIfTI file"
    return (
        f"no DICOM or NIfTI file among {len(paths)}, such as {printable(os.path.basename(paths[0]))}; give a "
        "folder of DICOM files, a zip archive of one, or a NIfTI file"
    )


def _by_study(paths: list[str], root: Path, jobs: int) -> list[Incoming]:
    headers = scan_headers(paths, jobs)
    texts = headers[["study_id", "series_id", "sop_instance_uid"]].fillna("")
    texts["name"] = [_below(path, root) for path in paths]
    studies = texts["study_id"].unique()
    known = [study for study in studies if study]
    if len(known) == 1:
        texts["study_id"] = known[0]
    groups = texts.groupby("study_id", sort=True)
    return [_incoming(study, group, paths) for study, group in groups]


def _incoming(study: str, group: pd.DataFrame, paths: list[str]) -> Incoming:
    """Files in the order of their UIDs, then of their names: what files are called must not matter."""
    group = group.sort_values(["sop_instance_uid", "name"])
    return Incoming(
        study or "without StudyInstanceUID",
        False,
        [paths[row] for row in group.index],
        group["name"].tolist(),
        group["series_id"].tolist(),
        group["sop_instance_uid"].tolist(),
    )


def _volumes(paths: list[str], root: Path) -> list[Incoming]:
    """A volume's id is its file's name; where several have one name, the path below the root."""
    names = [_below(path, root) for path in paths]
    ids = unique_ids(names, lambda name: without_volume_suffix(os.path.basename(name)))
    return [
        Incoming(study, True, [path], [name], [""], [""])
        for study, path, name in zip(ids, paths, names, strict=True)
    ]


def _below(path: str, root: Path) -> str:
    return printable(os.path.relpath(path, root).replace(os.sep, "/"))
