"""Features of images on disk, shared by all runs: each is computed once and proven when it is opened.

A feature set holds what one computation (`FeatureKey`) gives for each image, by the SHA-256 of the
image's bytes. It is the directory `<features>/<SHA-256 of the key's canonical JSON>/`::

    key.json                    the key, for people; its modification time says when it was used last
    <SHA-256 of the file>.npy   a shard: at most 4096 rows (image V32, value), NumPy's own format
    .<random>.claim             held by a process that has the set open

Shards are written by the one write protocol (`io/atomic.py`) and never changed, so a shard is there whole
or not at all, and two runs that fill a set at once write different files. Of two rows for one image
the one in the shard whose name sorts first counts; the same computation gave both.

A shard's name proves its content: it is hashed once when a set is opened, and read later only while it is
still that file. A shard that is not what its name says, or not of this key, is removed with a notice, and
its images count as missing. Nothing is unpickled. A set that is open finds the rows that were there when it
was opened, and those that it has published itself.

In memory are 44 bytes an image that was asked for; the values stay on the disk until they are indexed. They
are read and not mapped, though `np.load(path, mmap_mode="r")` maps a shard: each mapping costs a file
descriptor for as long as it lasts, and every page that was touched counts as memory of the process.

Not promised: that a set outlives a collection (`streetvision gc`) when nobody has it open, and protection
from someone who can write to the store and forges the name too.
"""

from __future__ import annotations

import hashlib
import logging
import os
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO, FileIO
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from streetvision_core.errors import MissingArtifactError, StoreError
from streetvision_core.inference.feature_sets import SHARD_NAME, claim_features
from streetvision_core.io import bytes_digest, json_bytes
from streetvision_core.io.atomic import write_chunks_atomic
from streetvision_core.io.claims import release, remove_or_tell

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

_log = logging.getLogger(__name__)
SHARD_SUFFIX = ".npy"
SHARD_ROWS = 4096
_HASHERS = 2
_NOWHERE = -1
_SHARD = 2**32


@dataclass(frozen=True)
class FeatureKey:
    """Everything that decides a feature besides the image.

    Attributes:
        weights: SHA-256 (hex) of the body's tensors; empty where no model takes part.
        architecture: timm's name of the model.
        model_args: Its constructor arguments, JSON.
        preprocessing: How an image becomes pixels, JSON.
        precision: What the model computes in, "float32" for instance.
        view: Which look at the image: "plain", "augmented:<digest>:<k>".
        computed_by: The device and the libraries that decide the last bits, JSON.
        shape: Of one row.
        dtype: Of one row, in NumPy's spelling with the byte order.
    """

    weights: str
    architecture: str
    model_args: Mapping[str, Any]
    preprocessing: Mapping[str, Any]
    precision: str
    view: str
    computed_by: Mapping[str, str]
    shape: tuple[int, ...]
    dtype: str = "<f4"

    def to_bytes(self) -> bytes:
        """Return the canonical JSON."""
        return json_bytes({**asdict(self), "shape": list(self.shape)})

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the canonical JSON: the name of the set's directory."""
        return bytes_digest(self.to_bytes())

    @property
    def row_dtype(self) -> np.dtype[np.void]:
        """The structured type of a shard's rows."""
        return np.dtype([("picture", "V32"), ("value", self.dtype, self.shape)])


@dataclass(frozen=True)
class _Shard:
    """A verified shard: `signature` (size, inode, modification time in ns) is of the file that was hashed."""

    path: Path
    signature: tuple[int, int, int]
    offset: int


class _NotAShard(Exception):  # noqa: N818 - says what it found; never leaves this module
    """The bytes of a file are not those of a shard of this set."""


