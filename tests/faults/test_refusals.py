"""Disks without room, and directories that do not belong to us: refusals that last until somebody helps."""

import os

import pytest

from tests.faults.disk import resize
from tests.faults.judge import fault_in_next_run, fault_in_outcome
from tests.faults.scenarios import WRITERS

NOBODY = 65534
PLENTY = {"bytes": 2**24, "names": 1000}


# A link takes a name but no bytes.
LIMITS = [(scenario, "bytes") for scenario in WRITERS if scenario != "link"]
LIMITS += [(scenario, "names") for scenario in WRITERS]


@pytest.mark.parametrize(("scenario", "what"), LIMITS)
def test_a_disk_may_be_full_at_any_moment(scenario, what, worker, memory, prepare):
    """Room for a bit more each time, until it is enough."""
    root, problems, refused = memory / "root", [], 0
    for room in range(0, 2**20, 4096) if what == "bytes" else range(50):
        resize(memory, **PLENTY)
        prepare(root, scenario)
        resize(memory, **{what: room})
        outcome = worker.run(scenario, root, "new")
        wrong = fault_in_outcome(root, scenario, outcome, causes=["No space left on device"])
        resize(memory, **PLENTY)
        if wrong := wrong or fault_in_next_run(worker, root, scenario):
            problems.append(f"room for {room} {what}: {wrong}")
        if outcome.has_returned:
            break
        refused += 1
    assert outcome.has_returned
    assert refused > 0
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("scenario", WRITERS)
def test_what_another_user_owns_is_a_paragraph_and_stays(scenario, worker, memory, prepare):
    """Each directory, then each file, belongs to root while somebody else writes."""
    root, problems = memory / "root", []
    names = [path.relative_to(root) for path in [root, *sorted(prepare(root, scenario).rglob("*"))]]
    for name in names:
        prepare(root, scenario)
        for path in [root, *root.rglob("*")]:
            os.chown(path, NOBODY, NOBODY)
        closed = root / name
        os.chown(closed, 0, 0)
        closed.chmod(0o555 if closed.is_dir() else 0o000)
        outcome = worker.run(scenario, root, "new", uid=NOBODY)
        causes = ["Permission denied", "Operation not permitted"]
        wrong = fault_in_outcome(root, scenario, outcome, causes=causes)
        for path in [root, *root.rglob("*")]:
            os.chown(path, NOBODY, NOBODY)
            path.chmod(0o755)
        if wrong := wrong or fault_in_next_run(worker, root, scenario, uid=NOBODY):
            problems.append(f"{name} is closed: {wrong}")
    assert not problems, "\n".join(problems)
