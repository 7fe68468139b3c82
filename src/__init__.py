"""Intracranial hemorrhage detection on head CT: everything the five scripts are made of.

Scripts and tests import this folder as `src`; installed, it is the package `ich`. Dependencies point one way:
labels, settings, config <- data <- models <- training <- evaluation <- report <- scripts.
"""

from .torchvision_hook import install

install()
