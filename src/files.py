"""Atomic files and fingerprints: a reader sees a complete file or none."""

import fcntl
import glob
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from .errors import UserError

MADE_FROM = b"made_from"  # key in a Parquet file's metadata
PARTIAL = ".partial"  # ends the name of a file that is being written


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Give a temporary path beside `path`; move it into place when the block ends without an exception.

    What a killed process left of an earlier attempt at this file is deleted. Where the system refuses what is
    written, by whatever library, it is an OSError that names `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    with open(temporary, "wb") as held:
        try:
            _lock(held)
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        except UserError:
            raise
        except Exception as error:
            if (number := _refused(error)) is None:
                raise
            raise OSError(number, os.strerror(number), str(path)) from error
        finally:
            temporary.unlink(missing_ok=True)


def _refused(error: Exception) -> int | None:
    """The system's number for why a file cannot be written, where no file is named: of a full disk and in
    Arrow's error, the cause of torch's, in words within safetensors'.
    """
    if isinstance(error, OSError):
        return error.errno if error.filename is None else None
    if isinstance(error.__context__, OSError):
        return error.__context__.errno
    said = re.search(r"os error (\d+)", str(error))
    return int(said[1]) if said else None


@contextmanager
def reading(path: Path | str) -> Iterator[None]:
    """UserError where a library fails on a file that is damaged, or none of its kind."""
    try:
        yield
    except (UserError, OSError):
        raise
    except Exception as error:  # of any kind: libraries have no common base
        raise _damaged(path, error) from error


def _remove_abandoned(path: Path) -> None:
    for left in path.parent.glob(f".{glob.escape(path.name)}.*{PARTIAL}"):
        remove_abandoned(left)


def remove_abandoned(left: Path) -> bool:
    """Delete a temporary file of `atomic_path` whose writer is dead; whether it was.

    A writer holds a lock on its temporary file; the system gives it up when the process dies.
    """
    try:
        with open(left, "rb") as file:
            abandoned = _lock(file)
            if abandoned:
                left.unlink()
    except FileNotFoundError:  # its writer has just finished
        return False
    return abandoned


def _lock(file: IO[Any]) -> bool:
    """Whether this process got the lock on an open file."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held by another process, or a file system without locks: leave it alone
        return False
    return True


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold a folder of results while writing to it; UserError where another process does.

    The lock is on the folder itself, so nothing is left behind; a folder that stays empty is removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _refuse_company(folder, descriptor)
        try:
            yield
        finally:
            if not any(folder.iterdir()):
                folder.rmdir()
    finally:
        os.close(descriptor)


def _refuse_company(folder: Path, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"{folder}: another process writes to it; wait for it or stop it") from None
    except OSError:  # a file system without locks on folders, such as NFS
        return


def write_text(path: Path | str, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Strict JSON: a NaN or an infinite number raises ValueError."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, a number or a nesting without end
        raise UserError(
            f"{path}: not valid JSON ({error}); repair the file or delete it and run its step again"
        ) from error


def write_parquet(path: Path | str, frame: pd.DataFrame, made_from: dict[str, Any] | None = None) -> None:
    """A table without its index; `made_from`: JSON that goes into the file, for `parquet_made_from`."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    if made_from is not None:
        table = table.replace_schema_metadata(
            {**(table.schema.metadata or {}), MADE_FROM: json.dumps(made_from)}
        )
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, write_page_checksum=True)


def read_parquet(path: Path | str) -> pd.DataFrame:
    """The table of `write_parquet`, its checksums verified; UserError where the file is damaged."""
    try:
        return pq.read_table(path, page_checksum_verification=True).to_pandas()
    except FileNotFoundError:
        raise
    except Exception as error:  # of any kind: Arrow and pandas have no common base
        raise _damaged(path, error) from error


def parquet_made_from(path: Path | str) -> dict[str, Any]:
    """What `write_parquet` was told of a table's origin; empty where it was told nothing."""
    try:
        return json.loads((pq.read_schema(path).metadata or {}).get(MADE_FROM, b"{}"))
    except (OSError, pa.ArrowException, ValueError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path | str, error: Exception) -> UserError:
    first = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
    return UserError(f"{path}: damaged ({first}); delete it and run its step again")


def write_csv(path: Path | str, frame: pd.DataFrame, **options: Any) -> None:
    with atomic_path(path) as temporary:
        frame.to_csv(temporary, index=False, lineterminator="\n", **options)


def fingerprint(value: Any) -> str:
    """16 hex digits of the SHA-256 of a JSON value; the order of keys does not count."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_sha256(path: Path | str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
