"""The job itself, killed and crowded: nothing published is harmed, and the next run comes to the same."""

import random
import shutil
import time

import pytest

from streetvision_core.bundle import verify_bundle
from streetvision_core.history.scan import run_ids
from streetvision_core.io import ArtifactStore
from tests.assets.graph import STEPS, Graph
from tests.e2e.kills import digests, faults, leftovers, logs_of, run, start
from tests.zygote import zygote

pytestmark = pytest.mark.long
STORES = 4
KILLS_A_STORE = 4
RUNS_AT_ONCE = 6


@pytest.fixture(scope="module")
def undisturbed(tiny_pictures, tmp_path_factory):
    """The outcome of an undisturbed run, and the seconds that it takes."""
    root = tmp_path_factory.mktemp("undisturbed") / "place"
    began = time.monotonic()
    assert run(root, tiny_pictures) == 0, logs_of(root)
    return digests(ArtifactStore(root / "store")), time.monotonic() - began


@pytest.mark.timeout(900)
def test_a_run_killed_at_any_moment_harms_nothing_and_the_next_one_finishes_alike(
    undisturbed, tiny_pictures, tmp_path
):
    """Every store sees several kills, one after the other, before a run finishes there."""
    expected, seconds = undisturbed
    seed = random.SystemRandom().randrange(2**32)
    moments = random.Random(seed)
    killed = 0
    for root in (tmp_path / str(number) for number in range(STORES)):
        store = ArtifactStore(root / "store")
        for attempt in range(KILLS_A_STORE):
            moment = moments.uniform(0, seconds / (attempt + 1))  # finished steps stay, so less is left to do
            pid = start(root, tiny_pictures)
            time.sleep(moment)
            zygote().kill(pid)
            where = f"store {root.name}, attempt {attempt} of seed {seed}, killed after {moment:.2f} s"
            assert faults(store) == [], where
            if zygote().wait(pid) != -9:  # the run ended before the kill; nothing is left to do
                break
            killed += 1
        assert run(root, tiny_pictures) == 0, f"{where}: {logs_of(root)}"
        assert digests(store) == expected, where
        assert faults(store) == [], where
        assert leftovers(store) == [], where
        verify_bundle(store.resolve("bundle").directory)
        shutil.rmtree(root)
    assert killed >= STORES, "the runs were quicker than most kills"


@pytest.mark.timeout(600)
def test_six_runs_at_once_on_one_store_and_one_instance_stay_apart(tiny_pictures, tmp_path):
    """Two of the runs are equal, the others differ in a seed, so that a mix-up would show."""
    Graph(tmp_path).instance.dispose()  # makes the instance: Dagster fails where several runs make it at once
    seeds = [0, 0, 1, 2, 3, 4]
    pids = [start(tmp_path, tiny_pictures, phase1_checkpoint={"seed": seed}) for seed in seeds]
    assert [zygote().wait(pid) for pid in pids] == [0] * RUNS_AT_ONCE, logs_of(tmp_path)
    output = logs_of(tmp_path)
    assert "database is locked" not in output
    assert "OperationalError" not in output
    store = ArtifactStore(tmp_path / "store")
    bundles = [store.resolve("bundle", run_id=run_id) for run_id in run_ids(store.root)]
    assert len(bundles) == RUNS_AT_ONCE
    for bundle in bundles:
        assert {given.run_id for given in bundle.manifest.input_artifacts.values()} == {
            bundle.manifest.run_id
        }
        for step in STEPS[:-1]:
            upstream = store.input_of(bundle, step)
            assert upstream.manifest.dagster_run_id == bundle.manifest.dagster_run_id
            assert bundle.read_bytes(f"lineage/{step}.json") == upstream.manifest.to_bytes()
        verify_bundle(bundle.directory)
    trained = [store.input_of(bundle, "phase1_checkpoint").manifest for bundle in bundles]
    assert sorted(manifest.config["seed"] for manifest in trained) == seeds
    assert len({manifest.data_version for manifest in trained}) == len(set(seeds))
    assert faults(store) == []
    assert leftovers(store) == []
