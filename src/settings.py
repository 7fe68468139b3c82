"""SETTINGS.json: the only place with directories.  The six keys of Kaggle's winning-model guideline."""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from .config import StrictModel, load_config


class SettingsFile(StrictModel):
    """The file as written; relative paths are resolved against the folder of the file."""

    RAW_DATA_DIR: str
    CLEAN_DATA_DIR: str
    MODEL_DIR: str
    CHECKPOINT_DIR: str
    LOGS_DIR: str
    SUBMISSION_DIR: str


@dataclass(frozen=True)
class Settings:
    """Absolute folders. `raw` is never written to."""

    file: Path
    raw: Path
    clean: Path
    models: Path
    checkpoints: Path
    logs: Path
    submissions: Path

    @property
    def flag(self) -> str:
        """` --settings FILE` for a command to be pasted; nothing where it is the default."""
        if self.file == Path("SETTINGS.json").resolve():
            return ""
        here = Path.cwd()
        shown = os.path.relpath(self.file) if self.file.is_relative_to(here) else str(self.file)
        return f" --settings {shlex.quote(shown)}"


def load_settings(path: Path | str) -> Settings:
    """Read SETTINGS.json; a missing or unknown key raises UserError."""
    file = load_config(SettingsFile, path)
    root = Path(path).resolve().parent

    def folder(value: str) -> Path:
        return (root / Path(value).expanduser()).resolve()

    return Settings(
        file=Path(path).resolve(),
        raw=folder(file.RAW_DATA_DIR),
        clean=folder(file.CLEAN_DATA_DIR),
        models=folder(file.MODEL_DIR),
        checkpoints=folder(file.CHECKPOINT_DIR),
        logs=folder(file.LOGS_DIR),
        submissions=folder(file.SUBMISSION_DIR),
    )
