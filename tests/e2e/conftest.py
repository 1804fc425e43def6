"""One run of everything through the real command line, of which each test gets a copy."""

import shutil

import pytest

from tests.bundle.chain import draw_images
from tests.e2e.place import Place, activate_file


@pytest.fixture(scope="session")
def activate(tmp_path_factory):
    """The script that a person sources before anything else."""
    return activate_file(tmp_path_factory.mktemp("environment"))


@pytest.fixture(scope="session")
def tiny_pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    draw_images(folder)
    return folder


@pytest.fixture(scope="session")
def first_run(tmp_path_factory, tiny_pictures, activate):
    """The place where everything was materialized, and what the terminal showed. Nobody writes here."""
    place = Place(tmp_path_factory.mktemp("first"), tiny_pictures, activate)
    finished = place.run("dagster", "asset", "materialize", "--select", "*bundle", "-c", place.preset())
    assert finished.code == 0, finished.terminal
    return place, finished


@pytest.fixture
def place(first_run, tmp_path):
    """A copy of that place, which a test may change."""
    made, _ = first_run
    shutil.copytree(made.root, tmp_path / "place")
    return Place(tmp_path / "place", made.pictures, made.activate)


@pytest.fixture
def new_place(tmp_path, tiny_pictures, activate):
    """A place where nothing was ever materialized."""
    return Place(tmp_path / "new", tiny_pictures, activate)
