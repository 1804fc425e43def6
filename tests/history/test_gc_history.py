"""Whatever the history of a store was: a collection keeps what it must, frees the rest, and can be killed."""

import os
import shutil
import signal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streetvision_core.history.gc import plan_collection
from streetvision_core.history.remove import collect
from streetvision_core.history.verify import verify_everything
from streetvision_core.io import ArtifactStore
from streetvision_core.io.claims import release
from tests.history.conftest import FIRST, SECOND
from tests.history.made import CHAIN, copy_store, leave, make, make_run, snapshot, usage

STEPS = ("images", "splits", "backbone", "phase1_checkpoint")
# For each run and step: left out, made with one of two configurations, computed again, or begun and killed.
ACTIONS = ("leave", "leave", "a", "b", "again", "kill")
histories = st.lists(st.tuples(*(st.sampled_from(ACTIONS) for _ in STEPS)), min_size=1, max_size=6)


def build(store, history):
    for number, actions in enumerate(history):
        run_id = f"20261121T09{number:02d}00-{number:08x}"
        for step, action in zip(STEPS, actions, strict=True):
            ready = all((store.root / "latest" / f"{name}.json").exists() for name in CHAIN[step])
            if action == "leave" or not ready:
                continue
            if action == "kill":
                directory = store.stage(run_id, step)
                (directory / "half").write_bytes(b"half")
                leave(directory)
                release(directory.parent)
            else:
                files = {"content": f"{step} {action}".encode() * 50}
                make(store, run_id, step, config={"a": action}, files=files, reuse=action != "again")


def published(store):
    return {
        (path.parents[1].name, path.parent.name): store.resolve(path.parent.name, run_id=path.parents[1].name)
        for path in (store.root / "runs").glob("*/*/manifest.json")
    }


def must_stay(store, keep_runs):
    """Return by brute force every artifact that the current ones or the newest runs reach."""
    everything = published(store)
    newest = sorted({run_id for run_id, _ in everything})[-keep_runs:] if keep_runs else []
    current = {
        (artifact.manifest.run_id, step)
        for step in store.current_steps()
        if (artifact := store.resolve(step))
    }
    stay = {key for key in everything if key in current or key[0] in newest}
    while True:
        inputs = {
            (reference.run_id, name)
            for key in stay
            for name, reference in everything[key].manifest.input_artifacts.items()
        }
        if inputs <= stay:
            return stay
        stay |= inputs


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(history=histories, keep_runs=st.integers(0, 3))
def test_whatever_was_made_what_must_stay_stays_and_the_rest_goes(tmp_path_factory, history, keep_runs):
    store = ArtifactStore(tmp_path_factory.mktemp("random") / "store")
    build(store, history)
    if not (store.root / "runs").exists():
        return
    expected, before, size = must_stay(store, keep_runs), snapshot(store.root), usage(store.root)

    plan = plan_collection(store, keep_runs=keep_runs)
    assert snapshot(store.root) == before

    done = collect(store, keep_runs=keep_runs)
    assert done.frees == plan.frees
    assert size - usage(store.root) == plan.frees_bytes
    assert set(published(store)) == expected
    assert verify_everything(store).good == bool(expected)  # a store without anything is not good
    assert {path.parent.name for path in store.root.glob("runs/*/*/manifest.json")} >= set(
        store.current_steps()
    )
    assert not list(store.root.glob("runs/*/*/half"))

    after = snapshot(store.root / "runs")
    again = collect(store, keep_runs=keep_runs)
    assert again.frees_bytes == 0
    assert again.artifacts == []
    assert snapshot(store.root / "runs") == after


def files(store):
    return {path.relative_to(store.root) for path in store.root.rglob("*") if not path.is_dir()}


def killed_at(store, call):
    """Collect in a child that is killed at its `call`-th change of the disk; return True if it was."""
    child = os.fork()
    if child == 0:
        left = [call]
        for name in ("unlink", "rmdir", "fsync", "rename"):
            _count_down(name, left)
        try:
            collect(store, keep_runs=1)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.waitstatus_to_exitcode(status) == 0
    return False


def _count_down(name, left):
    original = getattr(os, name)

    def replaced(*args, **kwargs):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    setattr(os, name, replaced)


@pytest.fixture
def littered(empty):
    """A store of short chains that share steps, a separate chain, and leftovers of kills."""
    make_run(empty, "20261121T080000-99999999", configs={"images": {"seed": 5}}, steps=STEPS[:2])
    make_run(empty, FIRST, steps=STEPS)
    make_run(empty, SECOND, configs={"phase1_checkpoint": {"learning_rate": 0.01}}, steps=STEPS)
    dead = empty.stage(SECOND, "bundle")
    (dead / "half").write_bytes(b"x")
    leave(dead)
    release(dead.parent)
    state = empty.resume_directory("splits", empty.resolve("splits").manifest.step_key)
    state.mkdir(parents=True)
    (state / ".lock").touch()
    for name in ("state.json", "epoch-1.ckpt"):
        (state / name).write_bytes(b"{}")
    return empty


def test_a_kill_at_any_moment_leaves_a_store_that_verifies_and_the_next_collection_ends_it(
    littered, tmp_path
):
    undisturbed = copy_store(littered, tmp_path / "undisturbed")
    assert len(collect(undisturbed, keep_runs=1).artifacts) == len(STEPS) + 2
    call, was_killed = 0, True
    while was_killed:
        store = copy_store(littered, tmp_path / "killed")
        was_killed = killed_at(store, call)
        report = verify_everything(store)
        assert report.good, (call, report.text())
        collect(store, keep_runs=1)
        assert files(store) == files(undisturbed), call
        shutil.rmtree(store.root)
        call += 1
    assert call > 40


def test_after_a_kill_the_reuse_of_what_went_computes_again(littered):
    assert killed_at(littered, 12)
    artifacts = make_run(littered, "20261124T000000-eeeeeeee", steps=STEPS)
    assert artifacts["phase1_checkpoint"].problems() == []
    assert verify_everything(littered).good
    assert FIRST in {path.name for path in (littered.root / "runs").iterdir()}