class FeatureSet:
    """The rows of the images that were asked for, by their positions in that order.

    `features[positions]` gives [B, *shape] for an int array or list [B], or for a slice. A set is claimed
    while the object lives: no collection removes it.
    """

    def __init__(self, directory: Path, key: FeatureKey, digests: Sequence[str]) -> None:
        self.directory = directory
        self.key = key
        self._row_dtype = key.row_dtype
        asked = np.frombuffer(bytes.fromhex("".join(digests)), dtype="S32")
        images, of = np.unique(asked, return_inverse=True)
        self._images: npt.NDArray[np.bytes_] = images
        self._of: npt.NDArray[np.int32] = of.astype(np.int32)
        self._place = np.full(len(images), _NOWHERE, dtype=np.int64)  # shard * _SHARD + row
        self._shards: list[_Shard] = []
        weakref.finalize(self, _release, claim_features(directory, key.to_bytes()), os.getpid())
        self._take_up()

    def __len__(self) -> int:
        return len(self._of)

    @property
    def missing(self) -> npt.NDArray[np.int64]:
        """Positions of the images without a row, each image once, in ascending order."""
        _, first = np.unique(self._of, return_index=True)
        return np.sort(first[self._place == _NOWHERE]).astype(np.int64)

    def __getitem__(self, positions: npt.NDArray[np.int64] | Sequence[int] | slice) -> npt.NDArray[Any]:
        """Return the rows at `positions`, a copy [B, *shape].

        Raises:
            MissingArtifactError: one has no row, or its shard is gone for good.
        """
        asked = self._of[positions if isinstance(positions, slice) else np.asarray(positions, dtype=np.int64)]
        try:
            return self._gather(asked)
        except (FileNotFoundError, _NotAShard) as error:
            raise _no_row(self.directory) from error

    def publish(self, positions: npt.NDArray[np.int64], rows: npt.NDArray[Any]) -> None:
        """Write the rows [B, *shape] of distinct images durably, for this and every other run.

        Raises:
            StoreError: the file system refused.
        """
        for start in range(0, len(positions), SHARD_ROWS):
            part = slice(start, start + SHARD_ROWS)
            shard = np.zeros(len(positions[part]), dtype=self._row_dtype)
            shard["picture"] = self._images[self._of[positions[part]]].view("V32")
            shard["value"] = rows[part]
            self._adopt(*_verified(_write_shard(self.directory, shard), shard.dtype))

    def _take_up(self) -> None:
        """Take up what was published before."""
        paths = _shard_paths(self.directory)
        with ThreadPoolExecutor(_HASHERS) as pool:
            for path, opened in zip(paths, pool.map(self._verify, paths), strict=True):
                if isinstance(opened, _NotAShard):
                    self._discard(path, opened)
                elif opened is not None:
                    self._adopt(*opened)

    def _verify(self, path: Path) -> tuple[_Shard, npt.NDArray[np.bytes_]] | _NotAShard | None:
        """Return the shard, or the fault that it has, or None where it is gone."""
        try:
            return _verified(path, self._row_dtype)
        except FileNotFoundError:
            return None
        except _NotAShard as fault:
            return fault

    def _discard(self, path: Path, fault: _NotAShard) -> None:
        _log.warning("A shard of cached features is damaged and left out: %s (%s).", fault, path)
        remove_or_tell(path, root=self.directory.parent)  # if it stays, each later run says so again

    def _adopt(self, shard: _Shard, held: npt.NDArray[np.bytes_]) -> None:
        """Note where the asked images lie that have no row yet; `held` are those of the shard's rows."""
        number = len(self._shards)
        self._shards.append(shard)
        at = np.searchsorted(self._images, held)
        at[at == len(self._images)] = 0
        rows = np.flatnonzero((self._images[at] == held) if len(self._images) else np.zeros(0))
        # Reversed: of two rows of one image the first is assigned last.
        rows = rows[self._place[at[rows]] == _NOWHERE][::-1]
        self._place[at[rows]] = number * _SHARD + rows

    def _gather(self, asked: npt.NDArray[np.int32]) -> npt.NDArray[Any]:
        """Return the rows of these images; rows that follow each other in a shard are read in one go."""
        places, back = np.unique(self._place[asked], return_inverse=True)
        if len(places) and places[0] == _NOWHERE:
            raise _no_row(self.directory)
        records = np.empty(len(places), dtype=self._row_dtype)
        target, size = memoryview(records.view(np.uint8)), self._row_dtype.itemsize  # type: ignore[arg-type]
        for number, runs in groupby(_runs(places), key=lambda run: int(places[run[0]]) // _SHARD):
            shard = self._shards[number]
            with _reopened(shard) as file:
                for start, stop in runs:
                    file.seek(shard.offset + int(places[start]) % _SHARD * size)
                    if file.readinto(target[start * size : stop * size]) != (stop - start) * size:
                        raise _NotAShard("it was cut")
        return records["value"][back]


def open_features(features: Path, key: FeatureKey, digests: Sequence[str]) -> FeatureSet:
    """Open the set of `key` below the directory `features` for these images; it is made where it is not.

    Args:
        features: The directory of all sets.
        key: What computes the features.
        digests: SHA-256 (hex) of the bytes of each image, [N]; copies may occur.

    Raises:
        StoreError: the file system refused.
    """
    return FeatureSet(features / key.digest, key, digests)


def _release(token: Path, pid: int) -> None:
    if os.getpid() == pid:  # a forked worker has a copy of the object, not the claim
        try:
            release(token)
        except StoreError as error:  # the claim ends with the process anyway
            _log.warning("%s", error)


def _shard_paths(directory: Path) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if SHARD_NAME.fullmatch(path.name))
    except FileNotFoundError:
        return []


