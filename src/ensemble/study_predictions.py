"""What a run says of whole studies, whatever its kind: how a network on slices and one on studies compare."""

import pandas as pd

from ..data.prepared import Prepared
from ..evaluation.metrics import study_maximum
from ..targets import KEYS, WHOLE
from ..training.runs import Run


def study_predictions(
    run: Run, part: str, prepared: Prepared | None = None, column: str | None = None
) -> pd.Series:
    """study_id -> probability of a column (default: any bleeding) in the part "oof" or "test" of one fold.

    A run on studies says it itself. Of a run on slices it is the maximum over a study's slices, so that a
    threshold calls a study positive where it calls any of its slices positive. prepared: the data of the
    slices (default: CLEAN_DATA_DIR of the run's settings).
    """
    predicted = run.predictions(part)
    column = column or next(name for name in predicted if name in WHOLE)
    if predicted.index.name == KEYS["image"]:
        slices = (prepared or Prepared(run.settings.clean)).slices
        predicted = study_maximum(predicted[[column]], slices.set_index("image_id")["study_id"])
    return predicted[column].sort_index()
