import tarfile
from pathlib import Path

import pytest

from streetvision_core.io import ArtifactStore

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def golden_705fcbb(tmp_path_factory):
    """The store that commit 705fcbb wrote. Nobody writes here: tests that do copy it first."""
    folder = tmp_path_factory.mktemp("golden")
    with tarfile.open(HERE / "705fcbb.tar.xz") as packed:
        packed.extractall(folder, filter="data")
    return ArtifactStore(folder / "store")
