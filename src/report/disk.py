"""What the six folders of SETTINGS.json cost, run by run, and the deletion of what can be made again.

    python -m src.report.disk             # bytes and files of each folder and of each run
    python -m src.report.disk --clean     # delete what the column `again` counts

Made again by the step that reads it: what stage 1 says through single views, of its own training slices and
of probes, and the synthetic probes themselves. Left by killed processes: half-written files, checkpoints of
complete runs. Nothing else is deleted, nothing below RAW_DATA_DIR, and nothing while a fold is trained.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ..command_line import argument_parser
from ..command_line import run as run_script
from ..files import PARTIAL, remove_abandoned
from ..settings import Settings, SettingsFile, load_settings
from ..training.runs import Run

RAW = "RAW_DATA_DIR"
KINDS = {  # column -> files of a run folder
    "weights": ("model.safetensors", "model.txt", "embedding_map.safetensors"),
    "embeddings": ("embeddings.npy", "test_embeddings.npy"),
    "predictions": ("oof.parquet", "test.parquet", "missing.parquet"),
}
Files = Mapping[Path, int]  # file -> bytes


@dataclass(frozen=True)
class Disk:
    """What lies in the folders: key of SETTINGS.json -> its files, each counted once; and every fold."""

    settings: Settings
    folders: dict[str, Files]
    runs: list[Run]

    @property
    def own(self) -> Files:
        """Whatever is not below RAW_DATA_DIR."""
        return {
            path: size for key, files in self.folders.items() if key != RAW for path, size in files.items()
        }

    def again(self) -> list[Path]:
        """What can be made again; half-written files too, also those that a living process writes."""
        probes = self.settings.checkpoints / "probes"
        found = [path for path in self.own if path.is_relative_to(probes) or is_half_written(path)]
        return sorted({*found, *(path for run in self.runs for path in again(run))} & self.own.keys())


def look(settings: Settings) -> Disk:
    """Walk through the six folders; one that lies inside another is counted by itself."""
    places = folders_of(settings)
    files = {key: files_below(place, set(places.values()) - {place}) for key, place in places.items()}
    return Disk(settings, files, runs_below(settings))


def folders_of(settings: Settings) -> dict[str, Path]:
    places = (
        settings.raw, settings.clean, settings.models, settings.checkpoints, settings.logs,
        settings.submissions,
    )  # fmt: skip
    return dict(zip(SettingsFile.model_fields, places, strict=True))


def files_below(folder: Path, others: set[Path]) -> dict[Path, int]:
    """File -> bytes, without what lies in `others`; links are not followed."""
    found = {}
    for place, subfolders, names in os.walk(folder):
        subfolders[:] = sorted(name for name in subfolders if Path(place, name) not in others)
        for name in names:
            path = Path(place, name)
            if (status := _status(path)) is not None:
                found[path] = status.st_size
    return found


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except FileNotFoundError:  # deleted while the walk went on
        return None


def runs_below(settings: Settings) -> list[Run]:
    """Every fold of every experiment and replicate that has a run folder or a checkpoint."""
    found = set()
    for root in (settings.models, settings.checkpoints):
        for folder in root.glob("**/stage[12]/*/fold*"):
            number = folder.name.removeprefix("fold")
            if number.isdecimal():
                found.add((folder.parent.relative_to(root).as_posix(), int(number)))
    return [Run(name, fold, settings) for name, fold in sorted(found)]


def again(run: Run) -> list[Path]:
    """Of a complete fold: what can be made again, and checkpoints, which it needs no more."""
    return run.made_again() + run.checkpoint_files() if run.complete else []


def is_half_written(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith(PARTIAL)


def clean(disk: Disk) -> tuple[int, int]:
    """Delete what can be made again; how many files, and their bytes. UserError while a training runs."""
    deleted, own = [], disk.own
    with ExitStack() as held:
        for run in disk.runs:
            held.enter_context(run.lock())
        for path in disk.again():
            if not is_half_written(path):
                path.unlink(missing_ok=True)
            elif not remove_abandoned(path):
                continue
            deleted.append(own[path])
    return len(deleted), sum(deleted)


def report(disk: Disk) -> str:
    """The tables of folders and runs, or one line where there is nothing."""
    if not any(disk.folders.values()):
        return f"{disk.settings.file}: nothing lies in its six folders yet; begin with prepare_data.py"
    freed = sum(disk.own[path] for path in disk.again())
    last = f"{human(freed)} can be made again" + ("; --clean deletes it" if freed else "")
    return "\n\n".join([folder_table(disk), run_table(disk) if disk.runs else "no runs yet", last])


def folder_table(disk: Disk) -> str:
    found = set(disk.again())
    rows = [("folder", "bytes", "files", "again", "free there", "path")]
    for key, place in folders_of(disk.settings).items():
        files = disk.folders[key]
        repeated = sum(size for path, size in files.items() if path in found)
        free = human(shutil.disk_usage(place).free) if place.is_dir() else "no folder"
        rows.append((key, human(sum(files.values())), f"{len(files):,}", human(repeated), free, str(place)))
    return aligned(rows, "lrrrrl")


def run_table(disk: Disk) -> str:
    """A row a run, its folds together."""
    own = disk.own
    rows = [("run", "complete", *KINDS, "checkpoints", "again")]
    for name in dict.fromkeys(run.name for run in disk.runs):
        folds = [run for run in disk.runs if run.name == name]
        groups = [[run.folder / file for run in folds for file in files] for files in KINDS.values()]
        groups.append([path for run in folds for path in run.checkpoint_files()])
        groups.append([path for run in folds for path in again(run)])
        complete = f"{sum(run.complete for run in folds)} of {len(folds)}"
        rows.append((name, complete, *(human(sum(own.get(path, 0) for path in group)) for group in groups)))
    return aligned(rows, "lr" + "r" * (len(rows[0]) - 2))


def human(size: int) -> str:
    """Bytes in powers of 1,000: 950 bytes, 3.4 MB, 21 GB."""
    value, units = float(size), ["bytes", "kB", "MB", "GB", "TB"]
    while value >= 999.5 and len(units) > 1:
        value, units = value / 1000, units[1:]
    digits = 1 if value < 9.95 and units[0] != "bytes" else 0
    return f"{value:.{digits}f} {units[0]}"


def aligned(rows: Sequence[Sequence[str]], sides: str) -> str:
    """Columns of equal width; `sides` has an l or r for each."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if side == "r" else cell.ljust(width)
            for cell, width, side in zip(row, widths, sides, strict=True)
        ).rstrip()
        for row in rows
    )


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument(
        "--settings", default="SETTINGS.json", metavar="FILE", help="folders (default: SETTINGS.json)"
    )
    parser.add_argument("--clean", action="store_true", help="delete what can be made again")
    arguments = parser.parse_args()
    disk = look(load_settings(arguments.settings))
    print(report(disk))
    if arguments.clean:
        count, size = clean(disk)
        print(f"deleted {count:,} files, {human(size)}")


if __name__ == "__main__":
    run_script(main)
