"""What tests of training share."""

import pytest

from src.settings import Settings, load_settings
from tests.training.prepared import write_clean, write_settings


@pytest.fixture
def settings(tmp_path) -> Settings:
    """Folders of their own, and a small prepared data set in them."""
    settings = load_settings(write_settings(tmp_path))
    write_clean(settings.clean)
    return settings
