"""The one write protocol of this project, which makes a file durable.

1. A temporary file is created in the target's own directory (`O_CREAT | O_EXCL | O_NOFOLLOW`, mode
   0666, so that the kernel applies the umask). It is named `.NAME.RANDOM.partial`.
2. The content is written to it. Each piece is hashed while it is handed to the kernel.
3. It is flushed to the disk (`fsync`).
4. It is renamed onto the target, its temporary name must be gone, and the directory is flushed.

A library that writes files by itself is given a path in a directory of that name instead, because some
put temporary files of their own beside it. What it wrote is opened, given the mode of the umask, flushed
and hashed, and goes the same way. The directory and whatever else lies in it is removed.

When a writer returns, the new bytes survive a power cut. Until then a reader sees the old file or
nothing, or the new one; never a torn one. On any error the temporary file is removed, and the target is
the old file; only where the last flush failed is it the new one, whole, which may not survive a power
cut. A flush that failed is never tried again: the kernel may have forgotten what it could not write.
A kill, or a disk that became read-only, may leave a `*.partial`, which `sweep_partials` recognises.

Not promised: network file systems, disks that acknowledge a flush they have not done, and what
`system.py` says of Windows and macOS.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import secrets
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from streetvision_core.errors import StoreError
from streetvision_core.io.claims import refuse_links, remove_own
from streetvision_core.io.names import is_partial
from streetvision_core.io.system import open_directory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from streetvision_core.io.system import Directory

_log = logging.getLogger(__name__)
_PIECE_BYTES = 4 * 2**20
# How file systems say that they have no hard links, or none to this file. EINVAL is FAT under Windows.
_NO_LINKS = {
    errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL
}  # fmt: skip


@dataclass(frozen=True)
class StagedFile:
    """A durable file with the SHA-256 (hex) that it had when it was written.

    `signature` (size in bytes, inode, modification time in ns) tells whether it has been touched since.
    """

    path: Path
    sha256: str
    signature: tuple[int, int, int]

    @classmethod
    def at(cls, path: Path, sha256: str) -> StagedFile:
        """Record the file at `path`, which a writer of this module has just written.

        Raises:
            StoreError: it cannot be looked at.
        """
        with _os_errors_named(path):
            return cls(path, sha256, _signature(path.stat()))

    @property
    def size_bytes(self) -> int:
        """Size of the file in bytes."""
        return self.signature[0]

    def is_untouched(self) -> bool:
        """Tell whether the file is still the one that was hashed.

        Raises:
            StoreError: it is there but cannot be looked at.
        """
        with _os_errors_named(self.path):
            return self.path.exists() and _signature(self.path.stat()) == self.signature


def _signature(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_ino, status.st_mtime_ns


@dataclass
class AtomicFile:
    """A file that is being written: `temporary` takes the bytes; `sha256` is known after the block."""

    temporary: Path
    sha256: str = ""


def compute_file_sha256(path: Path) -> str:
    """Return the SHA-256 (hex) of the file at `path`, streamed in constant memory.

    Raises:
        StoreError: the file cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _store_error("a readable file", error, Path(path)) from error


@contextlib.contextmanager
def atomic_file(path: Path, *, failures: tuple[type[Exception], ...] = ()) -> Iterator[AtomicFile]:
    """Give a library a temporary path to write to; make it durable at `path` when the block ends well.

    Args:
        path: The file to write.
        failures: What the library raises, besides OSError, where it cannot write.

    Raises:
        StoreError: the file could not be written; the error names it and the cause.
    """
    path = Path(path)
    with _directory_of(path) as directory:
        place = _partial_name(path)
        with _os_errors_named(path):
            directory.create_directory(place)
        try:
            with _os_errors_named(path, failures):
                mode = directory.mode_of_files(place)
                handle = AtomicFile(path.parent / place / path.name)
                yield handle
                name = f"{place}/{path.name}"
                handle.sha256 = _seal(name, mode=mode, directory=directory)
                directory.replace(name, path.name)
                directory.remove_all(place)
                directory.flush()
        except BaseException:
            _give_up(directory, place, path)
            raise


def _seal(name: str, *, mode: int, directory: Directory) -> str:
    """Flush a file that a library has written, and return the SHA-256 computed meanwhile."""
    with os.fdopen(directory.open(name), "rb") as file:
        directory.set_mode(file.fileno(), mode)
        with ThreadPoolExecutor(max_workers=1) as pool:
            flushed = pool.submit(directory.flush_file, file.fileno())
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            flushed.result()
        return sha256


class AtomicStream:
    """A file that is being written piece by piece at `temporary`; `sha256` is known after the block.

    `failure` is what the file system said when it refused a piece. A library that was writing may raise
    something else in its place.
    """

    def __init__(self, temporary: Path, file: BinaryIO, pool: ThreadPoolExecutor) -> None:
        self.temporary = temporary
        self.sha256 = ""
        self.failure: OSError | None = None
        self._file, self._pool, self._digest = file, pool, hashlib.sha256()

    def write(self, data: bytes | memoryview) -> int:
        """Write all of the data, hashed by one thread while another hands it to the kernel."""
        whole = memoryview(data).cast("B")
        try:
            for start in range(0, len(whole), _PIECE_BYTES):
                piece = whole[start : start + _PIECE_BYTES]
                hashed = self._pool.submit(self._digest.update, piece)
                _write_all(self._file, piece)
                hashed.result()
        except OSError as error:
            self.failure = error
            raise
        return len(whole)

    def flush(self) -> None:
        """Do nothing, for libraries that call it: nothing is buffered here, and the block ends durably."""

    def seal(self) -> None:
        """Fix the digest; nothing may be written from here on."""
        self.sha256 = self._digest.hexdigest()


