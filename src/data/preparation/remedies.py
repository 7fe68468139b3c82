"""What to do about an image that cannot be used, by the class of its cause (the text before the colon)."""

_AGAIN = "copy or download the file again"
_EXPORT = "have it exported again"
_NOTHING = "nothing to do: it is no axial CT slice"
_CORRECT = "correct the tag, or have it exported again"

REMEDIES = {
    **dict.fromkeys(("empty file", "truncated", "damaged pixels", "damaged zip member"), _AGAIN),
    **dict.fromkeys(("damaged zip archive", "unreadable DICOM", "unreadable NIfTI"), _AGAIN),
    **dict.fromkeys(("unreadable image", "bad header", "bad values"), f"{_AGAIN}, or take it away"),
    **dict.fromkeys(("missing tag", "bad tag", "zero size", "absurd size", "size mismatch"), _CORRECT),
    **dict.fromkeys(("localizer", "not CT", "non-axial", "other plane", "colour image"), _NOTHING),
    "unreadable file": "check the file and its permissions",
    "undecodable pixels": f"{_EXPORT} without compression",
    "not a file": "take it away",
    "not a DICOM file": "take it away, or convert it to DICOM",
    "other format": "convert it; pictures and a table of their labels: --dataset table --table FILE",
    "multi-frame": f"{_EXPORT} as one file an image",
    "not HU": f"{_EXPORT} in Hounsfield units",
    "not one volume": "store every volume in a file of its own",
    "wrong name": "give the file the name that belongs to it",
    "not in the table": "add its rows to the table, or take it away",
    "no file": "download the file, or take its rows out of the table",
    "several files": "name the right one in a column `path`, or take the others away",
    "unknown units": "say by window_center and window_width in a table which HU are black and white",
    "no study": "put it into its study's folder",
    "duplicate": "nothing to do: its copy is used",
    "duplicate image": "take the wrong copy away",
    "duplicate SOPInstanceUID": "take the wrong file away, or give each its own UID",
    "study of several patients": "correct PatientID, or give each patient's study its own UID",
    "other series": "nothing to do: one series of a study is used, see series.csv",
    "not the head": "nothing to do",
    "mask": "draw the mask on its image's own grid, or take it away",
}


def remedy(cause: str) -> str:
    """What a person can do about it."""
    return REMEDIES[cause.split(":")[0]]
