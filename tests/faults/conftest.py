"""A worker and places for it to fail in. Who lacks the rights for that skips, and says what it skips."""

import shutil
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from streetvision_core.io import StepRun, describe_step
from tests.faults import disk, scenarios, strace


@pytest.fixture(scope="session")
def scratch():
    """A directory that other users may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.fixture(scope="session")
def mounts(scratch):
    if reason := disk.why_not(scratch):
        pytest.skip(
            f"NOT TESTED: full, read-only and powerless disks; no file system can be mounted: {reason}"
        )


@pytest.fixture(scope="session")
def straced():
    if reason := strace.why_not():
        pytest.skip(f"NOT TESTED: kills and errors at every system call; strace cannot be used: {reason}")


@pytest.fixture(scope="session")
def worker(mounts, scratch):
    moment = datetime.now(tz=UTC)
    manifest = describe_step(
        StepRun(step_name="images", run_id="template", outputs={}, started=moment, finished=moment)
    )
    worker = strace.Worker(manifest.to_bytes().decode(), scratch / "strace.log")
    yield worker
    worker.close()


@pytest.fixture
def memory(mounts, scratch):
    """A directory in memory: as good as a disk for errors and kills, and faster."""
    with disk.tmpfs(scratch / "memory") as directory:
        yield directory


@pytest.fixture(scope="session")
def templates():
    return {}


@pytest.fixture
def prepare(worker, scratch, templates):
    """Make a directory in which a scenario has left "old", durable, so that the next can write "new"."""

    def prepared(directory, scenario):
        if scenario not in templates:
            (template := scratch / f"template-{scenario}").mkdir()
            assert worker.run(scenario, template, "old").has_returned
            assert scenarios.label_in(template, scenario) == "old"
            templates[scenario] = template
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(templates[scenario], directory)
        subprocess.run(["sync", "-f", directory], check=True)
        return directory

    return prepared
