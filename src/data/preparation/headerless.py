"""Header rows for images that have no DICOM header, in the columns of `dicom.scan_headers`; what is unknown
is null.
"""

import pandas as pd

from ..dicom import scan_headers


def headerless(sequence: list[int], shapes: list[tuple[int, int]]) -> pd.DataFrame:
    """One row per image; `sequence` is its number within the study, which alone gives the order."""
    table = scan_headers([]).reindex(range(len(sequence)))
    table["sop_instance_uid"] = [
        f"{number:08d}" for number in sequence
    ]  # orders slices that have no position
    table["rows"] = pd.array([rows for rows, _ in shapes], dtype="Int32")
    table["columns"] = pd.array([columns for _, columns in shapes], dtype="Int32")
    return table
