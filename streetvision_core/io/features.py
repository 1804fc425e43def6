"""The directory of feature sets, as everybody sees it who opens, measures or removes one.

Who has a set open holds a claim on a name of its own in the set's directory (``claims.py``); it dies with
the process. Claims are made, and sets removed, under the lock on ``features/.lock``: so nobody takes up what
is being removed. When a set was used last is the modification time of its ``key.json``.

What the shards hold is the business of ``training/feature_cache.py``.
"""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from streetvision_core.errors import StoreError
from streetvision_core.io.atomic import make_directory, sweep_partials, write_file_atomic
from streetvision_core.io.claims import CLAIM_FILES, abandoned, claim, clear_abandoned

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY_NAME = "key.json"
LOCK_NAME = ".lock"


def claim_features(directory: Path, key: bytes) -> Path:
    """Claim a set, make its directory and its ``key.json``, and note that it was used now.

    What killed processes have left is cleared away, where nobody else has the set open.

    Returns:
        What was claimed, for `claims.release`.

    Raises:
        StoreError: the file system refused.
    """
    with features_locked(directory.parent), _writing(directory):
        make_directory(directory)
        clear_abandoned(directory)
        if not is_open(directory):
            sweep_partials(directory)
        token = directory / secrets.token_hex(8)
        claim(token)
        path = directory / KEY_NAME
        if not path.is_file() or path.read_bytes() != key:
            write_file_atomic(path, key)
        os.utime(path)
    return token


def is_open(directory: Path) -> bool:
    """Tell whether a living process has the set open."""
    for path in directory.glob(CLAIM_FILES):
        with abandoned(path.with_name(path.name[1:].removesuffix(".claim"))) as free:
            if not free:
                return True
    return False


def remove_features(directory: Path) -> None:
    """Remove a set that nobody has open; a kill meanwhile leaves a smaller set, which is whole.

    Raises:
        OSError: the file system refused.
    """
    with features_locked(directory.parent):
        if directory.is_dir() and not is_open(directory):
            shutil.rmtree(directory)


@contextmanager
def features_locked(features: Path) -> Iterator[None]:
    """Hold the directory of all sets alone: nobody claims a set or removes one meanwhile."""
    from filelock import FileLock  # a tenth of a second, which only those pay who lock

    with _writing(features):
        make_directory(features)
        lock = FileLock(features / LOCK_NAME)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _writing(where: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            "a directory of features that can be written",
            f"the error '{error.strerror}'",
            where,
            "Check the store's free space and permissions.",
        ) from error
