"""A process may be killed, or the power cut, at any system call: the old or the new is there, whole."""

import pytest

from tests.faults.disk import PowerlessDisk
from tests.faults.judge import OLD_OR_NEW, fault_in_next_run, fault_in_outcome, label_or_damage
from tests.faults.scenarios import WRITERS


@pytest.fixture
def disk(mounts, scratch):
    with PowerlessDisk(scratch) as disk:
        yield disk


def labels_after_death(disk, root, scenario):
    """Yield each kind of death with the label that the next process then reads."""
    yield "the kill", label_or_damage(root, scenario)
    with disk.cut() as after:
        yield "the power cut", label_or_damage(after / root.name, scenario)
    disk.commit_journal()
    with disk.cut() as after:
        yield "the power cut after a journal commit", label_or_damage(after / root.name, scenario)


@pytest.mark.parametrize("scenario", WRITERS)
def test_a_kill_or_a_power_cut_at_any_change_leaves_the_old_or_the_new(
    scenario, worker, disk, prepare, straced
):
    """The process dies before the call. Calls that only read the disk are left out."""
    root = disk.directory / "root"
    calls = worker.calls(scenario, prepare(root, scenario), "new")
    problems, changes = [], [call for call in calls if call.changes_the_disk]
    assert changes
    for call in changes:
        prepare(root, scenario)
        assert worker.strike(scenario, root, "new", call=call, fault="signal=KILL").code == -9
        for death, label in labels_after_death(disk, root, scenario):
            if label not in OLD_OR_NEW:
                problems.append(f"{label} after {death} at {call}")
        if wrong := fault_in_next_run(worker, root, scenario):
            problems.append(f"killed at {call}: {wrong}")
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("scenario", WRITERS)
def test_what_has_returned_survives_a_power_cut(scenario, worker, disk, prepare):
    root = prepare(disk.directory / "root", scenario)
    for label in ("new", "next"):
        assert worker.run(scenario, root, label).has_returned
        with disk.cut() as after:
            assert label_or_damage(after / "root", scenario) == label


@pytest.mark.parametrize("scenario", WRITERS)
def test_a_disk_that_becomes_read_only_in_the_middle_keeps_the_old_or_the_new(
    scenario, worker, disk, prepare
):
    """The kernel remounts a disk read-only where it finds an error; half-written files then stay."""
    root, problems, outcome = disk.directory / "root", [], None
    for number in range(1, 100):
        prepare(root, scenario)
        breakage = {"number": number, "switch": disk.switch}
        outcome = worker.run(scenario, root, "new", broken_before_flush=breakage)
        causes = ["Read-only file system", "Input/output error"]
        wrong = fault_in_outcome(root, scenario, outcome, causes=causes, removable=False)
        if outcome.has_returned:
            break
        disk.repair()
        if wrong := wrong or fault_in_next_run(worker, root, scenario):
            problems.append(f"read-only before flush no. {number}: {wrong}")
    assert number > 1
    assert outcome.has_returned
    assert not problems, "\n".join(problems)
