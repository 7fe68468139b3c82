"""ensemble.json: what is blended, how, and what a submission is clipped to."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ..config import StrictModel, load_config
from ..errors import UserError

StepName = Literal["temperature", "platt", "isotonic", "raise_any", "meet_any"]


class External(StrictModel):
    """Predictions made elsewhere, CSV files in the contest's long form (ID,Label); relative paths are
    resolved against the folder of ensemble.json.

    With `oof` they are a member, weighed like the others. Without, they only join the test predictions, with
    a fixed `weight`: no held-out score can tell what they are worth.
    """

    oof: str | None = None  # of every held-out training slice, each by a model that did not see its patient
    test: str  # of every test slice
    weight: Annotated[float, Field(gt=0, lt=1)] | None = None

    @model_validator(mode="after")
    def oof_or_weight(self) -> Self:
        if (self.oof is None) == (self.weight is None):
            raise ValueError("give either oof, or a weight for test predictions alone")
        return self


class EnsembleConfig(StrictModel):
    """experiments/<name>/ensemble.json."""

    source: str = ""
    notes: str = ""
    # runs to blend, of any experiment (other/stage1/NAME); null: every run of this one
    members: tuple[str, ...] | None = None
    external: dict[str, External] = Field(default={})  # name -> files, as external/<name>
    spaces: tuple[Literal["probability", "logit"], ...] = ("probability", "logit")  # to try, simplest first
    alternatives: tuple[Literal["greedy", "boosting"], ...] = ()  # to try beside the exact weights
    # to try after the weights
    steps: tuple[StepName, ...] = ("temperature", "platt", "raise_any", "meet_any")
    # What an image that could not be read gets, where its place in the study is known: between the blend's
    # predictions of the slices beside it, what stackers trained with slice_dropout say, or the prevalence
    quarantined: Literal["interpolated", "neighbours", "prior"] = "interpolated"
    submission_eps: Annotated[float, Field(gt=0, lt=0.5)] = 1e-6
    replicates: Annotated[int, Field(ge=100)] = 1000  # of the patient-cluster bootstrap
    seed: int = 0

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
    if folder.is_dir() and not (folder / "ensemble.json").exists():
        raise UserError(f"{folder / 'ensemble.json'}: no such file; write {{}} there to blend every run")
    config = load_config(EnsembleConfig, folder / "ensemble.json")

    def absolute(files: External) -> External:
        paths = {key: str((folder / path).resolve()) for key, path in files if key != "weight" and path}
        return files.model_copy(update=paths)

    return config.model_copy(
        update={"external": {name: absolute(files) for name, files in config.external.items()}}
    )
