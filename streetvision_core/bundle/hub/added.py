"""The entries that a hub adds beside the files of a bundle, and the links in its client's cache.

`.gitattributes`         git's own, in every repository of the hub
`.git/`                  what a clone is made of
`.cache/huggingface/`    the notes of the hub's client on what it downloaded into this folder

They stand at the top of the folder, are never read and count for nothing. Links count as files only in the
client's cache, and only in the form `models--OWNER--NAME/snapshots/COMMIT/FILE -> ../../blobs/ETAG`. The
regular file of that name in `blobs` is opened there without following a link, and hashed as any other. It is
the file that the system would open, because no directory on the way to it is a link.
"""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, BinaryIO

from streetvision_core.io.names import MANIFEST_NAME
from streetvision_core.io.system import is_link, open_directory

if TYPE_CHECKING:
    from streetvision_core.io.system import Directory

ATTRIBUTES, GIT, CACHE = ".gitattributes", ".git", ".cache"
_CLIENT = "huggingface"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_BLOB = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")  # of git, and of its large files
_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class Additions:
    """The additions of a hub to a bundle: names at the top of its folder, and links in place of its files."""

    names: frozenset[str] = frozenset()
    linked: bool = False

    def __str__(self) -> str:
        beside = [f"{CACHE}/{_CLIENT}" if name == CACHE else name for name in sorted(self.names)]
        unread = f"{' and '.join(beside)}, which a hub adds and nothing reads" if beside else ""
        followed = "links into the hub's cache, each followed and hashed" if self.linked else ""
        return "; ".join(filter(None, (unread, followed)))


def hub_additions(directory: Directory, *, folder: Path) -> Additions:
    """Return what a hub added to the bundle in `folder`, which `directory` is."""
    names = directory.names()
    linked = MANIFEST_NAME in names and blob_of(directory, MANIFEST_NAME, folder=folder) is not None
    return Additions(frozenset(name for name in names if _is_added(directory, name, folder=folder)), linked)


def _is_added(directory: Directory, name: str, *, folder: Path) -> bool:
    status = directory.status(name)
    if is_link(status):
        return name == ATTRIBUTES and blob_of(directory, name, folder=folder) is not None
    if not stat.S_ISDIR(status.st_mode):
        return name == ATTRIBUTES and stat.S_ISREG(status.st_mode)
    if name == CACHE:
        with directory.descend(CACHE) as cache:
            inside = cache.status(_CLIENT) if cache.names() == [_CLIENT] else None
            return inside is not None and stat.S_ISDIR(inside.st_mode) and not is_link(inside)
    return name == GIT


def blob_of(directory: Directory, full: str, *, folder: Path) -> str | None:
    """Return the name in `blobs` that a file of a snapshot is a link to; None where it is no such link.

    Args:
        directory: The one that the entry lies in.
        full: The name of the file, relative to the folder of the bundle.
        folder: That folder, with no link in its path.
    """
    if folder.parent.name != "snapshots" or not _COMMIT.fullmatch(folder.name):
        return None
    name = PurePath(full).name
    if not is_link(directory.status(name)):
        return None
    *way, blob = directory.link_target(name).parts
    up = [".."] * (2 + full.count("/"))
    return blob if way == [*up, "blobs"] and _BLOB.fullmatch(blob) else None


def open_blob(folder: Path, blob: str) -> BinaryIO:
    """Open a blob of the cache that holds the snapshot; raises as `Directory.open_to_read`."""
    with open_directory(folder.parents[1]) as cache, cache.descend("blobs") as blobs:
        return blobs.open_to_read(blob)


def is_pointer(data: bytes) -> bool:
    """Tell whether a file is the pointer that git leaves in place of a large one."""
    return data.startswith(_POINTER)
