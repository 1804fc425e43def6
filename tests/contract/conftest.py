"""Fixtures of the contract: tiny images, what is made from them, and the graph on an empty store."""

import pytest

from tests.assets.graph import Graph
from tests.bundle.chain import draw_images
from tests.bundle.conftest import bundle, chain  # noqa: F401


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    draw_images(folder)
    return folder


@pytest.fixture
def empty(tmp_path):
    """The graph on a store in which nothing was ever made."""
    graph = Graph(tmp_path)
    yield graph
    graph.instance.dispose()
