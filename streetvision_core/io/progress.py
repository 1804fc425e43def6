"""The directory in which a long computation keeps how far it has come, so that a later run can go on.

It belongs to exactly one computation, named by its step key. Who computes there holds the lock `.lock` in
it, which dies with its process. When the result is published nobody needs the directory any more.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from streetvision_core.io.system import remove_held

if TYPE_CHECKING:
    from pathlib import Path

    from filelock import BaseFileLock

PROGRESS_LOCK = ".lock"


def progress_lock(directory: Path) -> BaseFileLock:
    """Return the lock of a directory of progress; nobody holds it yet."""
    from filelock import FileLock  # a tenth of a second, which only those pay who lock

    return FileLock(directory / PROGRESS_LOCK)


def forget_progress(directory: Path) -> None:
    """Remove a directory of progress; leave it to another computation that is at it there.

    Nothing is raised: what cannot be removed costs room and nothing else.
    """
    if not directory.is_dir():
        return
    lock = progress_lock(directory)
    with suppress(OSError):  # a Timeout, which says that another one holds it, is one too
        with lock.acquire(blocking=False):
            # The latest names first: a record goes before what it names, so that a kill in between leaves
            # no record rather than a damaged one.
            for path in sorted(directory.iterdir(), reverse=True):
                if path.name != PROGRESS_LOCK:
                    path.unlink()
            # Last: who waits for a removed lock takes the next one of that name.
            remove_held(directory / PROGRESS_LOCK)
        directory.rmdir()
