"""Learning curves in a store: they go with their run, and nobody takes them for an artifact."""

import os
import time
from dataclasses import replace

import pytest

from streetvision_core.history.gc import plan_collection
from streetvision_core.history.remove import collect
from streetvision_core.history.runs import list_runs
from streetvision_core.history.verify import verify_everything
from streetvision_core.io import ArtifactStore
from tests.history.made import make


def write_curve(store, run_id, *, age):
    directory = store.tensorboard_directory(run_id, "phase1_checkpoint")
    (directory / "probe").mkdir(parents=True)
    (directory / "probe/events.out.tfevents.streetvision").write_bytes(b"curve")
    for path in (*directory.rglob("*"), directory):
        os.utime(path, (time.time() - age,) * 2)
    return directory


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path)


def test_a_curve_goes_with_the_step_of_its_run_and_not_before(store):
    kept, gone, fresh = (write_curve(store, f"run{i}", age=age) for i, age in enumerate((7200, 7200, 60)))
    store.directory("run0", "phase1_checkpoint").mkdir(parents=True)
    store.directory("run1", "other").mkdir(parents=True)
    assert kept.exists()
    assert fresh.exists()
    assert plan_collection(store, keep_runs=1).leftovers["curves"] == [gone]


def test_the_collection_removes_them_and_says_so(store):
    gone, kept = (write_curve(store, f"run{i}", age=age) for i, age in enumerate((7200, 60)))
    plan = plan_collection(store, keep_runs=1)
    assert plan.facts()["curves"] == [str(gone)]
    assert plan.frees["learning curves"] == len(b"curve")
    assert "learning curves" in plan.text()
    collect(store, keep_runs=1)
    assert not gone.exists()
    assert kept.exists()


def test_a_curve_disturbs_neither_runs_nor_verify_nor_a_collection(store):
    make(store, "run0", "images")
    before = look(store)
    write_curve(store, "run0", age=0)
    assert look(store) == before


def look(store):
    verified = replace(verify_everything(store), seconds=0.0)
    return list_runs(store), verified, plan_collection(store, keep_runs=1)
