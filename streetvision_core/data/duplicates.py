"""Near-duplicate images, found by perceptual hash and confirmed pair by pair: exact at a million images.

Two images are near-duplicates when their 64-bit pHashes differ in at most `NEAR` bits **and** their
256-bit pHashes in at most `CONFIRMED` bits, or the same of one's hashes and the other's mirrored ones. Where
an image has no 256-bit hash (an older index), the 64 bits decide alone. Measured on 583 street photographs:
re-encoded, half-size and mirrored copies are all confirmed, brighter ones and crops of 3 % to 98 %, crops of
5 % to 66 %; no two strangers are. Of 300 drawn night frames of 30 videos the 64 bits alone join 103 in one
component, the confirmed pairs never two videos. Being near-duplicates is made transitive: what counts is the
connected component of confirmed pairs.

How pairs are found: the 64 bits are cut into three parts. Of two hashes at distance d, one part differs in
at most d / 3 bits, rounded down, so looking up each part under every such flip misses no pair. Both sides are
sorted by the part, so that one flip of all hashes is a walk through memory: a sixth of the time that faiss'
IndexBinaryMultiHash takes for the same pairs (29 s for a million hashes instead of 187 s). Memory does not
grow with the number of pairs: of each image the nearest pair is listed, the others are counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from streetvision_core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from streetvision_core.data.index import IndexedImage

NEAR = 8  # bits of 64
CONFIRMED = 40  # bits of 256
FEW = 4096  # hashes of which comparing all pairs is faster than any table
CHUNK = 2**20  # pairs that are looked at, or united, at a time
# Comparing a pair takes some 20 ns: this many are a minute or two. A tenth of a million black frames is more.
MAX_PAIRS = 4 * 10**9
_PARTS = ((0, 21), (21, 21), (42, 22))  # first bit and number of bits


class Hashes(NamedTuple):
    """The hashes of N images: uint64 [N] for 64 bits, uint64 [N, 4] for 256, and where there are 256."""

    plain: NDArray[np.uint64]
    mirrored: NDArray[np.uint64]
    plain256: NDArray[np.uint64]
    mirrored256: NDArray[np.uint64]
    confirmable: NDArray[np.bool_]

    @classmethod
    def of(cls, images: Sequence[IndexedImage]) -> Hashes:
        """Return the hashes that an index holds."""
        return cls(
            _words((image.phash for image in images), 1).ravel(),
            _words((image.phash_mirrored for image in images), 1).ravel(),
            _words((image.phash256 for image in images), 4),
            _words((image.phash256_mirrored for image in images), 4),
            np.array([bool(image.phash256 and image.phash256_mirrored) for image in images], np.bool_),
        )

    def unique(self) -> tuple[Hashes, NDArray[np.int64]]:
        """Return the different hashes, and for each image the row of its own: int64 [N]."""
        flags = self.confirmable[:, None].astype(np.uint64)
        columns = (self.plain[:, None], self.mirrored[:, None], self.plain256, self.mirrored256, flags)
        table = np.ascontiguousarray(np.concatenate(columns, axis=1))
        _, first, row = np.unique(
            table.view([("", table.dtype)] * table.shape[1]).ravel(), return_index=True, return_inverse=True
        )
        return self.take(first), row.astype(np.int64)

    def take(self, rows: NDArray[np.int64]) -> Hashes:
        """Return the hashes at `rows`, in that order."""
        return Hashes._make(column[rows] for column in self)


@dataclass(frozen=True)
class NearDuplicates:
    """The near-duplicates among N images, as arrays int64 [N].

    `component` is the connected component, numbered by first appearance from 0. `count` is the number of
    confirmed near-duplicates of the image. `other` is the nearest one of another kind, -1 where there is
    none; `distance` and `distance256` are the bits between the two (0 without 256-bit hashes).
    """

    component: NDArray[np.int64]
    count: NDArray[np.int64]
    other: NDArray[np.int64]
    distance: NDArray[np.int64]
    distance256: NDArray[np.int64]


class _Pairs(NamedTuple):
    """Pairs of rows, and how many bits their hashes differ in: int64 [E]."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    distance: NDArray[np.int64]
    distance256: NDArray[np.int64]

    def near(self, max_distance: int, confirmed: int) -> NDArray[np.bool_]:
        """Tell which pairs are near-duplicates."""
        return (self.distance <= max_distance) & (self.distance256 <= confirmed)

    def where(self, chosen: NDArray[np.bool_]) -> _Pairs:
        """Return the chosen pairs."""
        return _Pairs._make(column[chosen] for column in self)


class _TooDenseError(Exception):
    """More pairs are alike than can be confirmed; `row` is a hash that many are near to."""

    def __init__(self, row: int) -> None:
        super().__init__(row)
        self.row = row


