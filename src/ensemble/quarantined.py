"""What a test image gets that could not be read, and so was predicted by nobody."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from ..errors import UserError
from ..labels import LABELS
from ..training.missing import interpolate, with_quarantined
from .experiment import Experiment


def fill_quarantined(experiment: Experiment, image_ids: pd.Index) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The blend's probabilities for all `image_ids`, and a list of those filled in: image_id, cause, value.

    `value` is what ensemble.json asks for where an image's place among predicted slices is known, else
    `prior`, the prevalence of the training slices. Any other image without a prediction is a UserError.
    """
    slices, how = experiment.slices, experiment.config.quarantined
    causes = slices[slices["status"] == "quarantined"].set_index("image_id")["cause"]
    guessed = GUESSES[how](experiment)
    guessed = guessed[guessed.index.isin(image_ids)]
    known = pd.concat([experiment.blend.test, guessed])[list(LABELS)]
    missing = image_ids.difference(known.index, sort=False)
    unexplained = missing.difference(causes.index, sort=False)
    if len(unexplained):
        raise UserError(
            f"{len(unexplained)} images have no prediction and are not quarantined ({unexplained[0]}, ...); "
            "run predict.py on the whole test part"
        )
    prior = experiment.labels[list(LABELS)].mean().to_numpy(np.float64)
    constant = pd.DataFrame(np.tile(prior, (len(missing), 1)), missing, list(LABELS))
    filled = pd.concat([pd.Series("prior", missing), pd.Series(how, guessed.index)]).rename("value")
    listed = pd.concat([causes.loc[filled.index].rename("cause"), filled], axis=1)
    return pd.concat([known, constant]), listed.rename_axis("image_id").reset_index()


def interpolated_predictions(experiment: Experiment) -> pd.DataFrame:
    """Quarantined test images whose place is known: the blend's probabilities on the line between the nearest
    predicted slices to either side, beyond the ends those of the last one.
    """
    slices, known = experiment.slices, experiment.blend.test
    table = with_quarantined(slices[slices["image_id"].isin(known.index)], slices)
    study = table.groupby("study_id")["missing"].transform("any")
    guessed = [known[:0]]
    for _, rows in table[study].groupby("study_id"):
        missing = rows["missing"].to_numpy()
        values = interpolate(known.reindex(rows["image_id"]).to_numpy(), missing)
        guessed.append(pd.DataFrame(values, rows["image_id"], list(LABELS))[missing])
    return pd.concat(guessed)


def neighbour_predictions(experiment: Experiment) -> pd.DataFrame:
    """Quarantined test images by their neighbours: the mean of stackers trained with slice_dropout."""
    files = [run.folder / "missing.parquet" for run in experiment.runs]
    tables = [pd.read_parquet(file).set_index("image_id") for file in files if file.exists()]
    if not tables:
        raise UserError(
            "ensemble.json: quarantined is neighbours, but no stacker predicted missing slices; train one "
            "with slice_dropout, or set it to interpolated or prior"
        )
    return pd.concat(tables)[list(LABELS)].groupby(level=0).mean()


GUESSES: dict[str, Callable[[Experiment], pd.DataFrame]] = {
    "prior": lambda experiment: experiment.blend.test[:0],
    "interpolated": interpolated_predictions,
    "neighbours": neighbour_predictions,
}
