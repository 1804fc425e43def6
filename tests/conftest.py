"""For every test: property tests take their time, because the first example pays for heavy imports."""

import pytest
from hypothesis import settings

from tests.hearing import heard

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture
def notices():
    """The lines that the core logs during the test, in a list that grows."""
    lines = []
    with heard(lines.append):
        yield lines


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Begin with the files of long tests, so that no process ends up alone with one of them."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)
