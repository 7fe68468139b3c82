"""What a configuration's keys are called, take and mean, in words."""

from typing import Annotated, Literal

import pytest
from pydantic import Field

from src.config import Count, Fraction, OneOf, Positive, StrictModel
from src.config_keys import Key, expected, known_keys, nearest, sections


class Inner(StrictModel):
    """What lies within."""

    share: Fraction
    """of
    everything"""


class Part(StrictModel):
    """A part.

    More of it.
    """

    sort: Annotated[str, OneOf({"plain": 1, "rich": 2})] = "plain"
    """how it looks"""
    side: Annotated[float, Field(gt=0, lt=1)] | Literal["head"] = 0.5


class Whole(Part):
    """The whole."""

    sizes: tuple[Count, ...] | None = None
    pair: tuple[float, Positive] = (1.0, 2.0)
    inner: Inner | None = None
    named: dict[str, Inner] = Field(default={})
    on: bool = True
    """what is done"""


def test_keys_stand_below_their_part_with_type_default_and_meaning():
    assert sections(Whole) == {
        "A part.": [
            Key("sort", '"plain" or "rich"', '"plain"', "how it looks"),
            Key("side", 'number above 0 below 1 or "head"', "0.5", ""),
        ],
        "The whole.": [
            Key("sizes", "list of whole numbers from 1 up or null", "null", ""),
            Key("pair", "[number, number above 0]", "[1.0, 2.0]", ""),
            Key("inner", "object or null", "null", ""),
            Key("inner.share", "number from 0 to 1", "", "of everything"),
            Key("named", "object", "{}", ""),
            Key("named.NAME.share", "number from 0 to 1", "", "of everything"),
            Key("on", "true or false", "true", "what is done"),
        ],
    }


@pytest.mark.parametrize(
    ("location", "words"),
    [
        (["sizes", 3], "whole number from 1 up"),
        (["pair", 1], "number above 0"),
        (["named", "x", "share"], "number from 0 to 1"),
        (["inner"], "object or null"),
    ],
)
def test_what_is_expected_somewhere_is_said_in_words(location, words):
    assert expected(Whole, location) == words


def test_an_object_within_has_its_own_keys():
    assert known_keys(Whole, ["inner"], ()) == known_keys(Whole, ["named", "x"], ()) == ["share"]
    assert known_keys(Whole, [], ())[:2] == ["sort", "side"]


def test_a_near_name_is_found_and_a_far_one_is_not():
    assert nearest("focl", ["metric", "focal"]) == "focal"
    assert nearest("zzz", ["metric", "focal"]) is None
