"""Intracranial hemorrhage detection on head CT: everything the scripts are made of.

Scripts and tests import this folder as `src`; installed, it is the package `ich`. Dependencies point one way:
small files <- data <- models, evaluation <- training <- ensemble <- report <- scripts; audit and phantom are
leaves.
"""

from .torchvision_hook import install

install()
