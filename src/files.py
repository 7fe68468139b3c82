"""Atomic files and fingerprints: a reader sees a complete file or none."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from .errors import UserError

MADE_FROM = b"made_from"  # key in a Parquet file's metadata
PARTIAL = ".partial"  # ends the name of a file that is being written


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Give a temporary path beside `path`; move it into place when the block ends without an exception."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Strict JSON: a NaN or an infinite number raises ValueError."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
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
    except (OSError, pa.ArrowException) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise _damaged(path, error) from error


def parquet_made_from(path: Path | str) -> dict[str, Any]:
    """What `write_parquet` was told of a table's origin; empty where it was told nothing."""
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, error) from error
    return json.loads(metadata.get(MADE_FROM, b"{}"))


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
