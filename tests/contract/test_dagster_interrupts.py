"""Ctrl-C in a command that makes something, once other threads and processes have been started."""

import subprocess
import sys

import pytest

from streetvision_core.commands.shared import GOES_ON, INTERRUPTED

# Where another thread takes SIGINT, Dagster's handler, which only makes a note, is the one that is called. An
# import has started such a thread, or Python's resource tracker has unblocked the signal in the main one.
AFTER_OTHERS = """
import os, signal, sys, threading, time
from dagster._utils.interrupts import capture_interrupts
from joblib import Parallel, delayed
from streetvision_assets.commands.interrupts import interruptible

def run():
    with capture_interrupts():
        Parallel(n_jobs=2, backend="loky")([delayed(abs)(-1), delayed(abs)(-2)])
        os.killpg(0, signal.SIGINT)
        time.sleep(1)
    return 1

threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
sys.exit(interruptible(run))
"""


@pytest.mark.alone
def test_ctrl_c_is_one_line_though_others_were_started_before():
    done = subprocess.run(
        [sys.executable, "-P", "-c", AFTER_OTHERS],
        capture_output=True, text=True, check=False, start_new_session=True, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (INTERRUPTED, "", f"{GOES_ON}\n")
