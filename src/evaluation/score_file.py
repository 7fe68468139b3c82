"""The score of a submission file against a label file, both in the contest's long form."""

from dataclasses import dataclass
from pathlib import Path

from ..data.contest_csv import read_long
from .metrics import SCORING_EPS, WEIGHTS, label_log_losses, prevalence_baseline


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
