"""The number of trials of a claim: few in every test run, many in `make claims`."""

import os

import pytest


@pytest.fixture(scope="session")
def trials():
    return 10_000 if os.environ.get("CLAIMS") == "long" else 2_000
