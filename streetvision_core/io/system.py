"""What the write protocol asks of the operating system, and where the systems differ.

Linux: a directory that is written to is held open, and names in it are reached through its descriptor.
Links are never followed. ``fsync`` flushes files and directories.

macOS: the same, but ``fsync`` leaves the bytes in the cache of the disk there. ``F_FULLFSYNC`` is asked
for first, and ``fsync`` where the file system does not know it. Tested with a stand-in for ``fcntl``,
never on a Mac.

Windows: plain paths. Files are flushed, but a directory cannot be: a power cut soon after a writer has
returned may take the new name away again, and the old file is back. Modes are left alone. A file that
another process holds open cannot be replaced: that is an error, and the old file stays. Tested on Linux,
never on Windows.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# Windows translates line ends unless it is told not to; it has no O_NOFOLLOW.
_FLAGS = getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
_NO_FULL_FLUSH = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTTY, errno.ENODEV}


def _flush(descriptor: int) -> None:
    os.fsync(descriptor)


def _flush_fully(descriptor: int) -> None:
    import fcntl

    try:
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # type: ignore[attr-defined]  # macOS alone has it
    except OSError as error:
        if error.errno not in _NO_FULL_FLUSH:
            raise
        os.fsync(descriptor)


@dataclass(frozen=True)
class System:
    """How an open file is flushed, and whether there are descriptors of directories, and modes."""

    flush: Callable[[int], None]
    is_posix: bool = True


LINUX = System(_flush)
MACOS = System(_flush_fully)
WINDOWS = System(_flush, is_posix=False)
THIS_SYSTEM = {"darwin": MACOS, "win32": WINDOWS}.get(sys.platform, LINUX)


class Directory:
    """A directory that is written to. Each ``name`` is a file in it; every method may raise OSError."""

    def __init__(self, path: Path, system: System) -> None:
        self._path, self._system = path, system
        self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY) if system.is_posix else None

    def _reach(self, name: str) -> str | Path:
        return self._path / name if self._descriptor is None else name

    def create(self, name: str) -> int:
        """Create the file, which must not exist, with the mode that the umask leaves; return a descriptor."""
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | _FLAGS
        return os.open(self._reach(name), flags, 0o666, dir_fd=self._descriptor)

    def create_directory(self, name: str) -> None:
        """Create a directory, which must not exist."""
        os.mkdir(self._reach(name), dir_fd=self._descriptor)

    def mode_of_files(self, name: str) -> int:
        """Return the mode that the umask left to files when the directory was created."""
        return os.stat(self._reach(name), dir_fd=self._descriptor).st_mode & 0o666

    def open(self, name: str) -> int:
        """Return a descriptor of the existing file, for reading and writing; Windows flushes no other."""
        return os.open(self._reach(name), os.O_RDWR | _FLAGS, dir_fd=self._descriptor)

    def set_mode(self, descriptor: int, mode: int) -> None:
        """Give the open file its mode, where there are modes."""
        if self._system.is_posix:
            os.fchmod(descriptor, mode)

    def flush_file(self, descriptor: int) -> None:
        """Return when the bytes of the open file are on the disk."""
        self._system.flush(descriptor)

    def link(self, source: Path, name: str) -> None:
        """Make ``name``, which must not exist, another name of the file ``source``."""
        os.link(source, self._reach(name), dst_dir_fd=self._descriptor)

    def replace(self, name: str, target: str) -> None:
        """Rename the file to ``target``, in one step for every reader, and see that it has happened."""
        at = self._descriptor
        os.replace(self._reach(name), self._reach(target), src_dir_fd=at, dst_dir_fd=at)
        with contextlib.suppress(FileNotFoundError):
            os.stat(self._reach(name), dir_fd=at, follow_symlinks=False)
            raise OSError(errno.EIO, "a rename that was acknowledged but not done")

    def remove(self, name: str) -> None:
        """Remove the file."""
        os.unlink(self._reach(name), dir_fd=self._descriptor)

    def flush(self) -> None:
        """Return when the names in the directory are on the disk, where the system can tell."""
        if self._descriptor is not None:
            self._system.flush(self._descriptor)

    def close(self) -> None:
        """Let go of the directory. Nothing was written through it, so nothing is lost if that fails."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)


@contextlib.contextmanager
def open_directory(path: Path) -> Iterator[Directory]:
    """Open the existing directory ``path`` for the block.

    Raises:
        OSError: there is no such directory, or it may not be read.
    """
    directory = Directory(path, THIS_SYSTEM)
    try:
        yield directory
    finally:
        directory.close()
