"""The interface of all sources of images, whatever they read from.

`entries` lists the images without opening them, sorted by name; `read` gives the bytes of one. A source
raises `ConfigError` or `DataError` when it cannot be used at all, and `UnusableImageError` when one
image of it cannot. Reading is safe from several threads, and a source can be pickled to another process.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

MAX_TEXT = 1000


@dataclass(frozen=True)
class Entry:
    """One image as its source lists it: unread and unchecked.

    `label` is None where the source has an empty one, `group` is None where the image stands alone.
    `attributes` are the source's other columns as text of at most `MAX_TEXT` characters, without the empty
    ones. `role` is the role that the data itself gives the image.
    """

    name: str
    label: int | None
    group: str | None
    attributes: Mapping[str, str] = field(default_factory=dict)
    role: str | None = None


@dataclass(frozen=True)
class Stamp:
    """A stamp of the file that holds an image; an equal stamp means that the file is untouched.

    Size in bytes, times of the last change to content and to the file's own record (ns since 1970), inode.
    """

    size_bytes: int
    modified_ns: int
    changed_ns: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> Stamp | None:
        """Return the stamp of the regular file at `path`; None for anything else, a link for instance."""
        try:
            status = path.lstat()
        except (OSError, ValueError):  # ValueError: a null byte in a name
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


class ImageSource(Protocol):
    """A set of labelled images that can be listed and read by name."""

    def entries(self) -> Iterator[Entry]:
        """List the images, sorted by name, without opening them."""

    def read(self, name: str) -> bytes:
        """Return the bytes of one image; raises UnusableImageError."""

    def stamp(self, name: str) -> Stamp | None:
        """Return the stamp of the file that holds one image, or None where there is none to be had."""

    def describe(self) -> str:
        """Say in one line where the images come from and how they are grouped."""


def parse_text(value: Any) -> str | None:
    """Return a cell as text on one line without blanks around it, or None for an empty one."""
    text = "" if value is None else " ".join(str(value).split())
    return text or None


def keep_attributes(cells: Mapping[str, Any]) -> dict[str, str]:
    """Return the cells that hold something in a column with a name, as the attributes of an image."""
    texts = {parse_text(name): parse_text(cell) for name, cell in cells.items()}
    return {name: text[:MAX_TEXT] for name, text in texts.items() if name and text}
