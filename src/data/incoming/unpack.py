"""A zip archive from anywhere, unpacked without trust."""

import shutil
import zipfile
from pathlib import Path

from ...errors import UserError
from ..source import cause_of_failure, list_members, read_bytes

MOST_BYTES = 8 << 30  # a study of 3,000 slices has 1.6 GB
MOST_MEMBERS = 100_000


def unpack(archive: Path, folder: Path) -> Path:
    """Write every member below `folder`, which it gives; hidden files are left out.

    Raises UserError, before anything is written, for an archive that is damaged, encrypted, too large by its
    own directory, or names a place outside.
    """
    members = list(list_members(archive))
    _check_size(archive, [member.size for member in members], folder)
    names = _safe_names(archive)
    for member in members:
        target = folder / names[member.name]
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(read_bytes(member))
        except (OSError, ValueError) as error:
            raise UserError(
                f"{archive}: {member.name} cannot be unpacked ({cause_of_failure(error)}); make or download "
                "the archive again"
            ) from None
    return folder


def _check_size(archive: Path, sizes: list[int], folder: Path) -> None:
    if len(sizes) > MOST_MEMBERS or sum(sizes) > MOST_BYTES:
        raise UserError(
            f"{archive}: holds {len(sizes)} files of {sum(sizes) / 1e9:.1f} GB, more than {MOST_MEMBERS} or "
            f"{MOST_BYTES / 1e9:.1f} GB; unpack it yourself and give the folder"
        )
    free = shutil.disk_usage(folder).free
    if sum(sizes) > free:
        raise UserError(
            f"{archive}: needs {sum(sizes) / 1e9:.1f} GB in {folder}, where {free / 1e9:.1f} GB are free; "
            "make room, or set TMPDIR to another disk"
        )


def _safe_names(archive: Path) -> dict[str, str]:
    """Every member's name -> its path below the folder. UserError for one that leads outside, and for two of
    one name."""
    with zipfile.ZipFile(archive) as directory:
        stored = [info.filename for info in directory.infolist() if info.filename[-1:] != "/"]
    names = {name: name.replace("\\", "/") for name in stored}
    for name, path in names.items():
        parts = path.split("/")
        if path.startswith("/") or ".." in parts or ":" in parts[0] or "\0" in path:
            raise UserError(f"{archive}: {name!r} leads outside the archive; it is not unpacked")
    if len(set(names.values())) < len(stored):
        raise UserError(f"{archive}: holds two files of one name; unpack it yourself and give the folder")
    return names
