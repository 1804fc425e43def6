"""How a file becomes durable: the one write protocol of this project.

1. A temporary file is created in the target's own directory (``O_CREAT | O_EXCL | O_NOFOLLOW``, mode
   0666, so that the kernel applies the umask). It is named ``.NAME.RANDOM.partial``.
2. The content is written to it, by us or by a third-party library that is given its path.
3. It is flushed to the disk (``fsync``). Its SHA-256 is computed meanwhile from the file, or while its
   bytes are handed to the kernel where we write them ourselves.
4. It is renamed onto the target, and the directory is flushed.

When a writer returns, the new bytes survive a power cut. Until then a reader sees the old file or
nothing; never a torn one. On any error the temporary file is removed and nothing has changed. A kill
may leave a ``*.partial`` file, which :func:`sweep_partials` recognises.

Not promised: network file systems, Windows (its directories cannot be flushed), and disks that
acknowledge a flush they have not done.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from streetvision_core.errors import StoreError
from streetvision_core.io.encode import csv_bytes, json_bytes
from streetvision_core.io.tensors import tensor_chunks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_PIECE_BYTES = 4 * 2**20
_PARTIAL = re.compile(r"\..+\.[0-9a-f]{16}\.partial")


@dataclass(frozen=True)
class StagedFile:
    """A durable file with the SHA-256 (hex) that it had when it was written.

    ``signature`` (size in bytes, inode, modification time in ns) tells whether it has been touched since.
    """

    path: Path
    sha256: str
    signature: tuple[int, int, int]

    @classmethod
    def at(cls, path: Path, sha256: str) -> StagedFile:
        """Record the file at ``path``, which a writer of this module has just written."""
        return cls(path, sha256, _signature(path.stat()))

    @property
    def size_bytes(self) -> int:
        """Size of the file in bytes."""
        return self.signature[0]

    def is_untouched(self) -> bool:
        """Tell whether the file is still the one that was hashed."""
        return self.path.exists() and _signature(self.path.stat()) == self.signature


def _signature(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_ino, status.st_mtime_ns


@dataclass
class AtomicFile:
    """A file that is being written: ``temporary`` takes the bytes.

    ``sha256`` is known when the block has ended, or earlier to a writer that hashes what it writes.
    """

    temporary: Path
    sha256: str = ""


def compute_file_sha256(path: Path) -> str:
    """Return the SHA-256 (hex) of the file at ``path``, streamed in constant memory.

    Raises:
        StoreError: the file cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _store_error("a readable file", error.strerror, Path(path)) from error


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[AtomicFile]:
    """Give a temporary path to write to; make it durable at ``path`` when the block ends well.

    Raises:
        StoreError: the file system refused; the error names the file and the cause.
    """
    path = Path(path)
    with _os_errors_named(path):
        make_directory(path.parent)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    # A component of a path has at most 255 bytes, so a long name gives way to the suffix.
    name = f".{path.name[:200]}.{secrets.token_hex(8)}.partial"
    try:
        with _os_errors_named(path):
            flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY
            placeholder = os.open(name, flags, 0o666, dir_fd=directory)
            mode = os.fstat(placeholder).st_mode & 0o777
            os.close(placeholder)
        handle = AtomicFile(path.parent / name)
        yield handle
        with _os_errors_named(path):
            handle.sha256 = _seal(name, mode=mode, directory=directory, known_sha256=handle.sha256)
            os.replace(name, path.name, src_dir_fd=directory, dst_dir_fd=directory)
            os.fsync(directory)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=directory)
        raise
    finally:
        os.close(directory)


def _seal(name: str, *, mode: int, directory: int, known_sha256: str) -> str:
    """Flush the temporary file, and hash it meanwhile unless its writer did.

    The file is opened again because a library may have put another inode, with a mode of its own,
    in its place.
    """
    with os.fdopen(os.open(name, os.O_RDWR | os.O_NOFOLLOW, dir_fd=directory), "rb") as file:
        os.fchmod(file.fileno(), mode)
        with ThreadPoolExecutor(max_workers=1) as pool:
            flushed = pool.submit(os.fsync, file.fileno())
            sha256 = known_sha256 or hashlib.file_digest(file, "sha256").hexdigest()
            flushed.result()
        return sha256


