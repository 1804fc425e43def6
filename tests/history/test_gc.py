"""`streetvision gc`: what goes, what stays, and that it says so truthfully."""

import json
import os
import time

import pytest
from filelock import FileLock

from streetvision_core.cli import main
from streetvision_core.errors import SchemaError, StoreError
from streetvision_core.history.gc import plan_collection
from streetvision_core.history.remove import collect
from streetvision_core.history.verify import verify_everything
from streetvision_core.io import write_file_atomic
from streetvision_core.io.claims import release
from streetvision_core.io.ledger import Subject, count_looks, record_look
from tests.history.conftest import FIRST, SECOND, THIRD
from tests.history.made import CHAIN, damage, leave, make, make_run, snapshot, usage

PARTIAL = ".splits.json.0123456789abcdef.partial"
MONTH = 31 * 24 * 3600


def keys(places):
    return {(place.run_id, place.step) for place in places}


def age(path, seconds):
    moment = time.time() - seconds
    for entry in [*path.rglob("*"), path]:
        os.utime(entry, (moment, moment))


def test_the_newest_runs_the_current_and_what_they_were_made_from_stay(store):
    """The second run has links of its own to the files it took over, so the first may go."""
    plan = plan_collection(store, keep_runs=1)
    assert keys(plan.artifacts) == {(FIRST, step) for step in CHAIN}
    assert plan_collection(store, keep_runs=3).artifacts == []
    assert keys(plan_collection(store, keep_runs=0).artifacts) == keys(plan.artifacts)


def test_an_old_input_of_something_current_stays(empty):
    make_run(empty, FIRST)
    for step in ("images", "splits"):
        make(empty, SECOND, step, config={"seed": 7})
    assert keys(plan_collection(empty, keep_runs=0).artifacts) == set()
    make(empty, THIRD, "bundle", inputs=("images",), files={"a": b"1"})
    gone = keys(plan_collection(empty, keep_runs=0).artifacts)
    assert gone == {(FIRST, "bundle")}


def test_a_dry_run_changes_nothing_and_says_what_would_go(store, capsys):
    before = snapshot(store.root)
    assert main(["gc", "--keep-runs", "1", "--store", str(store.root)]) == 0
    text = capsys.readouterr().out
    assert snapshot(store.root) == before
    assert f"{FIRST}  {len(CHAIN)} artifacts" in text
    assert f"{len(CHAIN)} artifacts; {len(CHAIN) + 1} are kept." in text
    assert "Nothing was removed" in text


def test_what_goes_frees_what_was_promised_and_the_rest_verifies(store, capsys):
    promised, before = plan_collection(store, keep_runs=1).frees_bytes, usage(store.root)
    assert main(["gc", "--delete", "--keep-runs", "1", "--store", str(store.root)]) == 0
    assert before - usage(store.root) == promised > 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("Freed ")
    assert verify_everything(store).good
    assert not (store.root / "runs" / FIRST).exists()


def test_a_file_that_a_kept_run_shares_frees_nothing(store):
    """Images, splits and backbone of the first run live on in the second."""
    plan = plan_collection(store, keep_runs=1)
    going = [path for path in (store.root / "runs" / FIRST).rglob("*") if path.is_file()]
    alone = sum(path.stat().st_size for path in going if path.stat().st_nlink == 1)
    assert plan.frees[FIRST] == alone < sum(path.stat().st_size for path in going)


def test_the_pointers_to_what_goes_go_with_it(store):
    plan = collect(store, keep_runs=1)
    assert len(plan.leftovers["pointers"]) == len(CHAIN) - 3  # images, splits and backbone are shared
    make_run(store, "20261123T000000-dddddddd")
    assert verify_everything(store).good


