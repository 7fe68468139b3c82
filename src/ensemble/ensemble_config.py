"""ensemble.json: what is blended, how, and what a submission is clipped to."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from ..config import OneOf, StrictModel, load_config
from ..evaluation.adjustments import STEPS
from ..evaluation.blend import ALTERNATIVES
from ..evaluation.spaces import SPACES

FILLINGS = ("interpolated", "neighbours", "prior")


class External(StrictModel):
    """Predictions made elsewhere, two CSV files in the contest's long form (ID,Label); relative paths are
    resolved against the folder of ensemble.json.
    """

    oof: str
    """file: every held-out training slice, each by a model that did not see its patient"""
    test: str
    """file: every test slice"""


class EnsembleConfig(StrictModel):
    """The blend of an experiment."""

    source: str = ""
    """the publication or repository a recipe follows"""
    notes: str = ""
    """whatever a reader should know"""
    members: tuple[str, ...] | None = None
    """runs to blend; null: every run of the experiment"""
    external: dict[str, External] = Field(default={})
    """predictions made elsewhere, CSV files by name; blended like runs, as external/NAME"""
    eliminate: bool = False
    """first drop members while the ensemble is not worse outside the noise"""
    spaces: tuple[Annotated[str, OneOf(SPACES)], ...] = ("probability", "logit")
    """where members are averaged: the spaces to try, simplest first"""
    alternatives: tuple[Annotated[str, OneOf(ALTERNATIVES)], ...] = ()
    """other ways to combine members, to try after the exact weights"""
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


def load_ensemble(experiment: Path | str) -> EnsembleConfig:
    """Read ensemble.json from the folder of an experiment, paths made absolute."""
    folder = Path(experiment)
    config = load_config(EnsembleConfig, folder / "ensemble.json")
    external = {
        name: External(oof=str((folder / files.oof).resolve()), test=str((folder / files.test).resolve()))
        for name, files in config.external.items()
    }
    return config.model_copy(update={"external": external})
