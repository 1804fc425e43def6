"""The directory in which a long computation keeps how far it has come, so that a later run can go on.

It belongs to exactly one computation, named by its step key. Who computes there holds the lock `.lock` in
it, which dies with its process. When the result is published nobody needs the directory any more.

The lock is also what marks the directory as one of ours: it is the first file in it, so a directory that
holds something else and no lock is somebody's, and is neither written to nor removed.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from streetvision_core.errors import StoreError
from streetvision_core.io import claims
from streetvision_core.io.atomic import is_partial

if TYPE_CHECKING:
    from pathlib import Path

    from filelock import BaseFileLock

PROGRESS_LOCK = ".lock"
_log = logging.getLogger(__name__)


def progress_lock(directory: Path) -> BaseFileLock:
    """Return the lock of a directory of progress; nobody holds it yet."""
    from filelock import FileLock  # a tenth of a second, which only those pay who lock

    return FileLock(directory / PROGRESS_LOCK)


def refuse_foreign_progress(directory: Path) -> None:
    """Make sure that ``directory`` is new, empty or one of progress.

    Raises:
        StoreError: it is a link, or somebody's.
        OSError: it cannot be read.
    """
    claims.refuse_links(directory, root=directory.parent)
    if not directory.exists() or claims.is_claim(directory / PROGRESS_LOCK):
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
        claims.refuse_links(directory, root=root)
        if directory.is_dir():
            refuse_foreign_progress(directory)
            _forget(directory, root=root)
    except StoreError as error:
        _log.warning("%s", error)
    except OSError as error:
        _log.warning("the state of a training stays at %s: %s", directory, error.strerror)


def _forget(directory: Path, *, root: Path) -> None:
    lock = progress_lock(directory)
    if not claims.try_lock(lock):
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
            claims.remove_own(directory / name, root=root)
        claims.remove_held(directory / PROGRESS_LOCK, root=root)
    finally:
        lock.release()
    claims.remove_if_empty(directory, root=root)  # else somebody has begun anew


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
