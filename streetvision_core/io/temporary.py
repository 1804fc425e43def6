"""Temporary files: where they lie is the business of Python's ``tempfile`` (TMPDIR), a full disk is ours."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from streetvision_core.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def room_for(content: str) -> Iterator[None]:
    """Turn an error of the disk during the block, which writes temporary files, into one for a person.

    Raises:
        StoreError: the disk refused; the text names ``content`` and the folder.
    """
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"room for {content} on the temporary disk",
            error.strerror or str(error),
            tempfile.tempdir or "TMPDIR",
            "Free space there, or set TMPDIR to a folder on a larger disk.",
        ) from error


@contextmanager
def temporary_directory(content: str) -> Iterator[Path]:
    """Make a directory for ``content`` that goes with the block.

    Raises:
        StoreError: it cannot be made.
    """
    with room_for(content):
        directory = tempfile.TemporaryDirectory(prefix="streetvision-")
    with directory as path:
        yield Path(path)
