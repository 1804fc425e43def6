"""What the write protocol asks of the operating system, and where the systems differ.

Linux: a directory that is written to is held open, and names in it are reached through its descriptor.
Links are never followed, not even one that takes the place of a directory while that is being removed
(``shutil.rmtree.avoids_symlink_attacks``). ``fsync`` flushes files and directories.

macOS: the same, but ``fsync`` leaves the bytes in the cache of the disk there. ``F_FULLFSYNC`` is asked
for first, and ``fsync`` where the file system does not know it. Tested with a stand-in for ``fcntl``,
never on a Mac.

Windows: plain paths. A link is looked for before something is removed; one that is put in place after the
look may be followed. Files are flushed, but a directory cannot be: a power cut soon after a writer has
returned may take the new name away again, and the old file is back. Modes are left alone. A file that
another process holds open cannot be replaced: that is an error, and the old file stays. Tested on Linux,
never on Windows.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
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

    def __init__(self, path: Path, system: System, *, above: Directory | None = None) -> None:
        self._path, self._system = path, system
        self._descriptor: int | None = None
        if not system.is_posix:
            if above is not None and path.is_symlink():
                raise _is_a_link(path)
        elif above is None:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        else:
            flags = os.O_RDONLY | os.O_DIRECTORY | _FLAGS
            self._descriptor = os.open(path.name, flags, dir_fd=above._descriptor)  # noqa: SLF001 - its own kind

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

    def remove_all(self, name: str) -> None:
        """Remove a file, or a directory with all that lies in it; a link in there goes, not what it names.

        ``name`` itself must not be a link. What others remove meanwhile is no error.
        """
        while (mode := self._mode_of(name)) is not None:
            try:
                if stat.S_ISLNK(mode):
                    raise _is_a_link(self._path / name)
                if stat.S_ISDIR(mode):
                    shutil.rmtree(self._reach(name), dir_fd=self._descriptor)
                else:
                    self.remove(name)
            except FileNotFoundError:
                continue

    def remove_if_empty(self, name: str) -> None:
        """Remove the directory if nothing lies in it."""
        try:
            os.rmdir(self._reach(name), dir_fd=self._descriptor)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise

    def _mode_of(self, name: str) -> int | None:
        try:
            return os.stat(self._reach(name), dir_fd=self._descriptor, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return None

    def enter(self, name: str) -> Directory:
        """Open a directory in this one, which must not be a link."""
        return Directory(self._path / name, self._system, above=self)

    def flush(self) -> None:
        """Return when the names in the directory are on the disk, where the system can tell."""
        if self._descriptor is not None:
            self._system.flush(self._descriptor)

    def close(self) -> None:
        """Let go of the directory. Nothing was written through it, so nothing is lost if that fails."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)


def _is_a_link(path: Path) -> OSError:
    return OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))


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
