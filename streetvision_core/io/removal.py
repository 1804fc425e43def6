"""The one way in which something is removed: below a root, and never through a link.

Every component of the path below the root is opened as a directory that is no link, each in the one before;
the last one is removed through the descriptor of its parent. So a directory that is swapped for a link at
any moment leads nowhere, and a link inside a tree goes without what it names. ``system.py`` says what holds
on Windows. The root itself may be a link: somebody has named it.

This module knows how to remove. Whether a thing is the store's own its caller has to know, from a claim, a
manifest or a name that only this project gives.

Not promised: a file system that is mounted below the root is no link, and what lies in it goes.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from streetvision_core.errors import StoreError
from streetvision_core.io.system import THIS_SYSTEM, Directory, open_directory

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger(__name__)


def remove_own(path: Path, *, root: Path) -> None:
    """Remove the file or directory ``path`` below ``root``; nothing when it is gone already.

    Raises:
        StoreError: a component of the path below the root is a link, or something could not be removed;
            it names what stays.
    """
    _remove(path, root=root, how=Directory.remove_all)


def remove_held(lock_file: Path, *, root: Path) -> None:
    """Remove the file of a lock that this process holds, before it lets go of it.

    Windows removes no file that somebody has open; there the release of the lock removes it (``filelock``).
    Arguments and errors as for :func:`remove_own`.
    """
    if THIS_SYSTEM.is_posix:
        remove_own(lock_file, root=root)


def remove_if_empty(path: Path, *, root: Path) -> None:
    """Remove the directory ``path`` if nothing lies in it; arguments and errors as for :func:`remove_own`."""
    _remove(path, root=root, how=Directory.remove_if_empty)


def remove_or_tell(path: Path, *, root: Path) -> None:
    """Remove ``path`` as :func:`remove_own` does; log what stays, where that costs room and nothing else."""
    try:
        remove_own(path, root=root)
    except StoreError as error:
        _log.warning("%s", error)


def refuse_links(path: Path, *, root: Path) -> None:
    """Make sure that ``path`` leads through no link below ``root``; what is missing is none.

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
    """Call ``how`` with the parent of ``path`` and its name; make errors readable."""
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
