"""Any system call may fail: what was there stays, the error says where and why, and nothing is left over."""

import errno
import os
import re

import pytest

from tests.faults.judge import fault_in_next_run, fault_in_outcome
from tests.faults.scenarios import WRITERS

# These calls can run out of room; the others can only have an input/output error.
NEEDS_SPACE = re.compile(r"write|pwrite|sendfile|copy_file_range|fsync|fdatasync|fallocate|rename|link|mkdir")


def errors_of(call):
    """Give the errors that the call can meet; asking a descriptor for its position cannot meet any."""
    if call.name not in {"lseek", "ioctl", "fcntl"}:
        yield errno.EIO
    if NEEDS_SPACE.match(call.name) or "O_CREAT" in call.arguments:
        yield errno.ENOSPC


# "reuse" publishes by the calls of "link" and "publish".
@pytest.mark.parametrize("scenario", [name for name in WRITERS if name != "reuse"])
def test_an_error_of_any_system_call_leaves_the_old_or_the_new(scenario, worker, memory, prepare, straced):
    root = memory / "root"
    problems, struck = [], 0
    for call in worker.calls(scenario, prepare(root, scenario), "new"):
        for code in errors_of(call):
            name, cause = errno.errorcode[code], os.strerror(code)
            prepare(root, scenario)
            outcome = worker.strike(scenario, root, "new", call=call, fault=f"error={name}")
            wrong = fault_in_outcome(root, scenario, outcome, causes=[cause])
            if not wrong and call.changes_the_disk:
                wrong = fault_in_next_run(worker, root, scenario)
            problems += [f"{name} in {call}: {wrong}"] if wrong else []
            struck += 1
    assert struck > 10
    assert not problems, f"{len(problems)} of {struck} errors:\n" + "\n".join(problems)


@pytest.mark.parametrize("scenario", sorted(WRITERS.keys() - {"link"}))
def test_a_rename_that_is_acknowledged_but_not_done_is_noticed(scenario, worker, memory, prepare, straced):
    root = memory / "root"
    calls = worker.calls(scenario, prepare(root, scenario), "new")
    problems, renames = [], [call for call in calls if call.name.startswith("rename")]
    assert renames
    for call in renames:
        prepare(root, scenario)
        outcome = worker.strike(scenario, root, "new", call=call, fault="retval=0")
        wrong = fault_in_outcome(root, scenario, outcome, causes=["the error"])
        wrong = wrong or fault_in_next_run(worker, root, scenario)
        if wrong or not outcome.error:
            problems.append(f"{call}: {wrong or 'nobody noticed'}")
    assert not problems, "\n".join(problems)
