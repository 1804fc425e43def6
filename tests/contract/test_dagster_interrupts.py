"""Ctrl-C in a command that makes something, once other processes have been started."""

import subprocess
import sys

from streetvision_core.cli import GOES_ON, INTERRUPTED

# Python's resource tracker unblocks SIGINT in the thread that starts it, and Dagster's handler, which only
# makes a note, would then be the one that is called.
AFTER_OTHER_PROCESSES = """
import os, signal, sys, time
from dagster._utils.interrupts import capture_interrupts
from joblib import Parallel, delayed
from streetvision_assets.commands.interrupts import interruptible

def run():
    with capture_interrupts():
        Parallel(n_jobs=2, backend="loky")([delayed(abs)(-1), delayed(abs)(-2)])
        os.killpg(0, signal.SIGINT)
        time.sleep(1)
    return 1

sys.exit(interruptible(run))
"""


def test_ctrl_c_is_one_line_though_processes_were_started_before():
    done = subprocess.run(
        [sys.executable, "-P", "-c", AFTER_OTHER_PROCESSES],
        capture_output=True, text=True, check=False, start_new_session=True, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (INTERRUPTED, "", f"{GOES_ON}\n")
