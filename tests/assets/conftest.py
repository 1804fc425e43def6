import shutil

import pytest

from tests.assets.graph import Graph, paragraph
from tests.bundle.chain import draw_images


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    draw_images(folder)
    return folder


@pytest.fixture(scope="session")
def first_run(tmp_path_factory, pictures):
    """One run of everything; nobody changes its store: tests that do take ``graph``."""
    graph = Graph(tmp_path_factory.mktemp("first"))
    result = graph.materialize(pictures)
    assert result.success, paragraph(result)
    return graph, result


@pytest.fixture
def graph(first_run, tmp_path):
    """A copy of the first run, instance and store, to do with as one likes."""
    made, _ = first_run
    made.instance.dispose()
    shutil.copytree(made.store_path.parent, tmp_path, dirs_exist_ok=True)
    copied = Graph(tmp_path)
    yield copied
    copied.instance.dispose()
