"""What a run predicts: columns of an image or of a study, how logits become probabilities, what counts.

`hemorrhage` is the contest's six labels. `presence` (one column) and `presence_and_location` (presence, and
where present one of several sites) are those of the video and of the dual-task systems.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from .labels import LABEL_WEIGHTS, LABELS

Unit = Literal["image", "study"]  # what one row of predictions stands for
KEYS: dict[str, str] = {"image": "image_id", "study": "study_id"}
PRESENCE = "presence"
WHOLE = ("any", PRESENCE)  # columns that ask for any bleeding
SITES = ("deep", "lobar", "subtentorial")


@dataclass(frozen=True)
class Head:
    """Logits that belong together.

    exclusive: exactly one of the columns is true (softmax), else each is a question of its own (sigmoid);
    given: the column that must be true for this head to be asked; weights: of the columns in loss and score.
    """

    columns: tuple[str, ...]
    exclusive: bool = False
    given: str | None = None
    weights: tuple[float, ...] | None = None

    @property
    def shares(self) -> tuple[float, ...]:
        """Weights of the columns, with the sum 1."""
        weights = self.weights or (1.0,) * len(self.columns)
        return tuple(weight / sum(weights) for weight in weights)


@dataclass(frozen=True)
class Targets:
    """The heads of a network; every column belongs to one."""

    name: str
    heads: tuple[Head, ...]

    @cached_property
    def columns(self) -> tuple[str, ...]:
        return tuple(column for head in self.heads for column in head.columns)

    @cached_property
    def spans(self) -> tuple[slice, ...]:
        """Where the columns of every head lie."""
        ends = [sum(len(head.columns) for head in self.heads[: k + 1]) for k in range(len(self.heads))]
        return tuple(slice(end - len(h.columns), end) for end, h in zip(ends, self.heads, strict=True))


HEMORRHAGE = Targets("hemorrhage", (Head(LABELS, weights=tuple(LABEL_WEIGHTS[label] for label in LABELS)),))
TARGETS = ("hemorrhage", "presence", "presence_and_location")


def find_targets(name: str, sites: tuple[str, ...] = SITES) -> Targets:
    """One of TARGETS; `sites` are the columns of the location."""
    presence = Head((PRESENCE,))
    if name == "hemorrhage":
        return HEMORRHAGE
    if name == "presence":
        return Targets(name, (presence,))
    return Targets(name, (presence, Head(sites, exclusive=True, given=PRESENCE)))
