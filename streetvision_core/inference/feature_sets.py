"""The directory of feature sets, for all code that opens, measures or removes one.

A process that has a set open holds a claim in the set's directory, under a name of its own (`claims.py`); the
claim dies with the process. Claims are made, and sets removed, under the lock on `features/.lock`, so nobody
opens a set that is being removed. The modification time of `key.json` says when a set was used last.

The content of the shards is the matter of `inference/feature_cache.py`.
"""

from __future__ import annotations

import os
import re
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING

from streetvision_core.errors import StoreError
from streetvision_core.io.atomic import make_directory, sweep_partials, write_file_atomic
from streetvision_core.io.claims import (
    CLAIM_FILES,
    abandoned,
    claim,
    clear_abandoned,
    is_claim,
    refuse_links,
    remove_own,
)
from streetvision_core.io.names import is_partial

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY_NAME = "key.json"
LOCK_NAME = ".lock"
_SET_NAME = re.compile(r"[0-9a-f]{64}")
SHARD_NAME = re.compile(r"[0-9a-f]{64}\.npy")


def claim_features(directory: Path, key: bytes) -> Path:
    """Claim a set: make its directory and its `key.json`, and note that it is used now.

    What killed processes have left is cleared away, where nobody else has the set open.

    Returns:
        What was claimed, for `claims.release`.

    Raises:
        StoreError: the file system refused, or the directory is a link.
    """
    refuse_links(directory, root=directory.parent)
    with features_locked(directory.parent), _writing(directory):
        make_directory(directory)
        clear_abandoned(directory, root=directory.parent)
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


def is_feature_set(directory: Path) -> bool:
    """Tell whether a directory is a set, whole or begun: it has the name of a key and holds nothing else."""
    if not _SET_NAME.fullmatch(directory.name) or directory.is_symlink():
        return False
    try:
        return all(map(_is_of_a_set, directory.iterdir()))
    except FileNotFoundError:  # removed meanwhile
        return False


def _is_of_a_set(path: Path) -> bool:
    if is_partial(path.name) or (path.match(CLAIM_FILES) and is_claim(path)):
        return True
    is_named = path.name == KEY_NAME or SHARD_NAME.fullmatch(path.name) is not None
    return is_named and path.is_file() and not path.is_symlink()


def remove_features(directory: Path, *, root: Path) -> None:
    """Remove a set that nobody has open; a kill meanwhile leaves a smaller set, which is whole.

    A directory that is no set, or holds something else, stays.

    Args:
        directory: The set.
        root: Below which no link is followed; that of the store.

    Raises:
        StoreError: a link leads there, or the file system refused.
    """
    refuse_links(directory, root=root)
    with features_locked(directory.parent):
        if directory.is_dir() and is_feature_set(directory) and not is_open(directory):
            remove_own(directory, root=root)


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
        found, action = f"the error '{error.strerror}'", "Check the store's free space and permissions."
        raise StoreError("a directory of features that can be written", found, where, action) from error
