"""Claims: which process is at work in which directory, and which directories this project has made.

A claim on `DIRECTORY` is a lock on the file `.NAME.claim` beside it. The operating system releases it
when its process ends, however it ends; so a claim that can be had belongs to a process that is gone. The
file is removed when the work is done. One that a killed process has left beside a directory says that the
directory was made here, and so may be removed; a directory without one may be anybody's. A claim is an empty
regular file: what else bears such a name is not ours, and stays.

Things are removed in one way only: below a root, and never through a link.

Every component of the path below the root is opened as a directory that is no link, each in the one before;
the last one is removed through the descriptor of its parent. So a directory that is swapped for a link at
any moment leads nowhere, and a link inside a tree goes without what it names. `system.py` says what holds
on Windows. The root itself may be a link: somebody has named it.

This module knows how to remove. Its caller has to know whether a thing is the store's own: from a claim, a
manifest or a name that only this project gives.

Not promised: a file system that is mounted below the root is no link, and what lies in it goes.

A directory of progress is where a long computation keeps how far it has come, so that a later run can go on.
It belongs to exactly one computation, named by its step key. Who computes there holds the lock `.lock` in it,
which dies with its process. When the result is published nobody needs the directory any more.

The lock is also what marks the directory as one of ours: it is the first file in it, so a directory that
holds something else and no lock is somebody's, and is neither written to nor removed.
"""

from __future__ import annotations

import logging
import os
import stat
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from streetvision_core.errors import StoreError
from streetvision_core.io.names import is_partial
from streetvision_core.io.system import THIS_SYSTEM, Directory, open_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from filelock import BaseFileLock


_log = logging.getLogger(__name__)


def remove_own(path: Path, *, root: Path) -> None:
    """Remove the file or directory `path` below `root`; nothing when it is gone already.

    Raises:
        StoreError: a component of the path below the root is a link, or something could not be removed;
            it names what stays.
    """
    _remove(path, root=root, how=Directory.remove_all)


def remove_held(lock_file: Path, *, root: Path) -> None:
    """Remove the file of a lock that this process holds, before it lets go of it.

    Windows removes no file that somebody has open; there the release of the lock removes it (`filelock`).
    Arguments and errors as for `remove_own`.
    """
    if THIS_SYSTEM.is_posix:
        remove_own(lock_file, root=root)


def remove_if_empty(path: Path, *, root: Path) -> None:
    """Remove the directory `path` if nothing lies in it; arguments and errors as for `remove_own`."""
    _remove(path, root=root, how=Directory.remove_if_empty)


def remove_or_tell(path: Path, *, root: Path) -> None:
    """Remove `path` as `remove_own` does; log what stays, where that costs room and nothing else."""
    try:
        remove_own(path, root=root)
    except StoreError as error:
        _log.warning("%s", error)


def refuse_links(path: Path, *, root: Path) -> None:
    """Make sure that `path` leads through no link below `root`; what is missing is none.

    Raises:
        StoreError: a component below the root, or the last one, is a link.
    """
    place = root
    for name in path.relative_to(root).parts:
        place /= name
        if place.is_symlink():
            raise StoreError(
                "the store's own directories",
                f"that {name} is a link",
                place,
                "A store follows no link: what that names may be somebody's. Nothing was removed there. Put"
                " the directory itself in its place, or move the whole store and set STREETVISION_STORE.",
            )


def _remove(path: Path, *, root: Path, how: Callable[[Directory, str], None]) -> None:
    """Call `how` with the parent of `path` and its name; make errors readable."""
    try:
        refuse_links(path, root=root)
        with ExitStack() as stack:
            parent = stack.enter_context(open_directory(root))
            for name in path.relative_to(root).parts[:-1]:
                parent = stack.enter_context(parent.descend(name))
            how(parent, path.name)
    except FileNotFoundError:
        return
    except OSError as error:
        refuse_links(path, root=root)  # the error may be that of a link that came meanwhile
        at = f" at {Path(error.filename).name}" if error.filename else ""
        raise StoreError(
            "to remove what nothing needs",
            f"the error '{error.strerror or error}'{at}",
            path,
            "It stays, and what is kept is untouched. Mend the cause (permissions, a mount) and run again.",
        ) from error