def _write_chunks(path: Path, chunks: Iterable[memoryview]) -> str:
    """Write the chunks durably, each hashed by one thread while another hands it to the kernel."""
    digest = hashlib.sha256()
    with atomic_file(path) as target:
        with (
            _os_errors_named(path),
            ThreadPoolExecutor(max_workers=1) as pool,
            target.temporary.open("wb", buffering=0) as file,
        ):
            for piece in _pieces(chunks):
                hashed = pool.submit(digest.update, piece)
                _write_all(file, piece)
                hashed.result()
        target.sha256 = digest.hexdigest()
    return target.sha256


def _pieces(chunks: Iterable[memoryview]) -> Iterator[memoryview]:
    for chunk in chunks:
        for start in range(0, len(chunk), _PIECE_BYTES):
            yield chunk[start : start + _PIECE_BYTES]


def _write_all(file: BinaryIO, piece: memoryview) -> None:
    while piece:
        piece = piece[file.write(piece) :]


def write_file_atomic(path: Path, data: bytes) -> str:
    """Write ``data`` to ``path`` durably and return its SHA-256 (hex)."""
    return _write_chunks(path, [memoryview(data)])


def write_json_atomic(path: Path, value: object) -> str:
    """Write ``value`` as canonical JSON durably and return the SHA-256 (hex) of the file."""
    return write_file_atomic(path, json_bytes(value))


def write_csv_atomic(path: Path, rows: Iterable[Mapping[str, object]], *, columns: Sequence[str]) -> str:
    """Write ``rows`` as CSV durably and return the SHA-256 (hex) of the file."""
    return write_file_atomic(path, csv_bytes(rows, columns=columns))


def write_tensors_atomic(
    path: Path, tensors: Mapping[str, Any], *, metadata: Mapping[str, str] | None = None
) -> str:
    """Write NumPy arrays or torch tensors as safetensors durably, without a second copy in memory.

    Args:
        path: The file to write.
        tensors: NumPy arrays or torch tensors by name, of any shape and any dtype that safetensors
            knows; a tensor on a device is brought to the CPU when its turn comes.
        metadata: Text that goes into the header.

    Returns:
        The SHA-256 (hex) of the file.
    """
    return _write_chunks(path, tensor_chunks(tensors, metadata))


def write_checkpoint_atomic(path: Path, model: Any, *, metadata: Mapping[str, str] | None = None) -> str:
    """Write the weights of a torch module, or a state dict, as safetensors durably.

    Args:
        path: The file to write.
        model: A ``torch.nn.Module`` or a mapping from names to tensors, on any device.
        metadata: Text that goes into the header.

    Returns:
        The SHA-256 (hex) of the file.
    """
    state = model.state_dict() if hasattr(model, "state_dict") else model
    return write_tensors_atomic(path, state, metadata=metadata)


def make_directory(path: Path) -> None:
    """Create ``path`` and its missing parents, each one durable in its parent."""
    missing = [directory for directory in (path, *path.parents) if not directory.exists()]
    for directory in reversed(missing):
        directory.mkdir(exist_ok=True)
        parent = os.open(directory.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)


def sweep_partials(directory: Path) -> None:
    """Remove the temporary files that a killed writer left in ``directory`` and below it."""
    for path in directory.rglob(".*.partial"):
        if _PARTIAL.fullmatch(path.name):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _os_errors_named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _store_error("to write the file durably", error.strerror, Path(path)) from error


def _store_error(expected: str, cause: str | None, path: Path) -> StoreError:
    return StoreError(
        expected, f"the error '{cause}'", path, "Mend the cause (space, permission, path) and run again."
    )
