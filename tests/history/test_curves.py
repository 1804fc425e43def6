"""Learning curves: which may go, and that nobody takes them for something of the store's."""

import os
import time

import pytest

from streetvision_core.history.curves import orphaned_curves
from streetvision_core.history.gc import plan_collection
from streetvision_core.history.runs import find_runs
from streetvision_core.io import ArtifactStore


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
    assert orphaned_curves(store.root) == [gone]


def test_a_store_without_curves_has_none_to_remove(store):
    assert orphaned_curves(store.root) == []
