"""The exact commands that make a result again: preparation, every run blended, prediction, ensemble."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..config import read_values
from ..data.preparation.options import Options
from ..data.prepared import FOLDS, Prepared
from ..files import file_sha256
from ..settings import Settings
from ..training.kinds import set_flags
from ..training.runs import folds_of
from .ensemble_config import External


def reproduction_commands(
    settings: Settings,
    experiment: Path,
    members: Sequence[str],
    external: Mapping[str, External],
) -> list[str]:
    """Lines of a shell script; `members` are the runs the blend was fitted on, with weight or without: what
    is chosen depends on all of them. `experiment` is the folder as given.

    Keys that a run was trained with and its file does not say now are given by --set; a file that is gone is
    named in a comment. What was made elsewhere (predictions, weights, soft labels) has no command: its files
    are checked by SHA-256.
    """
    root, tail = experiment.parent, settings.flag
    runs = _with_their_inputs(settings, [m for m in members if not m.startswith("external/")])
    read = [file for files in external.values() for file in (files.oof, files.test) if file is not None]
    given = {file: file_sha256(file) for file in read}
    for name in runs:
        for run in folds_of(settings, name):
            given |= run.made_from["weights"]
    lines = [_check(file, digest) for file, digest in given.items()]
    prepared = Prepared(settings.clean)
    # folds of data that grew are not what the same data would get at once
    folds = {"folds_file": settings.clean / FOLDS} if prepared.manifest.get("folds_grew") else {}
    lines.append(f"python prepare_data.py{_prepare_flags(prepared.settings | folds)}{tail}")
    for name in runs:
        lines.extend(_training(settings, root, name, tail))
    for other in dict.fromkeys(name.split("/")[0] for name in runs):
        lines.append(f"python predict.py {shlex.quote(str(root / other))}{tail}")
    lines.append(f"python ensemble.py {shlex.quote(str(experiment))}{tail}")
    return lines


def _check(file: str, digest: str) -> str:
    """A line that fails unless the file is the one that was read."""
    return f"echo {shlex.quote(f'{digest}  {file}')} | sha256sum --check"


def _with_their_inputs(settings: Settings, members: Sequence[str]) -> list[str]:
    """Runs in the order they must be trained: stage 1, also what stacked runs read, then stage 2."""
    first, second = [], []
    for name in members:
        run = folds_of(settings, name)[0]
        if run.stage == "stage2":
            second.append(name)
            first.extend(read_values(run.require("config.json"))["members"])
        else:
            first.append(name)
    return [*dict.fromkeys(sorted(first)), *second]


def _training(settings: Settings, root: Path, name: str, tail: str) -> list[str]:
    runs = folds_of(settings, name)
    run, file = runs[0], root / f"{name}.json"
    lines, overrides = [], ""
    if file.exists():
        overrides = set_flags(run, file)
    else:
        lines.append(f"# {file} is gone; its content: {run.folder / 'config.json'}")
    command = f"python train_{run.stage}.py {shlex.quote(str(file))}{overrides}"
    everything = set(Prepared(settings.clean).folds["fold"]) == {r.fold for r in runs}
    return [*lines, *([command + tail] if everything else [f"{command} --fold {r.fold}{tail}" for r in runs])]


def _prepare_flags(options: dict[str, Any]) -> str:
    """Flags for whatever differs from prepare_data.py's defaults."""
    flags, defaults = [], Options().recorded
    for name, value in options.items():
        if value is True:
            flags.append(f" --{name.replace('_', '-')}")
        elif value not in (None, False) and value != defaults.get(name):
            flags.append(f" --{name.replace('_', '-')} {shlex.quote(str(value))}")
    return "".join(flags)
