"""ensemble.json: what is blended, how, and what a submission is clipped to."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from ..config import OneOf, StrictModel, load_config
from ..errors import UserError
from ..evaluation.blend import ALTERNATIVES
from ..evaluation.blending.adjustments import STEPS
from ..evaluation.blending.members import SPACES
from ..training.runs import no_experiment

FILLINGS = ("interpolated", "neighbours", "prior")


class External(StrictModel):
    """Predictions made elsewhere, CSV files in the contest's long form (ID,Label); relative paths are
    resolved against the folder of ensemble.json.

    With `oof` they are a member, weighed like the others. Without, they only join the test predictions, with
    a fixed `weight`: no held-out score can tell what they are worth.
    """

    oof: str | None = None
    """file: every held-out training slice, each by a model that did not see its patient"""
    test: str
    """file: every test slice"""
    weight: Annotated[float, Field(gt=0, lt=1)] | None = None
    """share of test predictions that have no held-out ones"""

    @model_validator(mode="after")
    def oof_or_weight(self) -> Self:
        if (self.oof is None) == (self.weight is None):
            raise ValueError("give either oof, or a weight for test predictions alone")
        return self


class EnsembleConfig(StrictModel):
    """The blend of an experiment."""

    source: str = ""
    """the publication or repository a recipe follows"""
    notes: str = ""
    """whatever a reader should know"""
    members: tuple[str, ...] | None = None
    """runs to blend, of any experiment (other/stage1/NAME); null: every run of this one"""
    external: dict[str, External] = Field(default={})
    """predictions made elsewhere, CSV files by name; blended like runs, as external/NAME"""
    spaces: tuple[Annotated[str, OneOf(SPACES)], ...] = ("probability", "logit")
    """where members are averaged: the spaces to try, simplest first"""
    alternatives: tuple[Annotated[str, OneOf(ALTERNATIVES)], ...] = ()
    """other ways to combine members, to try beside the exact weights"""
    steps: tuple[Annotated[str, OneOf(STEPS)], ...] = ("temperature", "platt", "raise_any", "meet_any")
    """calibrations and bounds to try after the weights"""
    quarantined: Annotated[str, OneOf(FILLINGS)] = "interpolated"
    """what an image that could not be read gets, where its place in the study is known: a value between the
    blend's of the slices beside it, what stackers trained with slice_dropout say, or the prevalence"""
    submission_eps: Annotated[float, Field(gt=0, lt=0.5)] = 1e-6
    """a submission's probabilities are clipped to this and 1 minus this"""
    replicates: Annotated[int, Field(ge=100)] = 1000
    """replicates of the patient-cluster bootstrap"""
    seed: int = 0
    """fixes the bootstrap and the folds of patients"""

    @model_validator(mode="after")
    def something_is_left_to_blend(self) -> Self:
        if sum(self.fixed.values()) >= 1:
            raise ValueError("the weights of external test predictions must sum to less than 1")
        return self

    @property
    def fixed(self) -> dict[str, float]:
        """external/<name> -> weight, of those without held-out predictions."""
        return {f"external/{name}": e.weight for name, e in self.external.items() if e.weight is not None}


def load_ensemble(experiment: Path | str) -> EnsembleConfig:
    """Read ensemble.json from the folder of an experiment, paths made absolute."""
    folder = Path(experiment)
    if not folder.exists():
        raise no_experiment(folder)
    if folder.is_dir() and not (folder / "ensemble.json").exists():
        raise UserError(f"{folder / 'ensemble.json'}: no such file; write {{}} there to blend every run")
    config = load_config(EnsembleConfig, folder / "ensemble.json")

    def absolute(files: External) -> External:
        paths = {key: str((folder / path).resolve()) for key, path in files if key != "weight" and path}
        return files.model_copy(update=paths)

    return config.model_copy(
        update={"external": {name: absolute(files) for name, files in config.external.items()}}
    )


def named_members(experiment: Path | str) -> tuple[str, ...] | None:
    """The `members` of an experiment's ensemble.json; None where it names none, or is not there."""
    file = Path(experiment) / "ensemble.json"
    return load_ensemble(experiment).members if file.exists() else None
