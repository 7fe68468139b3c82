"""What the RSNA 2019 set looks like in numbers: what the `realistic` preset is drawn from.

Aggregates only, counted on public tables of the contest (Flanders et al., Radiology: Artificial Intelligence
2020;2:3, 10.1148/ryai.2020190211): the labels of 19,524 stage-1 training studies; position, scanner and
labels of the 2,213 complete studies of the stage-1 test part, of which 94 % come from padding scanners. The
shares of the scanners are those of the stage-2 training images; what else is said of scanners without padding
rests on 150 studies.
"""

from .scanner import Site

_CODED = ("epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural")
# stage-1 training studies with each set of subtypes, a digit for each of the five
_STUDIES = {
    **{"00000": 11524, "00001": 1371, "00010": 503, "00011": 312, "00100": 224, "00101": 87, "00110": 356},
    **{"00111": 185, "01000": 1086, "01001": 318, "01010": 435, "01011": 416, "01100": 1007, "01101": 163},
    **{"01110": 760, "01111": 464, "10000": 82, "10001": 32, "10010": 26, "10011": 15, "10100": 1},
    **{"10101": 3, "10110": 3, "10111": 7, "11000": 38, "11001": 23, "11010": 14, "11011": 17, "11100": 11},
    **{"11101": 6, "11110": 12, "11111": 23},
}
RECIPES = tuple(
    (tuple(label for label, digit in zip(_CODED, code, strict=True) if digit == "1"), float(count))
    for code, count in _STUDIES.items()
)

# stage-1 training and test patients with 1, 2, 3 ... studies; test patients who are in train
STUDIES_PER_PATIENT = (
    {1: 15539, 2: 1102, 3: 223, 4: 93, 5: 58, 6: 22, 7: 10, 8: 10, 9: 9, 10: 5, 11: 2, 15: 1},
    {1: 2088, 2: 44, 3: 8, 4: 2, 5: 1},
)
SHARED_PATIENTS = 285 / 2144
FOLLOW_UP = 0.79  # of pairs of studies of a patient 36 % both bleed, 10 % one: agreement beyond chance

# Slices of padded series (minimum of -2500 HU or less) bleed in 7.95 % of cases, others in 18.6 %; 40 % of
# the training images and 30.6 % of the stage-2 test images are padded.
PADDED = (0.40, 0.306)
PADDED_BLEEDS = 0.0795 / 0.186

# (steps of 2.5 mm at the base, steps of 5 mm above, studies), of the 2,167 studies without repeated positions
_EVEN = tuple(
    (0, steps, studies)
    for steps, studies in {23: 7, 27: 352, 29: 35, 31: 673, 33: 29, 35: 102, 37: 19, 39: 20}.items()
)
_THIN = tuple(
    (thin, steps, studies)
    for thin, row in {
        8: {31: 9},
        12: {31: 9},
        16: {19: 160, 21: 35, 23: 500, 25: 16, 27: 34},
        20: {19: 42, 23: 27},
        24: {19: 33, 23: 19},
        28: {19: 14, 23: 6},
        32: {27: 7},
        36: {19: 10},
    }.items()
    for steps, studies in row.items()
)
# of other scanners, of which little is known: these give the 34.5 slices a study of the whole contest, and
# its few long scans
_OTHERS = (
    *((0, 31, 40), (0, 35, 24), (0, 27, 9), (0, 29, 8), (0, 33, 6), (0, 39, 4)),
    *((16, 23, 3), (20, 27, 4), (24, 27, 2)),
)
# gantry tilt in degrees at 0, 5 ... 100 % of the tilted studies: 22 degrees is a third of them
_TILTS = (0.5, 7.5, 10, 12, 14, 15, 16.5, 17.5, 18.5, 19.5, 21, 21.7, 22, 22, 22, 22, 22, 22, 22, 23.9, 26)


def _signed(center: str, width: str, tilted: float, weight: float, protocols: tuple, **others) -> Site:
    """A scanner with 16 signed bits, intercept -1024."""
    usual = {"bits": 16, "signed": True, "intercept": -1024, "padded": False, "implicit": False}
    usual |= {"decimals": 6, "sharpness": 0.6, "tilts": _TILTS, "window": (center, width)}
    return Site(tilted=tilted, weight=weight, protocols=protocols, **(usual | others))


def _unsigned(center: str, tilted: float, weight: float, protocols: tuple, **others) -> Site:
    """A scanner with 12 unsigned bits, intercept -1024 and a window that is stated twice, 80 wide."""
    usual = {"bits": 12, "signed": False, "intercept": -1024, "padded": False, "implicit": False}
    window = ([center] * 2, ["80" if len(center) == 2 else "00080"] * 2)
    usual |= {"decimals": None, "sharpness": 0.5, "tilts": _TILTS, "window": window}
    return Site(tilted=tilted, weight=weight, protocols=protocols, **(usual | others))


SITES = (
    _signed("30", "80", 0.953, 37.7, _EVEN + _THIN, padded=True, sharpness=0.95),
    _signed("35", "100", 0.98, 2.3, _THIN, padded=True, sharpness=0.9),
    _signed("40", "150", 0.77, 6.9, _EVEN),
    _signed("35.000000", "135.000000", 0.0, 4.8, ((0, 35, 1),), sharpness=0.8),
    _signed("50", "100", 0.8, 1.6, _OTHERS),
    _signed("40", "110", 1.0, 0.9, _THIN),
    _signed("40", "100", 0.5, 0.9, _OTHERS),
    _unsigned("00036", 0.0, 28.5, _OTHERS, implicit=True, sharpness=0.1),
    _unsigned("00040", 0.93, 13.6, _EVEN),
    _unsigned("00047", 1.0, 0.5, _EVEN),
    _unsigned("40", 0.0, 0.8, _EVEN),
    _unsigned("00040", 0.8, 0.89, _EVEN, intercept=-1000),
    _signed("40", "80", 0.6, 0.39, _OTHERS, intercept=0, decimals=None),
    _unsigned("00040", 0.6, 0.31, _OTHERS, signed=True, intercept=0, implicit=True),
)