def test_half_made_directories_temporary_files_and_dangling_keys_go(store):
    dead = store.stage(THIRD, "bundle")
    write_file_atomic(dead / "half", b"x" * 1000)
    leave(dead)
    for top in ("latest", "keys/splits"):
        (store.root / top / PARTIAL).write_bytes(b"y" * 10)
    key = store.root / "keys" / "splits" / f"{'0' * 64}.json"
    key.write_text((store.root / "latest" / "splits.json").read_text().replace(THIRD, "gone"))
    before = usage(store.root)
    plan = collect(store, keep_runs=9)
    assert before - usage(store.root) == plan.frees_bytes >= 1020
    assert plan.frees[THIRD] == 1000
    assert not dead.exists()
    assert not key.exists()
    assert not list(store.root.rglob("*.partial"))
    assert collect(store, keep_runs=9).frees_bytes == 0
    assert verify_everything(store).good


def test_the_ledger_stays_and_what_it_says_with_it(store):
    """Looks count after their runs are gone."""
    subject = Subject(step="scrc", checkpoint="c" * 64, policy="d" * 64)
    record_look(store, subject, ["a" * 64], run_id=FIRST)
    before = {path: path.read_bytes() for path in (store.root / "ledger").rglob("*") if path.is_file()}
    (store.root / "ledger" / PARTIAL).write_bytes(b"y" * 10)
    age(store.root / "ledger", 10 * MONTH)
    collect(store, keep_runs=0)
    store.sweep()
    assert before == {
        path: path.read_bytes() for path in (store.root / "ledger").rglob("*") if path.is_file()
    }
    assert count_looks(store, ["a" * 64]) == 1
    assert verify_everything(store).good


def test_a_run_at_work_is_left_alone_whatever_its_age(store):
    at_work = store.stage(FIRST, "half_made")
    (at_work / "half").write_bytes(b"x")
    plan = collect(store, keep_runs=1)
    assert plan.artifacts == plan.half_made == []
    assert (at_work / "half").exists()
    leave(at_work)
    assert collect(store, keep_runs=1).artifacts == []  # the run is between two steps
    release(at_work.parent)
    assert len(collect(store, keep_runs=1).artifacts) == len(CHAIN)
    assert not at_work.exists()


def test_an_empty_directory_of_a_run_goes_only_when_nobody_can_have_just_made_it(store):
    run = store.root / "runs" / "20261123T000000-dddddddd"
    run.mkdir()
    collect(store, keep_runs=9)
    assert run.exists()
    age(run, 7200)
    collect(store, keep_runs=9)
    assert not run.exists()


@pytest.fixture
def state(store):
    """A resume state: of a key that is not published, with a file that the store shares."""
    directory = store.resume_directory("phase1_checkpoint", "0" * 64)
    directory.mkdir(parents=True)
    (directory / "state.json").write_bytes(b"{}")
    (directory / "epoch-1.ckpt").write_bytes(b"x" * 100)
    (directory / ".lock").touch()
    os.link(store.resolve("images").directory / "content.json", directory / "best-1.safetensors")
    return directory


def test_the_state_of_an_unfinished_training_stays_for_a_month(store, state):
    age(state, MONTH - 2 * 24 * 3600)
    assert plan_collection(store, keep_runs=9).leftovers["resume"] == []
    age(state, MONTH)
    plan = collect(store, keep_runs=9)
    assert plan.leftovers["resume"] == [state]
    assert plan.frees == {"resume states": 102}
    assert not state.exists()


def test_the_state_of_a_published_training_goes_unless_it_is_locked(store, state):
    key = store.resolve("phase1_checkpoint").manifest.step_key
    published = state.rename(state.with_name(key))
    with FileLock(published / ".lock"):
        assert collect(store, keep_runs=9).leftovers["resume"] == []
    assert collect(store, keep_runs=9).leftovers["resume"] == [published]
    assert list(published.rglob("*")) == []
    assert collect(store, keep_runs=9).leftovers["resume"] == []


