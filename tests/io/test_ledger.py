"""The ledger: every look counts once, for good, and nothing in it is ever left out in silence."""

import hashlib
import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from streetvision_core.errors import ConfigError, IntegrityError, SchemaError, StoreError
from streetvision_core.io import ArtifactStore, system
from streetvision_core.io.ledger import (
    Counted,
    Look,
    Share,
    Subject,
    count_looks,
    image_set,
    ledger_problems,
    look_text,
    read_looks,
    record_look,
)

A, B, C = (hashlib.sha256(name.encode()).hexdigest() for name in "abc")
RUN = "20261121T090000-aaaaaaaa"
# Forked from a server of its own: the process of the tests may have threads.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload([__name__])


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    """Leave out the flushes: what survives a power cut is tested elsewhere."""
    monkeypatch.setattr(system, "THIS_SYSTEM", system.System(lambda _: None))


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path / "store")


def subject(checkpoint, *, step="scrc", policy="0" * 64, conditions="as_is"):
    return Subject(step=step, checkpoint=checkpoint, policy=policy, conditions=conditions)


def look(store, checkpoint=A, images=(A, B), *, share=None, run_id=RUN, **changes):
    return record_look(store, subject(checkpoint, **changes), images, run_id=run_id, share=share)


def files(store):
    return {path.name: path.read_bytes() for path in (store.root / "ledger").rglob("*") if path.is_file()}


def test_each_other_look_counts_and_the_same_look_never_again(store):
    assert look(store) == Counted(1, 1)
    assert look(store, B) == Counted(2, 2)
    assert look(store, policy="1" * 64) == Counted(3, 3)
    assert look(store, conditions="2" * 64) == Counted(4, 4)
    assert look(store, step="thresholds") == Counted(5, 5)
    before = files(store)
    assert look(store, B, run_id="another") == Counted(2, 5)
    assert files(store) == before
    assert count_looks(store, [B]) == 5


def test_one_image_more_resets_nothing_and_no_image_in_common_counts_from_one(store):
    look(store)
    assert look(store, images=(A, B, C)) == Counted(2, 2)
    assert look(store, images=(B,)) == Counted(3, 3)
    assert look(store, images=(C,)) == Counted(2, 2)  # it shares images with (A, B, C) alone
    assert look(store, images=("f" * 64,)) == Counted(1, 1)
    assert count_looks(store, ["e" * 64]) == 0


def test_a_set_of_images_is_kept_once_whatever_its_order_and_copies(store):
    look(store)
    look(store, B, images=(B, A, B))
    (kept,) = (store.root / "ledger" / "images").iterdir()
    assert kept.read_bytes() == image_set([A, B]) == bytes.fromhex("".join(sorted([A, B])))
    assert kept.name == hashlib.sha256(kept.read_bytes()).hexdigest()


def test_what_is_written_reads_back_and_says_who_looked_first(store):
    look(store, share=Share(delta=0.1, budget=4))
    (entry,) = read_looks(store.root)
    assert (entry.run_id, entry.number, entry.share.takes) == (RUN, 1, 0.025)
    assert Look.from_bytes(entry.to_bytes(), where=Path(f"{entry.key}.json")) == entry
    assert ledger_problems(store.root) == []


def test_a_budget_divides_delta_and_a_look_beyond_it_is_refused(store):
    share = Share(delta=0.1, budget=3)
    for number, checkpoint in enumerate((A, B, C), 1):
        assert look(store, checkpoint, share=share).number == number
    before = files(store)
    with pytest.raises(ConfigError, match=r"takes 0\.03333 of delta, 0\.1, but found that 0\.1 is"):
        look(store, "d" * 64, share=share)
    assert files(store) == before
    assert look(store, B, share=share) == Counted(2, 3)
    assert look(store, "d" * 64, images=("f" * 64,), share=share) == Counted(1, 1)


@pytest.mark.parametrize("share", [(0.1, 4), (0.1, 30), (0.2, 30), (0.9, 90), (0.1, None), (0.001, None)])
def test_a_budget_is_not_stretched_afterwards(store, share):
    for checkpoint in (A, B, C):
        look(store, checkpoint, share=Share(delta=0.1, budget=3))
    with pytest.raises(ConfigError, match="a larger budget after the fact"):
        look(store, "d" * 64, share=Share(delta=share[0], budget=share[1]))


def test_a_promise_of_another_step_takes_from_another_budget(store):
    look(store, A, share=Share(delta=0.1, budget=3))
    assert look(store, A, step="thresholds", share=Share(delta=0.1)).number == 2


def test_the_advice_names_an_earlier_certificate_only_where_there_is_one(store):
    for checkpoint in (A, B, C):
        look(store, checkpoint, step="thresholds")
    with pytest.raises(ConfigError) as caught:
        look(store, "d" * 64, share=Share(delta=0.1, budget=3))
    assert "0 promises" in str(caught.value)
    assert "Keep what" not in str(caught.value)


def test_a_certificate_without_a_budget_has_taken_all_of_delta(store):
    look(store, share=Share(delta=0.1))
    assert look(store, B, share=Share(delta=0.1)).number == 2  # counted, and nobody asked for more
    with pytest.raises(ConfigError, match=r"that 0\.2 is taken: by 2 promises"):
        look(store, C, share=Share(delta=0.1, budget=10))


def test_a_checkpoint_that_was_only_looked_at_takes_a_share_and_its_own_threshold_none(store):
    share = Share(delta=0.1, budget=2)
    look(store, A, step="thresholds")
    assert look(store, A, share=share).number == 2
    look(store, B, step="thresholds")
    with pytest.raises(ConfigError, match="1 other checkpoint looked at without one"):
        look(store, C, share=share)
    assert look(store, B, share=share).number == 4


