"""Intracranial hemorrhage detection on head CT: everything the scripts are made of.

Scripts and tests import this folder as `src`; installed, it is the package `ich`, whose door is `Predictor`.
Dependencies point one way: small files <- data <- models, evaluation <- training <- ensemble <- report <-
scripts; audit and phantom are leaves.
"""

from importlib import import_module
from typing import Any

from .torchvision_hook import install

install()


def __getattr__(name: str) -> Any:
    """`from ich import Predictor` loads what it needs, and only that asks for it."""
    if name == "Predictor":
        return import_module(".ensemble.answering.predictor", __name__).Predictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
