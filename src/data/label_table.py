"""The contest's label table: `ID,Label`, six rows an image, checked row by row."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from ..errors import UserError
from ..labels import LABELS, SUBTYPES
from .source import Source, read_bytes


@dataclass(frozen=True)
class LabelTable:
    """`labels`: one row an image, in the order of first mention, index image_id, columns LABELS (Int8)."""

    labels: pd.DataFrame
    repeated_rows: int


def read_labels(path: Source) -> LabelTable:
    """Read `stage_2_train.csv`. Rows repeated with the same label count once.

    Raises UserError naming the file and the image when rows disagree, a label is neither 0 nor 1, one of the
    six rows is missing, or `any` is not the largest of the subtypes.
    """
    images, names, texts = _rows(path)
    numbers = _numbers(texts)
    wrong = numbers < 0
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        identity = f"{images[row].as_py()}_{LABELS[names[row]]}"
        raise UserError(
            f"{path}: {identity} has the label {texts[row].as_py()!r}; labels are 0 or 1: correct the row"
        )
    table, image_ids = _pivot(path, images, names, numbers)
    subtypes = table[:, : len(SUBTYPES)].max(axis=1)
    differs = np.flatnonzero(subtypes != table[:, -1])
    if len(differs):
        raise UserError(
            f"{path}: {image_ids[differs[0]]} has any = {table[differs[0], -1]}, its largest subtype is "
            f"{subtypes[differs[0]]} ({len(differs)} such images); any is the largest of five: correct them"
        )
    frame = pd.DataFrame(table, index=pd.Index(image_ids, name="image_id"), columns=list(LABELS)).astype(
        "Int8"
    )
    return LabelTable(frame, len(images) - table.size)


def read_sample_submission(path: Source) -> pd.Index:
    """The image ids of a sample submission in its order; every image needs its six rows. Raises UserError."""
    images, names, _ = _rows(path)
    _, image_ids = _pivot(path, images, names, np.zeros(len(images), dtype=np.int8))
    return pd.Index(image_ids, name="image_id")


def _rows(path: Source) -> tuple[pa.Array, np.ndarray, pa.Array]:
    """Image id, number of the label and label text of every row. A BOM and CRLF line ends are as good as
    none.
    """
    as_text = pa.csv.ConvertOptions(
        column_types={"ID": pa.string(), "Label": pa.string()}, strings_can_be_null=False
    )
    one_thread = pa.csv.ReadOptions(
        use_threads=False
    )  # as fast here, and never seen to fail on a busy machine
    try:
        table = pa.csv.read_csv(pa.BufferReader(read_bytes(path)), one_thread, convert_options=as_text)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; it comes with the data set") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable CSV ({error}); download it again") from None
    if table.column_names[:2] != ["ID", "Label"]:
        raise UserError(f"{path}: its columns are {', '.join(table.column_names)}; expected ID,Label")
    identities = pc.utf8_trim_whitespace(table["ID"].combine_chunks())
    parts = pc.split_pattern(identities, "_", max_splits=1, reverse=True)
    first = parts.offsets.to_numpy()[:-1]
    two = pc.equal(pc.list_value_length(parts), 2).to_numpy(zero_copy_only=False)
    last = pc.take(parts.flatten(), pa.array(first + two))
    names = pc.fill_null(pc.index_in(last, pa.array(LABELS)), -1).to_numpy(zero_copy_only=False)
    odd = np.flatnonzero((names < 0) | ~two)
    if len(odd):
        raise UserError(
            f"{path}: data row {odd[0] + 1} has the ID {identities[int(odd[0])].as_py()!r}; "
            f"expected IMAGE_LABEL with one of the labels {', '.join(LABELS)}"
        )
    return pc.take(parts.flatten(), pa.array(first)), names, table["Label"].combine_chunks()


def _numbers(texts: pa.Array) -> np.ndarray:
    """int8: 0 or 1 as the text says, -1 where it says anything else. There are few different texts."""
    encoded = texts.dictionary_encode()
    values = [
        {"0": 0, "1": 1, "0.0": 0, "1.0": 1}.get(text.strip(), -1) for text in encoded.dictionary.to_pylist()
    ]
    return np.array([*values, -1], dtype=np.int8)[encoded.indices.to_numpy()]


def _pivot(
    path: Source, images: pa.Array, names: np.ndarray, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(images, 6) int8 and the image ids in the order of first mention."""
    encoded = images.dictionary_encode()
    image_ids = encoded.dictionary.to_pandas().to_numpy(dtype=object)
    cells = encoded.indices.to_numpy().astype(np.int64) * len(LABELS) + names
    table = np.full(len(image_ids) * len(LABELS), -1, dtype=np.int8)
    table[cells] = values
    conflict = np.flatnonzero(table[cells] != values)  # an earlier row says otherwise than the last one
    if len(conflict):
        image, label = divmod(int(cells[conflict[0]]), len(LABELS))
        raise UserError(
            f"{path}: {image_ids[image]}_{LABELS[label]} is given twice with different labels; keep one row"
        )
    missing = np.flatnonzero(table < 0)
    if len(missing):
        image, label = divmod(int(missing[0]), len(LABELS))
        raise UserError(
            f"{path}: {image_ids[image]} has no row for {LABELS[label]}; every image needs six rows"
        )
    return table.reshape(-1, len(LABELS)), image_ids