def test_a_store_without_a_ledger_has_no_looks_and_nothing_is_made_by_asking(store):
    assert (read_looks(store.root), ledger_problems(store.root), count_looks(store, [A])) == ([], [], 0)
    assert not store.root.exists()
    assert look_text({"mcc": 0.5}) == "look number not recorded"
    assert look_text({"look_number": 3, "looks_so_far": 3}) == "look number 3"
    assert look_text({"look_number": 3, "looks_so_far": 5}) == "look number 3 of 5 so far"


def record_file(store):
    (path,) = (store.root / "ledger").glob("*.json")
    return path


def changed(**fields):
    def change(path):
        path.write_text(json.dumps(json.loads(path.read_text()) | fields, sort_keys=True, indent=1) + "\n")

    return change


FAULTS = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-20]),
    "no object": lambda path: path.write_bytes(b"[]\n"),
    "nested": lambda path: path.write_bytes(b"[" * 4000),
    "other bytes": lambda path: path.write_bytes(b"\xff\xfe"),
    "large": lambda path: path.write_bytes(b" " * 100_000),
    "another number": changed(number=7),
    "another field": changed(more=1),
    "another type": changed(number="1"),
    "not finite": changed(share={"budget": None, "delta": float("nan")}),
    "newer": changed(schema_version=2),
    "another spelling": lambda path: path.write_bytes(path.read_bytes().replace(b"\n", b"\n\n")),
    "another name": lambda path: path.rename(path.with_name(f"{'0' * 64}.json")),
    "a stranger": lambda path: path.with_name("notes.txt").write_text("mine"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_look_is_one_paragraph_and_never_left_out(store, fault):
    look(store)
    FAULTS[fault](record_file(store))
    before = files(store)
    with pytest.raises(SchemaError) as refused:
        look(store, B)
    assert "\n" not in str(refused.value)
    assert ("newer StreetVision" if fault == "newer" else "Nothing was counted") in str(refused.value)
    assert ledger_problems(store.root) == [str(refused.value)]
    assert files(store) == before


def test_a_set_that_is_damaged_or_lost_is_one_paragraph(store):
    look(store)
    (kept,) = (store.root / "ledger" / "images").iterdir()
    kept.write_bytes(kept.read_bytes()[:-1] + b"x")
    with pytest.raises(IntegrityError, match="the set of images as it was recorded"):
        look(store, B, images=(C,))
    assert "as it was recorded" in ledger_problems(store.root)[0]
    kept.unlink()
    with pytest.raises(StoreError, match="No such file"):
        look(store, B, images=(C,))
    assert "No such file" in ledger_problems(store.root)[0]


@pytest.mark.parametrize("place", ["ledger", "ledger/images"])
def test_nothing_is_read_or_written_through_a_link(store, tmp_path, place):
    look(store)
    (store.root / place).rename(tmp_path / "elsewhere")
    (store.root / place).symlink_to(tmp_path / "elsewhere")
    for images in ((A, B), (C,)):
        with pytest.raises(StoreError, match="is a link"):
            look(store, B, images=images)
    assert "is a link" in ledger_problems(store.root)[0]


def test_a_link_or_a_directory_in_the_place_of_a_look_is_refused(store, tmp_path):
    look(store)
    path = record_file(store)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="a link or a special file"):
        look(store, B)
    path.unlink()
    path.mkdir()
    with pytest.raises(StoreError, match="a link or a special file"):
        look(store, B)


def _many_looks(root, checkpoints, gate):
    gate.wait()
    for checkpoint in checkpoints:
        look(ArtifactStore(root), checkpoint)


@pytest.mark.parametrize(
    ("first", "second", "expected"), [(range(9), range(9), 9), (range(9), range(9, 18), 18)]
)
def test_two_processes_at_once_count_other_looks_twice_and_equal_ones_once(store, first, second, expected):
    gate = processes.Barrier(2)
    workers = [
        processes.Process(target=_many_looks, args=(store.root, [f"{n:064x}" for n in numbers], gate))
        for numbers in (first, second)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert sorted(entry.number for entry in read_looks(store.root)) == list(range(1, expected + 1))
    assert ledger_problems(store.root) == []


STEPS_OF_A_WRITE = ("create", "create_directory", "replace", "flush", "flush_file")


def _die_before(number, root, counted):
    """Look, and be killed just before the call of that number that changes the disk."""

    def watched(real):
        def step(*arguments):
            counted.value += 1
            if counted.value == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments)

        return step

    for name in STEPS_OF_A_WRITE:
        setattr(system.Directory, name, watched(getattr(system.Directory, name)))
    look(ArtifactStore(root), B, images=(A, C))


def killed(root, number):
    counted = processes.Value("i", 0)
    worker = processes.Process(target=_die_before, args=(number, root, counted))
    worker.start()
    worker.join(60)
    return worker.exitcode, counted.value


def test_a_kill_at_any_step_of_a_look_loses_nothing_and_counts_once(tmp_path):
    def fresh(name):
        store = ArtifactStore(tmp_path / name)
        look(store)
        return store

    code, steps = killed(fresh("whole").root, 0)
    assert (code, steps) == (0, 8)  # create, flush, replace, flush: of the set, and of the look
    for number in range(1, steps + 1):
        store = fresh(str(number))
        assert killed(store.root, number)[0] == -signal.SIGKILL
        assert ledger_problems(store.root) == []
        assert len(read_looks(store.root)) in {1, 2}
        assert look(store, B, images=(A, C)) == Counted(2, 2)
        store.sweep()
        assert not list(store.root.rglob("*.partial"))
        assert ledger_problems(store.root) == []
