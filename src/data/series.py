"""Series of a study: what their names say, their axial slices and steps, and which is preferred."""

import re

import numpy as np
import pandas as pd

from .geometry import is_axial, order_slices, positions

PREFERRED_STEP_MM = 5.0  # of the contest's slices
# What a name says a series is. A dose of contrast agent says it too, as in "4cc sec 150cc".
NAMES = {
    "contrast": re.compile(
        r"(?<![A-Z])POST(?!ERIOR|\W*FOSSA)|CECT|(?<!TEMP)ORAL|\bCT C\b|ANGIO|\bCTA\b|VENOUS|CONTRAST|"
        r"\d\s*CC\b",
        re.IGNORECASE,
    ),
    "bone kernel": re.compile(r"BONE|HRCT|SHARP|\bLUNG\b", re.IGNORECASE),
    "another region": re.compile(
        r"PNS|ORBIT|SINUS|TEMPORAL|\bIAC\b|NECK|SPINE|CHEST|THORAX|ABDOM|PELVI", re.IGNORECASE
    ),
    "reformatted": re.compile(r"(?<!D)3D|\bM[IP][PR]\b|CORONAL|SAGITTAL|\bVRT?\b|PERFUSION", re.IGNORECASE),
}
WITHOUT = re.compile(r"\b(?:PRE|NON|NO|W/?O|WITHOUT)[\W_]*CONTRAST", re.IGNORECASE)


def said_by(name: str) -> list[str]:
    """What a series' name says against it, in words of NAMES."""
    name = WITHOUT.sub("", name)
    return [what for what, words in NAMES.items() if words.search(name)]


def axial_extent(slices: pd.DataFrame) -> tuple[int, float, float]:
    """Of the usable slices of a series: how many are axial, their median step and their whole length in mm
    (NaN where there are fewer than two)."""
    axial = slices[is_axial(slices)] if len(slices) else slices
    if len(axial) < 2:
        return len(axial), np.nan, np.nan
    placed = axial.assign(position_mm=positions(axial))
    return len(axial), order_slices(placed)["step_mm"].median(), float(np.ptp(placed["position_mm"]))


def by_preference(series: pd.DataFrame) -> pd.DataFrame:
    """The table of series (columns series, slices, step_mm) in order: step nearest 5 mm, then most slices,
    then name."""
    distance = (series["step_mm"] - PREFERRED_STEP_MM).abs().round(1)
    keys = series.assign(distance=distance, fewer=-series["slices"])
    return series.loc[keys.sort_values(["distance", "fewer", "series"]).index]
