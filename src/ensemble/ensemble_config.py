"""ensemble.json: what is blended, how, and what a submission is clipped to."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ..config import StrictModel, load_config

StepName = Literal["temperature", "platt", "isotonic", "raise_any", "meet_any"]


class External(StrictModel):
    """Predictions made elsewhere, two CSV files in the contest's long form (ID,Label); relative paths are
    resolved against the folder of ensemble.json.
    """

    oof: str  # of every held-out training slice, each by a model that did not see its patient
    test: str  # of every test slice


class EnsembleConfig(StrictModel):
    """experiments/<name>/ensemble.json."""

    source: str = ""
    notes: str = ""
    members: tuple[str, ...] | None = None  # runs to blend; null: every run of the experiment
    external: dict[str, External] = Field(default={})  # name -> files; blended like runs, as external/<name>
    eliminate: bool = False  # first drop members while the ensemble is not worse outside the noise
    spaces: tuple[Literal["probability", "logit"], ...] = ("probability", "logit")  # to try, simplest first
    alternatives: tuple[Literal["greedy", "boosting"], ...] = ()  # to try after the exact weights
    # to try after the weights
    steps: tuple[StepName, ...] = ("temperature", "platt", "raise_any", "meet_any")
    # What an image that could not be read gets, where its place in the study is known: between the blend's
    # predictions of the slices beside it, what stackers trained with slice_dropout say, or the prevalence
    quarantined: Literal["interpolated", "neighbours", "prior"] = "interpolated"
    submission_eps: Annotated[float, Field(gt=0, lt=0.5)] = 1e-6
    replicates: Annotated[int, Field(ge=100)] = 1000  # of the patient-cluster bootstrap
    seed: int = 0


def load_ensemble(experiment: Path | str) -> EnsembleConfig:
    """Read ensemble.json from the folder of an experiment, paths made absolute."""
    folder = Path(experiment)
    config = load_config(EnsembleConfig, folder / "ensemble.json")
    external = {
        name: External(oof=str((folder / files.oof).resolve()), test=str((folder / files.test).resolve()))
        for name, files in config.external.items()
    }
    return config.model_copy(update={"external": external})