CLAIM_FILES = ".*.claim"
# Who asks whether a directory is abandoned holds its claim for a moment.
_PATIENCE = 2.0
_held: dict[Path, BaseFileLock] = {}


def claim(directory: Path) -> None:
    """Claim `directory` for this process until `release`; its parent must exist.

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
    """Claim `directory` for as long as this process lives, unless another process has it already."""
    if directory not in _held and try_lock(lock := _lock(directory), seconds=_PATIENCE):
        _held[directory] = lock


def release(directory: Path, *, root: Path | None = None) -> None:
    """Give up the claim on `directory`, if this process holds it.

    Args:
        directory: What was claimed.
        root: Below which no link is followed; by default the parent of `directory`.

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
    """Tell whether nobody is at work in `directory`, and keep it so during the block."""
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
    """Tell whether a claim lies beside `directory`, held or left: this project has made it."""
    return is_claim(_claim_file(directory))


def is_claim(path: Path) -> bool:
    """Tell whether the file `path` is what a claim is: empty, regular, no link."""
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size == 0


def leave_claim(directory: Path) -> None:
    """Leave a claim that nobody holds beside `directory`: who finds it unfinished may remove it."""
    with open_directory(directory.parent) as parent, suppress(FileExistsError):
        os.close(parent.create(_claim_file(directory).name))  # a link of that name is not followed


def clear_abandoned(parent: Path, *, root: Path, keep: Callable[[Path], bool] = lambda _: False) -> None:
    """Remove the claim files in `parent` that killed processes have left.

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


PROGRESS_LOCK = ".lock"
_log = logging.getLogger(__name__)


def progress_lock(directory: Path) -> BaseFileLock:
    """Return the lock of a directory of progress; nobody holds it yet."""
    from filelock import FileLock  # a tenth of a second, which only those pay who lock

    return FileLock(directory / PROGRESS_LOCK)


def refuse_foreign_progress(directory: Path) -> None:
    """Make sure that `directory` is new, empty or one of progress.

    Raises:
        StoreError: it is a link, or somebody's.
        OSError: it cannot be read.
    """
    refuse_links(directory, root=directory.parent)
    if not directory.exists() or is_claim(directory / PROGRESS_LOCK):
        return
    names = sorted(path.name for path in directory.iterdir())
    if names:
        raise _foreign(directory, names)


def forget_progress(directory: Path, *, root: Path) -> None:
    """Remove a directory of progress; leave it to another computation that is at it there.

    Nothing is raised: what cannot be removed is logged, and costs room and nothing else.

    Args:
        directory: What `ArtifactStore.resume_directory` gave.
        root: Below which no link is followed; that of the store.
    """
    try:
        refuse_links(directory, root=root)
        if directory.is_dir():
            refuse_foreign_progress(directory)
            _forget(directory, root=root)
    except StoreError as error:
        _log.warning("%s", error)
    except OSError as error:
        _log.warning("the state of a training stays at %s: %s", directory, error.strerror)


def _forget(directory: Path, *, root: Path) -> None:
    lock = progress_lock(directory)
    if not try_lock(lock):
        return
    try:
        names = sorted(
            (path.name for path in directory.iterdir() if path.name != PROGRESS_LOCK), reverse=True
        )
        if strangers := [name for name in names if not _is_ours(directory / name)]:
            raise _foreign(directory, strangers)
        # The latest names first: a record goes before what it names, so that a kill in between leaves no
        # record rather than a damaged one. The lock last: who waits for a removed lock takes the next one of
        # that name.
        for name in names:
            remove_own(directory / name, root=root)
        remove_held(directory / PROGRESS_LOCK, root=root)
    finally:
        lock.release()
    remove_if_empty(directory, root=root)  # else somebody has begun anew


def _is_ours(path: Path) -> bool:
    """Tell whether a computation could have left this: a file, or what a killed writer leaves."""
    return not path.is_symlink() and (path.is_file() or is_partial(path.name))


def _foreign(directory: Path, names: list[str]) -> StoreError:
    return StoreError(
        "a directory of its own for how far a computation has come",
        f"{', '.join(names[:3])}, which no computation left there",
        directory,
        "Nothing was removed. Move it elsewhere, or name another directory.",
    )
