import pytest

from tests.assets import graph as graphs


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    return graphs.first_images(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def first_run(tmp_path_factory):
    """One run of everything; nobody changes its store: tests that do take `graph`."""
    return graphs.first_run(tmp_path_factory.getbasetemp())


@pytest.fixture
def graph(first_run, tmp_path):
    """A copy of the first run, instance and store, to do with as one likes."""
    made, _ = first_run
    made.instance.dispose()
    copied = graphs.copy_of(made, tmp_path)
    yield copied
    copied.instance.dispose()
