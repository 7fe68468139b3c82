"""The submission file: exactly the sample submission's rows in its order, probabilities clipped."""

from pathlib import Path

import numpy as np
import pandas as pd

from ..data.contest_csv import COLUMNS, LongRows, read_rows
from ..data.source import Source
from ..errors import UserError
from ..files import write_csv
from ..labels import LABELS
from .alignment import probability_values


def read_sample(path: Source) -> LongRows:
    """The sample submission: `.image_ids` in order of first appearance, and its rows in the file's order.

    Six rows for each image, none twice, or UserError.
    """
    rows = read_rows(path)
    count = np.bincount(rows.cell, minlength=len(rows.image_ids) * len(LABELS))
    wrong = np.flatnonzero(count != 1)
    if len(wrong):
        image, label = divmod(int(wrong[0]), len(LABELS))
        name = f"{rows.image_ids[image]}_{LABELS[label]}"
        raise UserError(
            f"{rows.source}: {name} stands {count[wrong[0]]} times; take the file as it was published"
        )
    return rows


def write_submission(
    path: Path | str, sample: LongRows, probabilities: pd.DataFrame, eps: float = 1e-6
) -> None:
    """Write `ID,Label` for every row of the sample, probabilities clipped to [eps, 1 - eps] in float64.

    `probabilities` must hold exactly the sample's images (any order) or UserError names the difference.
    """
    values = probability_values(probabilities, sample.image_ids, f"predictions for {sample.source}")
    label = pd.Index(LABELS).take(sample.label)
    frame = pd.DataFrame(
        {
            "ID": sample.image_ids.take(sample.image) + "_" + label,
            "Label": np.clip(values, eps, 1 - eps)[sample.image, sample.label],
        }
    )
    write_csv(path, frame)


def validate_submission(path: Source, sample: LongRows) -> pd.DataFrame:
    """Check a submission file against the sample and return its probabilities, one row an image.

    The two columns, the same IDs, none twice, every value a number in [0, 1]; the order is free.
    UserError names what differs.
    """
    rows = read_rows(path)
    if rows.columns != COLUMNS:
        raise UserError(f"{path}: the header is {','.join(rows.columns)}; expected ID,Label and no more")
    bad = np.flatnonzero(~((rows.value >= 0) & (rows.value <= 1)))
    if len(bad):
        found = "empty or NaN" if np.isnan(rows.value[bad[0]]) else f"{rows.value[bad[0]]:g}"
        raise UserError(f"{path}: {rows.name(bad[0])} is {found} ({len(bad)} such rows); expected [0, 1]")
    position = sample.image_ids.get_indexer(rows.image_ids)
    unknown = np.flatnonzero(position < 0)
    if len(unknown):
        raise UserError(
            f"{path}: {len(unknown)} images are not in {sample.source} ({rows.image_ids[unknown[0]]}, ...); "
            "predict the images of the sample submission"
        )
    cell = position[rows.image] * len(LABELS) + rows.label
    count = np.bincount(cell, minlength=len(sample.image_ids) * len(LABELS))
    for wrong, cause in ((count > 1, "stands twice"), (count == 0, "is missing")):
        if wrong.any():
            image, label = divmod(int(wrong.argmax()), len(LABELS))
            raise UserError(
                f"{path}: {sample.image_ids[image]}_{LABELS[label]} {cause} ({wrong.sum()} such IDs); "
                f"expected the {len(count)} rows of {sample.source}"
            )
    table = np.empty(len(count))
    table[cell] = rows.value
    return pd.DataFrame(table.reshape(-1, len(LABELS)), sample.image_ids, list(LABELS))


def fill_quarantined(
    probabilities: pd.DataFrame, image_ids: pd.Index, quarantined: pd.Series, prior: pd.Series
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Give the prior to images that could not be read, and to no others.

    quarantined: image_id -> cause; prior: LABELS -> probability.  Returns predictions for all `image_ids` and
    the list of those filled (image_id, cause).  Any other image without a prediction raises UserError.
    """
    missing = image_ids.difference(probabilities.index, sort=False)
    unexplained = missing.difference(quarantined.index, sort=False)
    if len(unexplained):
        raise UserError(
            f"{len(unexplained)} images have no prediction and are not quarantined ({unexplained[0]}, ...); "
            "run predict.py on the whole test part"
        )
    row = prior[list(LABELS)].to_numpy(np.float64)
    constant = pd.DataFrame(np.tile(row, (len(missing), 1)), missing, list(LABELS))
    listed = quarantined.loc[missing].rename("cause").rename_axis("image_id").reset_index()
    return pd.concat([probabilities[list(LABELS)], constant]), listed