def near_duplicates(
    images: Sequence[IndexedImage],
    kinds: Sequence[object],
    *,
    max_distance: int = NEAR,
    confirmed: int = CONFIRMED,
) -> NearDuplicates:
    """Find the near-duplicates among `images`; raises DataError where too many pairs are alike.

    Args:
        images: The images.
        kinds: The kind of each, its group or label for instance: `other` is of another kind.
        max_distance: Bits of 64 that two near-duplicates may differ in.
        confirmed: Bits of 256 that they may differ in.
    """
    try:
        return compare_hashes(Hashes.of(images), kinds, max_distance=max_distance, confirmed=confirmed)
    except _TooDenseError as error:
        raise DataError(
            f"images of which at most {MAX_PAIRS:.0e} pairs are alike in part",
            f"more; images like {images[error.row].name} are the most",
            "the near-duplicates, which have to be confirmed pair by pair",
            "Remove blank or black images like it.",
        ) from error


def compare_hashes(
    hashes: Hashes, kinds: Sequence[object], *, max_distance: int = NEAR, confirmed: int = CONFIRMED
) -> NearDuplicates:
    """Find the near-duplicates among hashes, like `near_duplicates`."""
    rows, row_of = hashes.unique()
    forest = _Forest(len(rows.plain))
    numbers: dict[object, int] = {}
    nearest = _Nearest(row_of, np.array([numbers.setdefault(kind, len(numbers)) for kind in kinds], np.int64))
    try:
        for pairs in _confirmed_pairs(rows, max_distance, confirmed):
            forest.unite(pairs)
            nearest.note(pairs)
    except _TooDenseError as error:
        raise _TooDenseError(int(np.flatnonzero(row_of == error.row)[0])) from error
    return nearest.result(_number_by_appearance(forest.components()[row_of]))


class _Forest:
    """The components that pairs make of rows; pairs inside of a component cost next to nothing."""

    def __init__(self, rows: int) -> None:
        self._labels = np.arange(rows)
        self._waiting: list[NDArray[np.int64]] = []
        self._edges = 0

    def unite(self, pairs: _Pairs) -> None:
        """Take pairs in; they are united many at a time, because each time is a pass over all rows."""
        ends = np.stack([self._labels[pairs.first], self._labels[pairs.second]])
        self._waiting.append(ends[:, ends[0] != ends[1]])
        self._edges += self._waiting[-1].shape[1]
        if self._edges >= CHUNK:
            self.components()

    def components(self) -> NDArray[np.int64]:
        """Return the component of each row."""
        if self._edges:
            from scipy.sparse import coo_array
            from scipy.sparse.csgraph import connected_components

            ends = np.concatenate(self._waiting, axis=1)
            size = len(self._labels)
            graph = coo_array((np.ones(ends.shape[1], np.int8), (ends[0], ends[1])), shape=(size, size))
            united = connected_components(graph.tocsr(), directed=False)[1].astype(np.int64)
            self._labels = united[self._labels]
        self._waiting, self._edges = [], 0
        return self._labels


class _Nearest:
    """The nearest image of another kind, and the number of near-duplicates, of every image.

    The images of a row are alike in every bit. `_low` and `_high` are two of them, of the least and the
    greatest kind: where these differ, each image of the row has one of another kind at distance 0.
    """

    def __init__(self, row_of: NDArray[np.int64], kind: NDArray[np.int64]) -> None:
        self._row_of, self._kind = row_of, kind
        order = np.lexsort((np.arange(len(kind)), kind, row_of))
        rows, start, self._size = np.unique(row_of[order], return_index=True, return_counts=True)
        self._low, self._high = order[start], order[start + self._size - 1]
        self._count = self._size - 1
        # Distance of 256, of 64, and the other image in one number: the least is the nearest.
        self._best = np.full(len(rows), np.iinfo(np.int64).max)

    def note(self, pairs: _Pairs) -> None:
        """Count pairs of rows, and remember those that are nearest."""
        for here, there in ((pairs.first, pairs.second), (pairs.second, pairs.first)):
            np.add.at(self._count, here, self._size[there])
            own = self._kind[self._low[here]]
            other = np.where(self._kind[self._low[there]] != own, self._low[there], self._high[there])
            packed = (pairs.distance256 << 48) | (pairs.distance << 40) | other
            foreign = self._kind[other] != own
            np.minimum.at(self._best, here[foreign], packed[foreign])

    def result(self, component: NDArray[np.int64]) -> NearDuplicates:
        """Return what was noted, by image."""
        row, kind = self._row_of, self._kind
        mixed = (kind[self._low] != kind[self._high])[row]
        best = self._best[row]
        none = ~mixed & (best == np.iinfo(np.int64).max)
        fellow = np.where(kind[self._low[row]] != kind, self._low[row], self._high[row])
        other = np.where(mixed, fellow, best & (2**40 - 1))
        return NearDuplicates(
            component=component,
            count=self._count[row],
            other=np.where(none, -1, other),
            distance=np.where(mixed | none, 0, (best >> 40) & 255),
            distance256=np.where(mixed | none, 0, best >> 48),
        )


