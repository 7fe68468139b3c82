"""Where the bytes of an image come from: a file, or a member of a zip archive read without unpacking it."""

import errno
import os
import stat
import struct
import time
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError


@dataclass(frozen=True, slots=True)
class ZipMember:
    """One stored or deflated member of an archive, found once in its central directory.

    Every process reads it with `pread`, so none of them parses the directory of 874,035 members again.
    """

    archive: str
    name: str
    offset: int  # of the local header
    compressed_size: int
    size: int
    crc32: int
    deflated: bool

    def __str__(self) -> str:
        return f"{self.archive}/{self.name}"


@dataclass(frozen=True, slots=True)
class VolumeSlice:
    """Slice `index` (from 0, along the body's axis as stored) of a NIfTI volume."""

    path: str
    index: int

    def __str__(self) -> str:
        return f"{self.path}[{self.index}]"


@dataclass(frozen=True, slots=True)
class BareDicom:
    """A DICOM file used as a mere container: values are HU though no tag says so, turned by 90 degrees."""

    path: str

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True, slots=True)
class Picture:
    """A JPEG or PNG that shows a known window: its gray levels are HU between the window's ends."""

    path: str
    center: float  # HU
    width: float

    def __str__(self) -> str:
        return self.path


Source = str | Path | ZipMember | VolumeSlice | BareDicom | Picture
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
CLOCKS_DIFFER_NS = 5 * 10**9  # between this machine and one that keeps its files
MEMBER_BYTES = 1 << 31  # a member of a zip archive may not become larger
# Pictures and volumes that a reader may meet and does not read.
OTHER_SUFFIXES = (
    *(".bmp", ".tif", ".tiff", ".gif", ".webp", ".jp2", ".j2k", ".ct", ".img", ".hdr", ".raw", ".npy"),
    *(".nii", ".nii.gz", ".nrrd", ".mha", ".mhd", ".mgz"),
)
ARCHIVERS_COPIES = "__MACOSX"  # what macOS adds to an archive: no images, under the images' names


def printable(source: "Source") -> str:
    """A source's name as text; bytes that are no UTF-8 become \\xNN."""
    name = str(source)
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "backslashreplace")


def cause_of_failure(error: Exception) -> str:
    """Why an image cannot be used, from whatever reading or decoding it raised."""
    if isinstance(error, OSError):
        return f"unreadable file: {error.strerror or error}"
    if isinstance(error, ValueError) and not isinstance(error, UnicodeError):
        return str(error)
    return f"unreadable image: {type(error).__name__}"  # its text may quote the file


def read_bytes(source: Source) -> bytes:
    """The content of a source. Raises OSError; ValueError for a damaged zip member."""
    return _read_member(source, None) if isinstance(source, ZipMember) else _read_file(source, None)[0]


def read_head(source: Source, limit: int) -> tuple[bytes, int]:
    """The first `limit` bytes of a source and its whole size. Raises like `read_bytes`."""
    if isinstance(source, ZipMember):
        return _read_member(source, limit), source.size
    return _read_file(source, limit)


_READ = os.O_RDONLY | os.O_NONBLOCK  # without the second the opening of a pipe waits for a writer


def open_file(source: Source) -> tuple[int, int]:
    """A descriptor, which the caller closes, and the size in bytes of the file that holds the source. Raises
    OSError; ValueError for what is no file.
    """
    descriptor = os.open(file_of(source), _READ)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise _no_file(status.st_mode)
    return descriptor, status.st_size


def _read_file(source: Source, limit: int | None) -> tuple[bytes, int]:
    descriptor, size = open_file(source)
    try:
        wanted = size if limit is None else min(limit, size)
        data = os.read(descriptor, wanted)
        while len(data) < wanted and (more := os.read(descriptor, wanted - len(data))):
            data += more
        return data, size
    finally:
        os.close(descriptor)


def _no_file(mode: int) -> Exception:
    if stat.S_ISDIR(mode):
        return IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    return ValueError("not a file: " + ("a pipe" if stat.S_ISFIFO(mode) else "a device"))


def file_of(source: Source) -> str | Path:
    """The file on disk that holds the source."""
    if isinstance(source, ZipMember):
        return source.archive
    return source.path if isinstance(source, (VolumeSlice, BareDicom, Picture)) else source


def modified_ns(source: Source) -> int:
    """Time of the last change of the file; 0 where it cannot be looked at."""
    try:
        return os.stat(file_of(source)).st_mtime_ns
    except OSError:
        return 0