def _runs(places: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return start and stop of each run of places that follow each other."""
    breaks = (np.flatnonzero(np.diff(places) != 1) + 1).tolist()
    return list(pairwise([0, *breaks, len(places)])) if len(places) else []


@contextmanager
def _reopened(shard: _Shard) -> Iterator[FileIO]:
    with FileIO(shard.path) as file:
        if _signature(os.fstat(file.fileno())) != shard.signature:
            raise _NotAShard("it was replaced")
        yield file


def _signature(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_ino, status.st_mtime_ns


def _verified(path: Path, dtype: np.dtype[np.void]) -> tuple[_Shard, npt.NDArray[np.bytes_]]:
    """Hash a shard and look at its header; return it, and the images of its rows.

    Raises:
        FileNotFoundError: it is gone.
        _NotAShard: its content is not what its name says, or it holds something else than rows of `dtype`.
    """
    with path.open("rb") as file:
        signature, data = _signature(os.fstat(file.fileno())), file.read()
    if bytes_digest(data) != path.name.removesuffix(SHARD_SUFFIX):
        raise _NotAShard("its content is not that of its name")
    head = BytesIO(data[:4096])
    try:
        if np.lib.format.read_magic(head) != (1, 0):
            raise _NotAShard("it is not of format 1.0")
        shape, _, row_type = np.lib.format.read_array_header_1_0(head)
    except ValueError as error:
        raise _NotAShard(f"no NumPy array: {error}") from error
    if row_type != dtype or len(shape) != 1 or head.tell() + shape[0] * dtype.itemsize != len(data):
        raise _NotAShard(f"it holds {row_type} {shape} instead of rows of {dtype}")
    rows = np.frombuffer(data, dtype, offset=head.tell())
    return _Shard(path, signature, head.tell()), np.ascontiguousarray(rows["picture"]).view("S32")


def _write_shard(directory: Path, rows: npt.NDArray[Any]) -> Path:
    """Write rows under the digest of the file's bytes, and return where."""
    head = BytesIO()
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(rows))
    body = memoryview(rows.tobytes())
    digest = hashlib.sha256(head.getvalue())
    digest.update(body)
    path = directory / f"{digest.hexdigest()}{SHARD_SUFFIX}"
    write_chunks_atomic(path, [memoryview(head.getvalue()), body])
    return path


def _no_row(directory: Path) -> MissingArtifactError:
    found, action = "some without", "They were removed meanwhile; run the step again, it computes them."
    return MissingArtifactError("features of every image that was asked for", found, directory, action)
