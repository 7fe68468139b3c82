"""Columns that nearly have the name of a known one: `PatientID` for patient_id, `SDH` for subdural."""

import difflib
import re
from collections.abc import Iterable

from ...labels import LABELS

ABBREVIATED = ("edh", "iph", "ivh", "sah", "sdh", "ich")  # the six labels, in their order
OTHERS = {
    "patient_id": ("patient", "subject", "pid"),
    "study_id": ("study", "exam", "scan"),
    "series_id": ("series",),
    "position_mm": ("position", "positionz", "zposition", "zmm", "z"),
    "split": ("subset", "partition"),
    "window_center": ("windowcenter", "windowcentre", "windowlevel"),
    "window_width": ("windowwidth",),
}
WORDS = OTHERS | {label: (label, short) for label, short in zip(LABELS, ABBREVIATED, strict=True)}
AROUND = re.compile(
    r"^(label|target|is|has)|(instanceuid|uid|id|name|label|target|ha?emorrhage|ha?ematoma|bleed|bleeding)$"
)
ALIKE = 0.85  # of difflib, from which on a word counts as misspelt


def meant(name: str) -> str | None:
    """The known column that an unknown name is near to, if one is."""
    letters = re.sub(r"[^a-z0-9]", "", name.lower())
    bare = AROUND.sub("", letters)
    for known, words in WORDS.items():
        if letters in words or bare in words:
            return known
    plain = {known.replace("_", ""): known for known in WORDS}
    found = difflib.get_close_matches(letters, plain, n=1, cutoff=ALIKE)
    return plain[found[0]] if found else None


def near_misses(names: Iterable[str], present: Iterable[str]) -> dict[str, str]:
    """Unknown names -> the known columns they seem to be, of those that are not there."""
    there = set(present)
    found = {name: meant(name) for name in names}
    return {name: known for name, known in found.items() if known is not None and known not in there}
