"""The claims of the systems over several seeds: training anew is the noise that no patient interval shows."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...files import write_json
from ...report.tables import markdown_table
from ...settings import Settings, SettingsFile

APART = 100  # seeds of one configuration are this far apart, as some configurations name one of their own
# Where a result has claims -> what their differences are of, as key and in words.
MEASURES = {
    "claims": ("difference", "weighted log loss"),
    "study_claims": ("difference", "study AUC"),
    "target_claims": ("log_loss", "log loss of the head"),
}


def settings_of(settings: Settings, seed: int) -> Settings:
    """Seed 0 has the folders of `settings`, any other its own below them, named by a settings file there."""
    if seed == 0:
        return settings
    folders = {key: getattr(settings, key) / "seeds" / str(seed) for key in ("models", "checkpoints", "logs")}
    own = replace(settings, file=folders["models"] / "SETTINGS.json", **folders)
    paths = zip(SettingsFile.model_fields, (own.raw, own.clean, own.models, own.checkpoints, own.logs,
                                            own.submissions), strict=True)  # fmt: skip
    write_json(own.file, {key: str(path) for key, path in paths})
    return own


def over_seeds(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row a claim: its difference in the result of every seed."""
    rows = []
    for key, (measure, words) in MEASURES.items():
        for same in zip(*(result[key] for result in results), strict=True):
            row = {name: same[0][name] for name in ("claim", "run", "reference")}
            rows.append(row | {"measure": words, "differences": [claim[measure] for claim in same]})
    return rows


def seeds_page(rows: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> list[str]:
    """The lines of the page on these rows."""
    return [
        f"## The claims over seeds {', '.join(map(str, seeds))}",
        "",
        "Every network trained anew from each seed on the same folds. The mean difference, its range over "
        "the seeds, and in how many of them the patient interval leaves out 0 below and above it.",
        "",
        markdown_table(
            ("claim", "run", "against", "difference of the", "mean", "range", "below 0", "above 0"),
            [_cells(row) for row in rows], "llllrrrr",
        ),
        "",
    ]  # fmt: skip


def _cells(row: Mapping[str, Any]) -> list[str]:
    estimate, low, high = np.array(row["differences"]).T
    return [
        *(row[key] for key in ("claim", "run", "reference", "measure")),
        f"{estimate.mean():+.4f}",
        f"{estimate.min():+.4f} to {estimate.max():+.4f}",
        f"{(high < 0).sum()} of {len(estimate)}",
        f"{(low > 0).sum()} of {len(estimate)}",
    ]
