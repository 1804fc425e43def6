"""Ctrl-C in a command that makes something: one line, and exit code 130.

The signal reaches every process of the terminal, and each of Dagster's helpers would answer it with a
traceback. So this process listens alone: the signal is blocked, which children inherit, and a thread hands it
to the main one. Not for commands that start servers, for they stop them by this very signal.
"""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from contextlib import contextmanager
from multiprocessing.resource_tracker import ensure_running
from typing import TYPE_CHECKING

from streetvision_core.cli import GOES_ON, INTERRUPTED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType


@contextmanager
def one_line_after_ctrl_c() -> Iterator[None]:
    """End this process with that line and that code where Ctrl-C comes while a command still loads.

    An import may make another error of it, or none. Whoever has set or ignored the signal keeps it so.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    interrupted = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        interrupted.set()
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    except BaseException as error:
        # With this code `interruptible` has said it already.
        if not interrupted.is_set() or (isinstance(error, SystemExit) and error.code == INTERRUPTED):
            raise
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if interrupted.is_set():
        print(GOES_ON, file=sys.stderr)  # noqa: T201 - as below
        raise SystemExit(INTERRUPTED)


def interruptible(run: Callable[[], int]) -> int:
    """Return the exit code of ``run``, or 130 with one line on standard error where Ctrl-C came.

    What it raises after Ctrl-C only says so again; before, it is raised on.
    """
    interrupted = _listen()
    try:
        code = run()
    except BaseException:
        if not interrupted.is_set():
            raise
    if not interrupted.is_set():
        return code
    print(GOES_ON, file=sys.stderr)  # noqa: T201 - what the person at the terminal reads
    return INTERRUPTED


def _listen() -> threading.Event:
    """Take SIGINT away from all children; return the event that tells whether it came."""
    interrupted = threading.Event()

    def listen() -> None:
        while True:
            signal.sigwait({signal.SIGINT})
            interrupted.set()
            _thread.interrupt_main()

    # Before the signal is blocked: Python 3.11 unblocks it in the thread that starts this helper of its own.
    ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    threading.Thread(target=listen, name="listens to Ctrl-C", daemon=True).start()
    return interrupted