def _confirmed_pairs(rows: Hashes, max_distance: int, confirmed: int) -> Iterator[_Pairs]:
    """Give each confirmed pair of rows once: as they are if that confirms it, else one of them mirrored."""
    for first, second in _near(rows.plain, rows.plain, max_distance):
        ordered = first < second
        pairs = _measure(rows, first[ordered], second[ordered], mirrored=False)
        yield pairs.where(pairs.near(max_distance, confirmed))
    for first, second in _near(rows.mirrored, rows.plain, max_distance):
        # Mirroring the one or the other is nearly the same: the pair is taken the first way that confirms it.
        pairs = _measure(rows, first, second, mirrored=True)
        pairs = pairs.where(pairs.near(max_distance, confirmed) & (first != second))
        plain = _measure(rows, pairs.first, pairs.second, mirrored=False)
        back = _measure(rows, pairs.second, pairs.first, mirrored=True)
        known = plain.near(max_distance, confirmed)
        known |= back.near(max_distance, confirmed) & (pairs.first > pairs.second)
        yield pairs.where(~known)


def _measure(rows: Hashes, first: NDArray[np.int64], second: NDArray[np.int64], *, mirrored: bool) -> _Pairs:
    hashes, hashes256 = (rows.mirrored, rows.mirrored256) if mirrored else (rows.plain, rows.plain256)
    distance = np.bitwise_count(hashes[first] ^ rows.plain[second]).astype(np.int64)
    bits = np.bitwise_count(hashes256[first] ^ rows.plain256[second]).sum(axis=1, dtype=np.int64)
    comparable = rows.confirmable[first] & rows.confirmable[second]
    return _Pairs(first, second, distance, np.where(comparable, bits, 0))


def _near(
    queries: NDArray[np.uint64], table: NDArray[np.uint64], max_distance: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Give the rows of `queries` and `table` within `max_distance` bits of each other, each pair once."""
    if len(table) <= FEW:
        step = max(1, CHUNK // max(1, len(table)))
        for top in range(0, len(queries), step):
            difference = np.bitwise_count(queries[top : top + step, None] ^ table[None, :])
            query_rows, table_rows = np.nonzero(difference <= max_distance)
            yield query_rows + top, table_rows
        return
    flips, looked_at = max_distance // len(_PARTS), 0
    for number, part in enumerate(_PARTS):
        for query_rows, table_rows in _alike_in_part(queries, table, part, flips):
            looked_at += len(query_rows)
            if looked_at > MAX_PAIRS:
                raise _TooDenseError(int(np.bincount(query_rows).argmax()))
            near = np.bitwise_count(queries[query_rows] ^ table[table_rows]) <= max_distance
            first, second = query_rows[near], table_rows[near]
            difference = queries[first] ^ table[second]
            new = np.ones(len(first), np.bool_)
            for earlier in _PARTS[:number]:  # what is alike in an earlier part was given there
                new &= np.bitwise_count(difference & _mask(*earlier)) > flips
            yield first[new], second[new]


def _alike_in_part(
    queries: NDArray[np.uint64], table: NDArray[np.uint64], part: tuple[int, int], flips: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Give all pairs whose bits in one part differ in at most `flips` places, some CHUNK at a time."""
    first, bits = part
    keys = ((table & _mask(*part)) >> np.uint64(first)).astype(np.int32)
    row_at = np.argsort(keys, kind="stable")
    starts = np.zeros(2**bits + 1, np.int64)
    np.cumsum(np.bincount(keys, minlength=2**bits), out=starts[1:])
    keys = ((queries & _mask(*part)) >> np.uint64(first)).astype(np.int32)
    query_at = np.argsort(keys, kind="stable")
    keys = keys[query_at]
    for flip in _flips(bits, flips):
        begin = starts[keys ^ flip]
        count = starts[(keys ^ flip) + 1] - begin
        met = np.flatnonzero(count)
        for which, place in _expand(begin[met], count[met]):
            yield query_at[met[which]], row_at[place]


def _flips(bits: int, most: int) -> Iterator[int]:
    for count in range(most + 1):
        for chosen in combinations(range(bits), count):
            yield sum(1 << bit for bit in chosen)


def _mask(first: int, bits: int) -> np.uint64:
    return np.uint64((2**bits - 1) << first)


def _expand(
    begin: NDArray[np.int64], count: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Give (n, begin[n]), (n, begin[n] + 1) ... of every n, `count[n]` of them, some CHUNK at a time."""
    ends = np.cumsum(count)
    total = int(ends[-1]) if len(ends) else 0
    cuts = np.searchsorted(ends, np.arange(CHUNK, total, CHUNK), side="right")
    for low, high in zip([0, *cuts], [*cuts, len(count)], strict=True):
        if high > low:
            which = np.repeat(np.arange(low, high), count[low:high])
            skipped = ends[low:high] - count[low:high]
            offset = np.arange(len(which)) - np.repeat(skipped - skipped[0], count[low:high])
            yield which, begin[which] + offset


def _words(texts: Iterable[str], words: int) -> NDArray[np.uint64]:
    """Return hashes of 16 hex digits a word as uint64 [N, words]; an empty text is 0."""
    digits = "".join(text or "0" * 16 * words for text in texts)
    return np.frombuffer(bytes.fromhex(digits), ">u8").astype(np.uint64).reshape(-1, words)


def _number_by_appearance(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]
