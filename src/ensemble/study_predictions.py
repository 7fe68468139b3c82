"""What a run says of whole studies, whatever it predicts."""

import pandas as pd

from ..data.prepared import Prepared
from ..evaluation.metrics import study_maximum
from ..targets import KEYS
from ..training.runs import Run


def study_predictions(run: Run, part: str) -> pd.DataFrame:
    """Probabilities of a part, index study_id; of a run that predicts slices the highest of each study.

    So a study is above a threshold where any of its slices is.
    """
    predicted = run.predictions(part)
    if predicted.index.name == KEYS["study"]:
        return predicted
    studies = Prepared(run.settings.clean).slices.set_index("image_id")["study_id"]
    return study_maximum(predicted, studies)
