"""Ctrl-C in a command that makes something: one line, and exit code 130.

The signal reaches every process of the terminal, and each of Dagster's helpers would answer it with a
traceback. So this process listens alone: the signal is blocked in the main thread, which children inherit,
and one thread takes it. Not for commands that start servers, for they stop them by this very signal.
"""

from __future__ import annotations

import select
import signal
import socket
import sys
import threading
from contextlib import contextmanager
from multiprocessing.resource_tracker import ensure_running
from typing import TYPE_CHECKING

from streetvision_core.commands.shared import GOES_ON, INTERRUPTED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType


@contextmanager
def one_line_after_ctrl_c() -> Iterator[None]:
    """End this process with one line and exit code 130 where Ctrl-C comes while a command still loads.

    An import may turn the signal into another error, or swallow it. A handler that was set before stays.
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
        # An exit with this code is that of `interruptible`, which has printed the line.
        if not interrupted.is_set() or (isinstance(error, SystemExit) and error.code == INTERRUPTED):
            raise
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if interrupted.is_set():
        print(GOES_ON, file=sys.stderr)  # noqa: T201 - as below
        raise SystemExit(INTERRUPTED)


def interruptible(run: Callable[[], int]) -> int:
    """Return the exit code of `run`, or 130 with one line on standard error where Ctrl-C came.

    An error after Ctrl-C is its consequence and is dropped; any other is raised on.
    """
    with _listening() as numbers:
        try:
            code = run()
        except BaseException:
            if not _came(numbers):
                raise
        else:
            if not _came(numbers):
                return code
    print(GOES_ON, file=sys.stderr)  # noqa: T201 - what the person at the terminal reads
    return INTERRUPTED


def _came(numbers: socket.socket) -> bool:
    # The wait: a thread may still be writing what the main one has answered with an error already.
    return bool(select.select([numbers], [], [], 0.05)[0]) and signal.SIGINT in numbers.recv(2**16)


@contextmanager
def _listening() -> Iterator[socket.socket]:
    """Take SIGINT away from all children; yield the socket that the numbers of the signals arrive at."""
    ended = threading.Event()

    def listen() -> None:
        # A thread that an import has started (OpenBLAS has some) may take the signal as well. Python writes
        # its number to the socket whichever thread it was, and whoever handles it.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        ended.wait()

    # Before the signal is blocked: Python 3.11 unblocks it in the thread that starts this helper of its own.
    ensure_running()
    numbers, written = socket.socketpair()
    with numbers, written:
        written.setblocking(False)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        descriptor = signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=listen, name="listens to Ctrl-C", daemon=True).start()
        try:
            yield numbers
        finally:
            signal.set_wakeup_fd(descriptor)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            ended.set()
