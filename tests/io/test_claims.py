"""Processes at work in the store, told apart from those that were killed there."""

import os
import shutil
import signal
import subprocess
import sys

import pytest

from streetvision_core.errors import StoreError
from streetvision_core.history.scan import run_ids
from streetvision_core.io import ArtifactStore, write_file_atomic
from streetvision_core.io.claims import abandoned, claim, clear_abandoned, forget_progress, release
from tests.io.test_store import FILES, publish

STAGES = """
import sys
from pathlib import Path
from streetvision_core.io import ArtifactStore
store = ArtifactStore(Path(sys.argv[1]))
(store.stage("old", "images") / "half").write_bytes(b"half")
print("staged", flush=True)
if sys.stdin.readline():
    from tests.io.test_store import publish
    directory = store.directory("old", "images")
    (directory / "half").unlink()
    publish(store, run_id="old", directory=directory)
"""


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path / "store")


@pytest.fixture
def other_process(store):
    """A process that has staged `images` in the run `old`; it publishes when it is told a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", STAGES, store.root], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "staged\n"
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_what_a_killed_process_left_is_swept_by_the_next_run(store, other_process):
    half_made = store.directory("old", "images")
    os.kill(other_process.pid, signal.SIGKILL)
    other_process.wait()
    assert half_made.exists()
    store.stage("new", "images")
    assert not half_made.exists()
    assert list(half_made.parent.iterdir()) == []


def test_what_a_living_process_is_making_is_left_alone_and_can_be_published(store, other_process):
    publish(store, run_id="new")
    assert (store.directory("old", "images") / "half").exists()
    other_process.stdin.write("go on\n")
    other_process.stdin.flush()
    assert other_process.wait() == 0
    assert store.resolve("images", run_id="old").problems() == []
    assert store.resolve("images", run_id="new").problems() == []


def test_a_run_that_is_between_two_steps_is_known_to_be_at_work(store, other_process):
    run = store.root / "runs" / "old"
    with abandoned(run) as free:
        assert not free
    publish(store, run_id="new")  # sweeps, and leaves the claim of the living run alone
    with abandoned(run) as free:
        assert not free
    assert run_ids(store.root) == ["new", "old"]
    os.kill(other_process.pid, signal.SIGKILL)
    other_process.wait()
    with abandoned(run) as free:
        assert free
    store.sweep()
    assert not (store.root / "runs" / ".old.claim").exists()


def test_two_processes_never_stage_the_same_step_of_the_same_run(store, other_process):
    with pytest.raises(StoreError, match="another process is at it"):
        store.stage("old", "images")
    assert (store.directory("old", "images") / "half").exists()


def test_a_temporary_pointer_of_a_killed_process_is_swept(store):
    publish(store)
    for place in (store.root / "latest", store.root / "keys" / "images"):
        (place / ".images.json.0123456789abcdef.partial").write_bytes(b"{")
    store.stage("r2", "images")
    assert list(store.root.rglob("*.partial")) == []


def test_a_publication_gives_its_claim_back(store):
    publish(store)
    assert list(store.root.glob("runs/*/.*.claim")) == []


def test_a_claim_keeps_others_out_until_it_is_given_back(tmp_path):
    work = tmp_path / "work"
    claim(work)
    claim(work)  # by the same process: it has it already
    with abandoned(work) as free:
        assert not free
    clear_abandoned(tmp_path, root=tmp_path)
    assert (tmp_path / ".work.claim").exists()
    release(work)
    with abandoned(work) as free:
        assert free
    assert list(tmp_path.iterdir()) == []


def test_a_claim_file_without_its_process_means_nothing(tmp_path):
    (tmp_path / ".work.claim").touch()
    with abandoned(tmp_path / "work") as free:
        assert free
    clear_abandoned(tmp_path, root=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_store_is_held_by_one_at_a_time(store):
    held = f"""
import sys
from pathlib import Path
from streetvision_core.io import ArtifactStore
with ArtifactStore(Path({str(store.root)!r})).exclusive():
    print("held", flush=True)
    sys.stdin.readline()
    print("given back", flush=True)
"""
    other = subprocess.Popen(
        [sys.executable, "-c", held], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout.readline() == "held\n"
        other.stdin.write("\n")
        other.stdin.flush()
        with store.exclusive():
            assert other.stdout.readline() == "given back\n"
    finally:
        other.kill()
        other.wait()
        other.stdin.close()
        other.stdout.close()


def test_progress_that_somebody_is_at_stays_and_goes_with_its_last_user(store):
    from filelock import FileLock

    directory = store.resume_directory("phase1_checkpoint", "0" * 64)
    write_file_atomic(directory / "state.json", b"{}")
    with FileLock(directory / ".lock", is_singleton=False):
        forget_progress(directory, root=store.root)
        assert (directory / "state.json").exists()
    forget_progress(directory, root=store.root)
    assert not directory.exists()
    forget_progress(directory, root=store.root)  # gone already


def test_sweeping_an_empty_place_is_no_error(tmp_path):
    ArtifactStore(tmp_path / "nowhere").sweep()
    assert not (tmp_path / "nowhere").exists()


def test_a_published_step_is_never_swept(store):
    published = publish(store)
    shutil.rmtree(store.root / "latest")
    store.sweep()
    assert published.problems() == []
    assert set(FILES) <= {
        path.relative_to(published.directory).as_posix() for path in published.directory.rglob("*")
    }
