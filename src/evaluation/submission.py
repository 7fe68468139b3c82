"""The submission file: exactly the sample submission's rows in its order, probabilities clipped; and the
score of any such file.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..data.contest_csv import COLUMNS, LongRows, read_long, read_rows
from ..data.source import Source
from ..errors import UserError
from ..files import write_csv
from ..labels import LABELS
from .alignment import probability_values
from .metrics import SCORING_EPS, WEIGHTS, label_log_losses, prevalence_baseline


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


@dataclass(frozen=True)
class FileScore:
    """Weighted log loss and log loss of every label; `baseline`: the prevalence of the labels themselves."""

    images: int
    score: float
    baseline: float
    label_log_losses: dict[str, float]
    eps: float

    def text(self) -> str:
        """Aligned plain text for the terminal."""
        width = max(map(len, self.label_log_losses))
        lines = [
            f"weighted log loss {self.score:.6f}, eps {self.eps:g}, {self.images:,} images; "
            f"constant prevalence of these labels {self.baseline:.6f}",
            *(f"{label.ljust(width)}  {value:.6f}" for label, value in self.label_log_losses.items()),
        ]
        return "\n".join(lines)


def score_file(submission: Path | str, labels: Path | str) -> FileScore:
    """Both files must hold the same images, in any order; else UserError names the difference."""
    truth, predictions = read_long(labels, labels=True), read_long(submission, labels=False)
    losses = label_log_losses(truth, predictions)
    return FileScore(
        images=len(truth),
        score=float(losses.to_numpy() @ WEIGHTS),
        baseline=prevalence_baseline(truth),
        label_log_losses=losses.to_dict(),
        eps=SCORING_EPS,
    )