@contextlib.contextmanager
def atomic_stream(path: Path) -> Iterator[AtomicStream]:
    """Give a stream to write to; what was written is durable at `path` when the block ends well.

    Raises:
        StoreError: the file could not be written; the error names it and the cause.
    """
    path = Path(path)
    with _directory_of(path) as directory:
        name = _partial_name(path)
        with _os_errors_named(path):
            descriptor = directory.create(name)
        try:
            with _os_errors_named(path):
                with (
                    os.fdopen(descriptor, "wb", buffering=0) as file,
                    ThreadPoolExecutor(max_workers=1) as pool,
                ):
                    stream = AtomicStream(path.parent / name, file, pool)
                    yield stream
                    directory.flush_file(file.fileno())
                stream.seal()
                directory.replace(name, path.name)
                directory.flush()
        except BaseException:
            _give_up(directory, name, path)
            raise


def write_chunks_atomic(path: Path, chunks: Iterable[memoryview]) -> str:
    """Write the chunks durably and return the SHA-256 (hex) of the file."""
    with atomic_stream(path) as stream:
        for chunk in chunks:
            stream.write(chunk)
    return stream.sha256


def _give_up(directory: Directory, name: str, path: Path) -> None:
    """Remove what was half written; where the disk refuses even this, the first error is the one to raise."""
    try:
        directory.remove_all(name)
    except OSError as error:
        _log.warning("%s stays half written beside %s: %s", name, path, error.strerror)


def _partial_name(path: Path) -> str:
    # A component of a path has at most 255 bytes, so a long name gives way to the suffix.
    start = path.name.encode("utf-8", "surrogateescape")[:200].decode("utf-8", "ignore")
    return f".{start}.{secrets.token_hex(8)}.partial"


def link_file_durably(source: Path, target: Path) -> None:
    """Give the durable file `source` a second name, `target`; copy it where there are no hard links.

    Raises:
        StoreError: `target` exists, or the file system refused; the error names it and the cause.
    """
    target = Path(target)
    with _directory_of(target) as directory, _os_errors_named(target):
        try:
            directory.link(source, target.name)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            _copy_durably(source, target)
        else:
            directory.flush()


def _copy_durably(source: Path, target: Path) -> None:
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    with atomic_file(target) as copy:
        shutil.copyfile(source, copy.temporary)


def _write_all(file: BinaryIO, piece: memoryview) -> None:
    while piece:
        piece = piece[file.write(piece) :]


def write_file_atomic(path: Path, data: bytes) -> str:
    """Write `data` to `path` durably and return its SHA-256 (hex)."""
    return write_chunks_atomic(path, [memoryview(data)])


def make_directory(path: Path) -> None:
    """Create `path` and its missing parents, each one durable in its parent.

    A directory that exists is taken to be durable: the file systems we know write it down at the latest
    when a file in it is flushed.

    Raises:
        OSError: the file system refused.
    """
    missing = [directory for directory in (path, *path.parents) if not directory.exists()]
    for directory in reversed(missing):
        directory.mkdir(exist_ok=True)
        with open_directory(directory.parent) as parent:
            parent.flush()


def sweep_partials(directory: Path, *, root: Path | None = None) -> None:
    """Remove the temporary files that a killed writer left in `directory` and below it.

    Nobody may be writing there: a temporary file does not tell whether its writer lives. No link is followed.

    Args:
        directory: Where to look.
        root: Below which neither `directory` nor what leads to it may be a link; by default `directory`.

    Raises:
        StoreError: one cannot be removed, or the way to it is a link.
    """
    with _os_errors_named(directory):
        refuse_links(directory, root=root or directory)
        for path in sorted(directory.rglob(".*.partial")):
            if is_partial(path.name) and not path.is_symlink():
                remove_own(path, root=root or directory)


@contextlib.contextmanager
def _directory_of(path: Path) -> Iterator[Directory]:
    """Open the directory of `path`, which is made if it is missing."""
    with contextlib.ExitStack() as stack:
        with _os_errors_named(path):
            make_directory(path.parent)
            directory = stack.enter_context(open_directory(path.parent))
        yield directory


@contextlib.contextmanager
def _os_errors_named(path: Path, failures: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    causes: tuple[type[Exception], ...] = (OSError, *failures)
    try:
        yield
    except causes as error:
        raise _store_error("to write the file durably", error, Path(path)) from error


def _store_error(expected: str, error: Exception, path: Path) -> StoreError:
    cause = getattr(error, "strerror", None) or str(error)
    return StoreError(
        expected, f"the error '{cause}'", path, "Mend the cause (space, permission, path) and run again."
    )
