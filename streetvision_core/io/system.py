"""The calls to the operating system that writing and reading need, and the differences between systems.

This is the one module that knows what only some systems have. Everything else goes through it, and
`tests/contract/test_portable.py` runs the rest of the package without those names.

Linux: a directory is held open, and names in it are reached through its descriptor. Links are never
followed, not even one that takes the place of a directory while that is being removed
(`shutil.rmtree.avoids_symlink_attacks`). `fsync` flushes files and directories.

macOS: the same, but `fsync` leaves the bytes in the cache of the disk there. `F_FULLFSYNC` is asked
for first, and `fsync` where the file system does not know it. Tested with a stand-in for `fcntl`,
never on a Mac.

Windows: plain paths. A link is looked for before something is removed; one that is put in place after the
look may be followed. Files are flushed, but a directory cannot be: a power cut soon after a writer has
returned may take the new name away again, and the old file is back. Modes are left alone. A file that
another process holds open cannot be replaced: that is an error, and the old file stays. A file that is read
must be the one that was looked at, and no directory on the way to it may be a link or a junction, or become
one meanwhile. Tested on Linux, never on Windows.

A system without descriptors of directories is treated as Windows is.

Python's `tempfile` decides where temporary files lie (TMPDIR); `room_for` reports a full disk there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, BinaryIO

from streetvision_core.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Windows translates line ends unless it is told not to; it has no O_NOFOLLOW.
_BINARY = getattr(os, "O_BINARY", 0)
_FLAGS = _BINARY | getattr(os, "O_NOFOLLOW", 0)
# Opening a pipe that nobody writes to waits for ever without it.
_NO_WAITING = getattr(os, "O_NONBLOCK", 0)
# The bit of a Windows reparse tag that marks another name of something else: a link or a junction, and not
# a file that is compressed or lies in the cloud.
_NAME_SURROGATE = 0x2000_0000
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
    """A system: its flush of an open file, and `is_posix` for descriptors of directories and modes."""

    flush: Callable[[int], None]
    is_posix: bool = True


LINUX = System(_flush)
MACOS = System(_flush_fully)
WINDOWS = System(_flush, is_posix=False)


def _this_system() -> System:
    if not hasattr(os, "O_DIRECTORY") or os.open not in os.supports_dir_fd:
        return WINDOWS
    return MACOS if sys.platform == "darwin" else LINUX


THIS_SYSTEM = _this_system()


class NotRegularFileError(OSError):
    """The error for a path to read that is a directory, a pipe, a device or a link."""


class Directory:
    """A directory that is held open. Each `name` is an entry of it; every method may raise OSError."""

    def __init__(self, path: Path, system: System, *, parent: Directory | None = None) -> None:
        self._path, self._system, self._parent = path, system, parent
        self._descriptor: int | None = None
        self._status: os.stat_result | None = None
        if not system.is_posix:
            self._status = os.lstat(path)  # where a directory cannot be held, it is at least known again
        elif parent is None:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        else:
            self._descriptor = parent.open_directory_in(path.name)

    def _reach(self, name: str) -> str | Path:
        return self._path / name if self._descriptor is None else name

    def names(self) -> list[str]:
        """Return the names of all entries, sorted."""
        with os.scandir(self._path if self._descriptor is None else self._descriptor) as entries:
            return sorted(entry.name for entry in entries)

    def status(self, name: str) -> os.stat_result:
        """Return what is known of an entry itself; a link is not followed."""
        return os.stat(self._reach(name), dir_fd=self._descriptor, follow_symlinks=False)

    def open_directory_in(self, name: str) -> int:
        """Return a descriptor of the directory `name`, which is no link; Windows has none."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
        return os.open(name, flags, dir_fd=self._descriptor)

    @contextlib.contextmanager
    def descend(self, name: str) -> Iterator[Directory]:
        """Open the directory `name`, which is no link, for the block."""
        if not stat.S_ISDIR(self.status(name).st_mode) or is_link(self.status(name)):
            raise NotRegularFileError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)
        with _closing(Directory(self._path / name, self._system, parent=self)) as directory:
            yield directory

    def open_to_read(self, name: str) -> BinaryIO:
        """Open the regular file `name`, which is no link, for reading.

        Raises:
            NotRegularFileError: it is something else.
            OSError: it cannot be opened, or was exchanged meanwhile.
        """
        before = self.status(name)
        if is_link(before) or not stat.S_ISREG(before.st_mode):
            raise NotRegularFileError(errno.EINVAL, "a link or a special file", name)
        descriptor = os.open(self._reach(name), os.O_RDONLY | _FLAGS | _NO_WAITING, dir_fd=self._descriptor)
        file = os.fdopen(descriptor, "rb")
        try:
            self._check_opened(before, os.fstat(descriptor), name)
        except BaseException:
            file.close()
            raise
        return file

    def _check_opened(self, before: os.stat_result, opened: os.stat_result, name: str) -> None:
        if not stat.S_ISREG(opened.st_mode):
            raise NotRegularFileError(errno.EINVAL, "a special file", name)
        if self._descriptor is None and not (os.path.samestat(before, opened) and self.is_unmoved()):
            raise OSError(errno.ESTALE, "a file or folder that was exchanged while it was read", name)

    def is_unmoved(self) -> bool:
        """Tell whether the path still leads to this directory, through no link since the first one."""
        if self._status is None:
            return True  # its descriptor is the directory, wherever it went
        now = os.lstat(self._path)
        same = os.path.samestat(now, self._status) and not is_link(now)
        return same and (self._parent is None or self._parent.is_unmoved())

    def link_target(self, name: str) -> Path:
        """Return what the link `name` says that it leads to."""
        return Path(os.readlink(self._reach(name), dir_fd=self._descriptor))

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
        """Make `name`, which must not exist, another name of the file `source`."""
        os.link(source, self._reach(name), dst_dir_fd=self._descriptor)

    def replace(self, name: str, target: str) -> None:
        """Rename the file to `target`, in one step for every reader, and see that it has happened."""
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

        `name` itself must not be a link. What others remove meanwhile is no error.
        """
        while (status := self._status_if_there(name)) is not None:
            try:
                if is_link(status):
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(self._path / name))
                if stat.S_ISDIR(status.st_mode):
                    shutil.rmtree(self._reach(name), dir_fd=self._descriptor)
                else:
                    self.remove(name)
            except FileNotFoundError:
                continue

    def _status_if_there(self, name: str) -> os.stat_result | None:
        try:
            return self.status(name)
        except FileNotFoundError:
            return None

    def remove_if_empty(self, name: str) -> None:
        """Remove the directory if nothing lies in it."""
        try:
            os.rmdir(self._reach(name), dir_fd=self._descriptor)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise

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
    """Open the existing directory `path` for the block.

    Raises:
        OSError: there is no such directory, or it may not be read.
    """
    with _closing(Directory(path, THIS_SYSTEM)) as directory:
        yield directory


@contextlib.contextmanager
def _closing(directory: Directory) -> Iterator[Directory]:
    try:
        yield directory
    finally:
        directory.close()


def is_link(status: os.stat_result) -> bool:
    """Tell from its `lstat` whether an entry is a link, or on Windows a junction."""
    return stat.S_ISLNK(status.st_mode) or bool(getattr(status, "st_reparse_tag", 0) & _NAME_SURROGATE)


def open_regular(path: Path) -> BinaryIO:
    """Open the regular file that `path` leads to, links followed; never wait for a pipe.

    Raises:
        NotRegularFileError: it is a directory, a pipe or a device.
        OSError: it cannot be opened.
    """
    # Asked before as well: the mere opening of a device may do something.
    if not stat.S_ISREG(path.stat().st_mode):
        raise NotRegularFileError(errno.EINVAL, "not a regular file", str(path))
    file = os.fdopen(os.open(path, os.O_RDONLY | _BINARY | _NO_WAITING), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise NotRegularFileError(errno.EINVAL, "not a regular file", str(path))
    return file


def open_to_go_on(path: Path) -> BinaryIO:
    """Open the regular file that `path` leads to for reading and writing; make it where there is none.

    Raises:
        NotRegularFileError: it is a directory, a pipe or a device.
        OSError: it cannot be opened.
    """
    if path.exists() and not path.is_file():
        raise NotRegularFileError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | _BINARY | _NO_WAITING, 0o666), "r+b")


def lock_file(file: BinaryIO) -> bool:
    """Lock an open file until it is closed; tell whether nobody else holds it. Windows has no such lock."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class RandomReader:
    """Reads of an open file at any place, from any thread, and from processes that were forked later.

    Windows has no read that carries its own place, so a lock keeps the place there. It has no fork either.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._lock = descriptor, Lock()

    def read(self, size: int, start: int) -> bytes:
        """Return up to `size` bytes from the place `start`; fewer at the end of the file."""
        if hasattr(os, "pread"):
            return os.pread(self._descriptor, size, start)
        with self._lock:
            os.lseek(self._descriptor, start, os.SEEK_SET)
            return os.read(self._descriptor, size)


def usable_cores() -> int:
    """Return how many processors this process may use; all of them where the system cannot tell."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def room_for(content: str) -> Iterator[None]:
    """Turn an error of the disk during the block, which writes temporary files, into one for a person.

    Raises:
        StoreError: the disk refused; the text names `content` and the folder.
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
    """Make a directory for `content` that goes with the block.

    Raises:
        StoreError: it cannot be made.
    """
    with room_for(content):
        directory = tempfile.TemporaryDirectory(prefix="streetvision-")
    with directory as path:
        yield Path(path)
