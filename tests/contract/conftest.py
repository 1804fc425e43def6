"""Fixtures of the contract: tiny images, and the real graph on a store of its own."""

import pytest

from tests.assets.graph import Graph
from tests.bundle.chain import draw_pictures


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    draw_pictures(folder)
    return folder


@pytest.fixture
def empty(tmp_path):
    """The graph on a store in which nothing was ever made."""
    graph = Graph(tmp_path)
    yield graph
    graph.instance.dispose()
