"""Fixtures of the contract: tiny images, what is made from them, and the graph on an empty store."""

import pytest

from tests.assets.graph import Graph, first_images, first_run
from tests.bundle.conftest import bundle, chain  # noqa: F401


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    return first_images(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory):
    """One run of everything on them and its result. Nobody writes there."""
    return first_run(tmp_path_factory.getbasetemp())


@pytest.fixture
def empty(tmp_path):
    """The graph on a store in which nothing was ever made."""
    graph = Graph(tmp_path)
    yield graph
    graph.instance.dispose()