@pytest.fixture
def features(store):
    """Three sets of features, used 3, 2 and 1 days ago, of 1,000 bytes and a key each."""
    import numpy as np

    from streetvision_core.inference.feature_cache import FeatureKey, open_features

    sets = {}
    for days in (3, 2, 1):
        key = FeatureKey("", "", {}, {}, "float32", f"of {days} days", {}, shape=(100,))
        feature_set = open_features(store.features_directory(), key, ["ab" * 32])
        feature_set.publish(np.array([0]), np.zeros((1, 100), np.float32))
        sets[days] = feature_set.directory
        age(feature_set.directory, days * 24 * 3600)
    return sets


def test_features_stay_while_they_are_used_and_fit_the_bound(store, features):
    before = snapshot(store.root / "features")
    plan = collect(store, keep_runs=9)
    assert (plan.leftovers["features"], plan.frees) == ([], {})
    assert snapshot(store.root / "features") == before
    assert verify_everything(store).good


def test_features_that_nobody_used_for_a_month_go(store, features):
    age(features[2], MONTH)
    size = usage(features[2])
    plan = collect(store, keep_runs=9)
    assert (plan.leftovers["features"], plan.frees) == ([features[2]], {"feature sets": size})
    assert [path.exists() for path in features.values()] == [True, False, True]


def test_of_features_beyond_the_bound_those_used_last_stay(store, features):
    sizes = {days: usage(path) for days, path in features.items()}
    exactly = sizes[1] + sizes[2]
    assert plan_collection(store, keep_runs=9, features_bytes=exactly).leftovers["features"] == [features[3]]
    both = plan_collection(store, keep_runs=9, features_bytes=exactly - 1)
    assert both.leftovers["features"] == sorted([features[3], features[2]])
    assert both.frees == {"feature sets": sizes[3] + sizes[2]}


