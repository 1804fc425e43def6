"""A toy training that was interrupted, for the tests of the resume state."""

import shutil

import pytest

from tests.hearing import heard
from tests.training.interrupt import RECIPE, fit_until
from tests.training.toy import fit, make_backbone, make_toy


@pytest.fixture(scope="session")
def toy():
    return make_toy()


@pytest.fixture(scope="session")
def backbone(tmp_path_factory):
    return make_backbone(tmp_path_factory.mktemp("backbone"))


@pytest.fixture(scope="session")
def undisturbed(toy, backbone, tmp_path_factory):
    """The digest of `RECIPE` without any resume state."""
    return fit(backbone, toy, tmp_path_factory.mktemp("undisturbed"), **RECIPE).to_artifact().digest


@pytest.fixture(scope="session")
def interrupted(toy, backbone, tmp_path_factory):
    """The resume state of `RECIPE` after two of four epochs; only to be copied."""
    directory = tmp_path_factory.mktemp("interrupted")
    fit_until(2, backbone, toy, directory / "out", resume=directory / "resume", **RECIPE)
    return directory / "resume"


@pytest.fixture
def resume(interrupted, tmp_path):
    return shutil.copytree(interrupted, tmp_path / "resume")


@pytest.fixture
def go_on(toy, backbone, tmp_path, resume):
    """Train on from `resume`; return the digest, the epochs that were trained, and the notices."""

    def run(**changes):
        reports, notices = [], []
        options = {**RECIPE, **changes}
        with heard(notices.append):
            checkpoint = fit(
                backbone, toy, tmp_path / "out", resume=resume, on_epoch=reports.append, **options
            )
        return checkpoint.to_artifact().digest, [report.epoch for report in reports], notices

    return run
