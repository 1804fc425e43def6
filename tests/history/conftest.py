import pytest

from streetvision_core.io import ArtifactStore, system
from tests.history.made import copy_store, make, make_run

FIRST, SECOND, THIRD = "20261121T090000-aaaaaaaa", "20261121T100000-bbbbbbbb", "20261122T110000-cccccccc"


@pytest.fixture(autouse=True, scope="package")
def hasty():
    """Leave out the flushes: what survives a power cut is tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(system, "THIS_SYSTEM", system.System(lambda _: None))
        yield


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    """Three runs: the second trains differently and reuses what comes before, the third makes splits only."""
    store = ArtifactStore(tmp_path_factory.mktemp("history") / "store")
    make_run(store, FIRST)
    make_run(store, SECOND, configs={"phase1_checkpoint": {"learning_rate": 0.01}})
    make(store, THIRD, "splits", config={"seed": 1})
    return store


@pytest.fixture
def store(template, tmp_path):
    return copy_store(template, tmp_path / "store")


@pytest.fixture
def empty(tmp_path):
    return ArtifactStore(tmp_path / "store")