def test_the_command_says_which_features_go_and_none_are_left_with_a_bound_of_0(store, features, capsys):
    assert main(["gc", "--keep-runs", "9", "--features-gib", "0.000001", "--store", str(store.root)]) == 0
    assert "2 feature sets" in capsys.readouterr().out
    assert main(["gc", "--json", "--features-gib", "0", "--delete", "--store", str(store.root)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["features"] == sorted(map(str, features.values()))
    assert not any(path.exists() for path in features.values())
    for wrong in ("-1", "nan", "x"):
        with pytest.raises(SystemExit):
            main(["gc", f"--features-gib={wrong}", "--store", str(store.root)])


def test_opening_features_makes_them_the_last_used_and_keeps_them_while_they_are_open(store, features):
    from streetvision_core.inference.feature_cache import FeatureKey, open_features
    from streetvision_core.inference.feature_sets import remove_features

    age(features[3], MONTH)
    key = FeatureKey("", "", {}, {}, "float32", "of 3 days", {}, shape=(100,))
    opened = open_features(store.features_directory(), key, ["ab" * 32])
    del opened
    going = plan_collection(store, keep_runs=9, features_bytes=usage(features[3])).leftovers["features"]
    assert going == sorted([features[1], features[2]])
    opened = open_features(store.features_directory(), key, ["ab" * 32])
    remove_features(features[3], root=store.root)  # as a collection does that planned it before it was opened
    plan = collect(store, keep_runs=9, features_bytes=0)
    assert plan.leftovers["features"] == sorted([features[1], features[2]])
    assert opened[:].tolist() == [[0.0] * 100]
    del opened
    assert collect(store, keep_runs=9, features_bytes=0).leftovers["features"] == [features[3]]


def test_what_a_killed_writer_left_among_features_goes_unless_they_are_open(store, features):
    from streetvision_core.io.claims import claim

    left = features[1] / f".{'a' * 64}.npy.0123456789abcdef.partial"
    left.write_bytes(b"x" * 10)
    claim(features[1] / "reader")
    assert collect(store, keep_runs=9).leftovers["partials"] == []
    release(features[1] / "reader")
    plan = collect(store, keep_runs=9)
    assert (plan.leftovers["partials"], plan.frees) == ([left], {"temporary files": 10})
    assert not left.exists()


def test_no_link_is_followed(store, tmp_path):
    outside = tmp_path / "outside"
    make_run(type(store)(outside), FIRST, steps=("images",))
    (store.root / "runs" / "20200101T000000-eeeeeeee").symlink_to(outside / "runs" / FIRST)
    (store.root / "runs" / FIRST / "linked").symlink_to(outside / "runs" / FIRST / "images")
    (store.root / "runs" / FIRST / "splits" / "lineage").symlink_to(outside / "runs")
    (store.root / "keys" / "linked").symlink_to(outside / "keys" / "images")
    (store.root / "resume").mkdir()
    (store.root / "resume" / "linked").symlink_to(outside / "runs" / FIRST)
    age(outside, MONTH)
    before = snapshot(outside)
    plan = collect(store, keep_runs=1)
    assert (FIRST, "splits") in keys(plan.artifacts)
    assert snapshot(outside) == before
    assert (store.root / "runs" / "20200101T000000-eeeeeeee").is_symlink()


@pytest.mark.parametrize("name", ["runs", "latest", "keys", "resume", "features"])
def test_a_store_whose_own_directories_are_links_is_refused(store, tmp_path, name):
    for late in ("resume", "features"):
        (store.root / late).mkdir()
    (store.root / name).rename(tmp_path / name)
    (store.root / name).symlink_to(tmp_path / name)
    with pytest.raises(StoreError, match="follows no link"):
        collect(store, keep_runs=0)


@pytest.mark.parametrize("step", ["images", "bundle"])
def test_with_a_damaged_manifest_among_what_stays_nothing_goes(store, step):
    """Nobody can know what it was made from."""
    damage(store.directory(SECOND, step) / "manifest.json")
    before = snapshot(store.root / "runs")
    with pytest.raises(StoreError, match=f"what {step} of run {SECOND} was made from"):
        collect(store, keep_runs=1)
    assert snapshot(store.root / "runs") == before


def test_with_a_damaged_pointer_to_what_is_current_nothing_goes(store):
    (store.root / "latest" / "images.json").write_bytes(b"")
    with pytest.raises(SchemaError):
        collect(store, keep_runs=1)


def test_a_damaged_manifest_among_what_goes_is_no_obstacle(store):
    damage(store.directory(FIRST, "splits") / "manifest.json")
    assert len(collect(store, keep_runs=1).artifacts) == len(CHAIN)
    assert verify_everything(store).good


def test_what_cannot_be_removed_is_a_paragraph(store, monkeypatch, capsys):
    def refuse(path, **_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "unlink", refuse)
    assert main(["gc", "--delete", "--keep-runs", "1", "--store", str(store.root)]) == 1
    assert "the error 'Permission denied'" in capsys.readouterr().err


def test_the_facts_are_for_programs(store, capsys):
    assert main(["gc", "--json", "--keep-runs", "1", "--store", str(store.root)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["deleted"] is False
    assert facts["frees_bytes"] == sum(facts["frees"].values())
    assert len(facts["artifacts"]) == len(CHAIN)
    assert facts["kept_artifacts"] == len(CHAIN) + 1


def test_whoever_publishes_meanwhile_waits_and_stays(store):
    """The decision is made again inside the lock, so artifacts published meanwhile are kept."""
    import threading

    with store.exclusive():
        thread = threading.Thread(target=collect, args=(store,), kwargs={"keep_runs": 0})
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        assert (store.root / "runs" / FIRST / "images").exists()
        # What publishing does inside the lock: the first run's bundle is current again.
        pointer = store.root / "latest" / "bundle.json"
        first = store.resolve("bundle", run_id=FIRST)
        text = json.loads(pointer.read_text()) | {
            "manifest": f"runs/{FIRST}/bundle/manifest.json",
            "sha256": first.manifest_sha256,
        }
        pointer.write_text(json.dumps(text))
    thread.join(30)
    assert (store.root / "runs" / FIRST / "images").exists()
    assert not any(artifact.faults for artifact in verify_everything(store).checked)
