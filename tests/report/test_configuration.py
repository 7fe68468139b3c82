"""The reference of configuration keys is what the models say, and says something of every key."""

import pytest

from src.config_keys import sections
from src.report.configuration import PAGE, models, page
from tests.conftest import ROOT


def test_the_reference_is_up_to_date():
    assert (ROOT / PAGE).read_text(encoding="utf-8") == page(), "run: python -m src.report.configuration"


@pytest.mark.parametrize("model", models().values(), ids=lambda model: model.__name__)
def test_every_key_has_a_meaning(model):
    keys = [key for found in sections(model).values() for key in found]
    assert [key.name for key in keys if not key.meaning] == []
    assert len({(key.name, key.meaning) for key in keys}) == len(keys) > 3