def stamp(source: Source) -> tuple[float, ...]:
    """What tells a file from another one under its name, beside a date after the last run: its size in bytes
    (-1 where it cannot be looked at, which decoding then reports), its date where that lies in the future,
    and the window of a picture.
    """
    try:
        status = os.stat(file_of(source))
    except OSError:
        return (-1,)
    size = source.size if isinstance(source, ZipMember) else status.st_size
    window = (source.center, source.width) if isinstance(source, Picture) else ()
    return (size, *((status.st_mtime_ns,) if status.st_mtime_ns > time.time_ns() else ()), *window)


def changed_since(source: Source, then_ns: int) -> bool:
    """Whether the file's date says so; one in the future says nothing and is part of the `stamp`.

    Where `then` lies in the future, the clock has been put back since, and no date can say that it has not.
    """
    now = time.time_ns()
    return then_ns > now + CLOCKS_DIFFER_NS or then_ns < modified_ns(source) <= now


def without_suffix(name: str) -> str:
    """A file's name without an image's suffix; other dots, as in names made of UIDs, belong to it."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in (*IMAGE_SUFFIXES, *DICOM_SUFFIXES) else name


def list_files(folder: Path | str, suffixes: tuple[str, ...] | None = None) -> list[os.DirEntry[str]]:
    """Every file below a folder, hidden ones left out, folder by folder in the order of names; a folder that
    cannot be read raises UserError.

    Links to folders are followed last, and no folder is entered twice: a link may lead to its own.
    """
    files: list[os.DirEntry[str]] = []
    seen: set[tuple[int, int]] = set()
    links, open_folders = [str(folder)], []
    while links or open_folders:
        if not open_folders:
            open_folders.append(_entries(links.pop(0), seen))
        entry = next(open_folders[-1], None)
        if entry is None:
            open_folders.pop()
        elif entry.is_dir(follow_symlinks=False):
            open_folders.append(_entries(entry.path, seen))
        elif entry.is_symlink() and os.path.isdir(entry.path):
            links.append(entry.path)
        elif suffixes is None or entry.name.lower().endswith(suffixes):
            files.append(entry)
    return files


def _entries(folder: str, seen: set[tuple[int, int]]) -> Iterator[os.DirEntry[str]]:
    """The entries of a folder by name, without hidden ones; none if it has been `seen`."""
    try:
        status = os.stat(folder)
        place = (status.st_dev, status.st_ino)
        entries = [] if place in seen else sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(
            f"{printable(folder)}: cannot be listed ({error.strerror}); check the path and its permissions"
        ) from None
    seen.add(place)
    return iter([entry for entry in entries if not _is_hidden(entry.name)])


def list_members(archive: Path | str) -> Iterator[ZipMember]:
    """The files of a zip archive in the order of its directory."""
    try:
        directory = zipfile.ZipFile(archive)
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
        raise UserError(f"{archive}: not a readable zip archive ({error}); download it again") from None
    with directory:
        for info in directory.infolist():
            if not info.filename or info.is_dir() or _is_hidden(info.filename):
                continue
            if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise UserError(
                    f"{archive}: {info.filename} is encrypted or not deflated; unpack the archive instead"
                )
            deflated = info.compress_type == zipfile.ZIP_DEFLATED
            place = (info.header_offset, info.compress_size, info.file_size, info.CRC)
            yield ZipMember(str(archive), info.filename, *place, deflated)


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part == ARCHIVERS_COPIES for part in name.split("/"))


def _read_member(member: ZipMember, limit: int | None) -> bytes:
    """A local header is 30 bytes, the name and an extra field; their lengths need not be the directory's."""
    if limit is None and member.size > MEMBER_BYTES:
        raise ValueError(f"absurd size: the zip member states {member.size} bytes")
    descriptor = os.open(member.archive, os.O_RDONLY)
    try:
        fixed = os.pread(descriptor, 30, member.offset)
        if fixed[:4] != b"PK\x03\x04" or len(fixed) < 30:
            raise ValueError("damaged zip archive: no local header where the directory points")
        start = member.offset + 30 + sum(struct.unpack("<HH", fixed[26:30]))
        # A deflated byte takes 15 bits at most, and the code tables before it a few hundred bytes.
        length = member.compressed_size if limit is None else min(member.compressed_size, 2 * limit + 1024)
        data = os.pread(descriptor, min(length, os.fstat(descriptor).st_size), start)
    finally:
        os.close(descriptor)
    if member.deflated:
        try:
            # one byte more than stated tells a member that goes on, whatever it would become
            data = zlib.decompressobj(-15).decompress(data, (member.size if limit is None else limit) + 1)
        except zlib.error as error:
            raise ValueError(f"damaged zip member: {error}") from None
    if limit is not None:
        return data[:limit]
    if len(data) != member.size or zlib.crc32(data) != member.crc32:
        raise ValueError("damaged zip member: its checksum does not agree")
    return data
