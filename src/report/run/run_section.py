"""What the report says about the training runs: scores by fold, time, and what the numbers were made with."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from ...training.runs import Run
from ..figures import learning_figure

FACTS = {
    "git": "code",
    "made_from": "data",
    "device": "device",
    "python": "Python",
    "torch": "PyTorch",
    "opencv": "OpenCV",
    "threads": "threads",
    "seed": "seed",
    "pretrained": "started from",
}


def run_rows(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """One row a run: its folds in order with score and seconds, and the learning curves by fold."""
    rows: dict[str, dict[str, Any]] = {}
    for run in runs:
        metrics = run.metrics()
        row = rows.setdefault(
            run.name, {"name": run.name, "stage": run.stage, "folds": {}, "seconds": {}, "histories": {}}
        )
        row["folds"][run.fold] = metrics["score"]
        row["seconds"][run.fold] = metrics["seconds"]
        if metrics["history"]:
            row["histories"][run.fold] = metrics["history"]
    return list(rows.values())


def learning_figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, Markup]:
    """Run -> picture of its learning curves, of the runs that trained by epochs."""
    return {
        row["name"]: learning_figure(row["name"], row["stage"], row["histories"])
        for row in rows
        if row["histories"]
    }


def provenance(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Name of a fact -> its distinct values over all run folders; more than one value deserves a look."""
    everything = [run.metrics() for run in runs]
    facts = {}
    for key, name in FACTS.items():
        values = {_said(key, m[key]) for m in everything if m.get(key) is not None}
        if values:
            facts[name] = sorted(values)
    return facts


def _said(key: str, value: Any) -> str:
    if key == "pretrained":  # a hub's weights have a name and a licence, a file has its own name
        if "trunks" in value:  # of a Scopeformer, which without any is a transformer that starts at random
            return " + ".join(_said(key, trunk) for trunk in value["trunks"]) or "random"
        licence = value.get("licence")
        return value.get("name", value["source"]) + (f" ({licence})" if licence else "")
    if key == "made_from":
        return value["data"]
    return str(value)[:12] if key == "git" else str(value)


def duration(seconds: float) -> str:
    """`4.7 s`, `47 s`, `12 min 05 s`, `3 h 20 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
