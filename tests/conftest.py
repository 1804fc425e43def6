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
