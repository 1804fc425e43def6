"""Claims: which process is at work in which directory, and which directories this project has made.

A claim on ``DIRECTORY`` is a lock on the file ``.NAME.claim`` beside it. The operating system releases it
when its process ends, however it ends; so a claim that can be had belongs to a process that is gone. The
file is removed when the work is done. One that a killed process has left beside a directory says that the
directory was made here, and so may be removed; a directory without one may be anybody's. A claim is an empty
regular file: what else bears such a name is not ours, and stays.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from streetvision_core.errors import StoreError
from streetvision_core.io.removal import remove_held
from streetvision_core.io.system import open_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from filelock import BaseFileLock

CLAIM_FILES = ".*.claim"
# Who asks whether a directory is abandoned holds its claim for a moment.
_PATIENCE = 2.0
_held: dict[Path, BaseFileLock] = {}


def claim(directory: Path) -> None:
    """Claim ``directory`` for this process until :func:`release`; its parent must exist.

    Raises:
        StoreError: another process holds the claim.
    """
    if directory in _held:
        return
    lock = _lock(directory)
    if not try_lock(lock, seconds=_PATIENCE):
        raise StoreError(
            "one process at a time to work on a step of a run",
            "that another process is at it",
            directory,
            "Wait until it has ended, or start a new run.",
        )
    _held[directory] = lock


def claim_if_free(directory: Path) -> None:
    """Claim ``directory`` for as long as this process lives, unless another process has it already."""
    if directory not in _held and try_lock(lock := _lock(directory), seconds=_PATIENCE):
        _held[directory] = lock


def release(directory: Path, *, root: Path | None = None) -> None:
    """Give up the claim on ``directory``, if this process holds it.

    Args:
        directory: What was claimed.
        root: Below which no link is followed; by default the parent of ``directory``.

    Raises:
        StoreError: the claim file cannot be removed; nobody holds it any more.
    """
    lock = _held.pop(directory, None)
    if lock is not None:
        try:
            remove_held(_claim_file(directory), root=root or directory.parent)
        finally:
            lock.release()


@contextmanager
def abandoned(directory: Path) -> Iterator[bool]:
    """Tell whether nobody is at work in ``directory``, and keep it so during the block."""
    if directory in _held:
        yield False
        return
    if not is_claimed(directory):
        yield True
        return
    lock = _lock(directory)
    try:
        free = try_lock(lock)
    except PermissionError:  # who may only read cannot tell, and has nothing to clear away either
        free = False
    if not free:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def is_claimed(directory: Path) -> bool:
    """Tell whether a claim lies beside ``directory``, held or left: this project has made it."""
    return is_claim(_claim_file(directory))


def is_claim(path: Path) -> bool:
    """Tell whether the file ``path`` is what a claim is: empty, regular, no link."""
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size == 0


def leave_claim(directory: Path) -> None:
    """Leave a claim that nobody holds beside ``directory``: who finds it unfinished may remove it."""
    with open_directory(directory.parent) as parent, suppress(FileExistsError):
        os.close(parent.create(_claim_file(directory).name))  # a link of that name is not followed


def clear_abandoned(parent: Path, *, root: Path, keep: Callable[[Path], bool] = lambda _: False) -> None:
    """Remove the claim files in ``parent`` that killed processes have left.

    Args:
        parent: The directory.
        root: Below which no link is followed.
        keep: Tells of a directory whether its claim is still needed.

    Raises:
        StoreError: one cannot be removed.
    """
    for path in filter(is_claim, parent.glob(CLAIM_FILES)):
        directory = path.with_name(path.name[1:].removesuffix(".claim"))
        with abandoned(directory) as free:
            if free and not keep(directory):
                remove_held(path, root=root)


def _claim_file(directory: Path) -> Path:
    return directory.with_name(f".{directory.name}.claim")


def _lock(directory: Path) -> BaseFileLock:
    from filelock import FileLock  # a tenth of a second, which only those pay who lock

    # Whatever thread of the process publishes what another thread has staged.
    return FileLock(_claim_file(directory), thread_local=False)


def try_lock(lock: BaseFileLock, *, seconds: float = 0) -> bool:
    """Acquire a lock within so many seconds; tell whether that was possible."""
    from filelock import Timeout

    try:
        lock.acquire(timeout=seconds)
    except Timeout:
        return False
    return True
