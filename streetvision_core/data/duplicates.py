"""Near-duplicate pictures, found by perceptual hash: exactly, by brute force, in bounded memory.

Two pictures are near-duplicates when the Hamming distance of their 64-bit pHashes, or of one's pHash and
the other's mirrored pHash, is at most `max_distance`. Measured (docs of this project, 64-bit pHash): a
re-encoded or half-size copy is at distance 0 to 2, a brighter one up to 6, unrelated photographs at least
14: 8 unites no strangers. A crop of 5 % (10 to 18) is beyond it.

Being near-duplicates is made transitive: what counts is the connected component.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

ROWS, COLUMNS = 256, 1024  # a tile of pairs: 2 MiB of differences, which stays in the cache
MAX_EDGES = 2**20


def near_duplicate_components(
    phashes: Sequence[str], mirrored: Sequence[str], *, max_distance: int = 8
) -> NDArray[np.int64]:
    """Return the component of every picture: int64 [N], numbered by first appearance from 0.

    `phashes` and `mirrored` are 16 hex digits each. Time is quadratic in the number of different hashes,
    memory is a few MiB and some 300 bytes a picture, and does not grow with the number of pairs found.
    """
    if not phashes:
        return np.zeros(0, dtype=np.int64)
    table = np.array(
        [(int(one, 16), int(two, 16)) for one, two in zip(phashes, mirrored, strict=True)], np.uint64
    )
    hashes, which = np.unique(table, axis=0, return_inverse=True)
    labels = np.arange(len(hashes))
    for edges in _gather(_find_pairs(hashes, max_distance)):
        labels = _unite(labels, edges)
    return _number_by_appearance(labels[which.ravel()])


def _find_pairs(hashes: NDArray[np.uint64], max_distance: int) -> Iterator[NDArray[np.int64]]:
    """Give the pairs (i, j), i < j, of near-duplicates tile by tile, as int64 [E, 2]."""
    plain, mirrored = np.ascontiguousarray(hashes[:, 0]), np.ascontiguousarray(hashes[:, 1])
    for top in range(0, len(hashes), ROWS):
        rows = slice(top, top + ROWS)
        for left in range(top, len(hashes), COLUMNS):
            columns = slice(left, left + COLUMNS)
            near = _near(plain[rows], plain[columns], max_distance)
            near |= _near(plain[rows], mirrored[columns], max_distance)
            near |= _near(mirrored[rows], plain[columns], max_distance)
            if near.any():
                pairs = np.argwhere(near) + np.array([top, left])
                yield pairs[pairs[:, 0] < pairs[:, 1]]


def _near(one: NDArray[np.uint64], two: NDArray[np.uint64], max_distance: int) -> NDArray[np.bool_]:
    near: NDArray[np.bool_] = np.bitwise_count(one[:, None] ^ two[None, :]) <= max_distance
    return near


def _gather(parts: Iterator[NDArray[np.int64]]) -> Iterator[NDArray[np.int64]]:
    """Join small parts, so that uniting costs little, and never hold many more than MAX_EDGES pairs."""
    waiting: list[NDArray[np.int64]] = []
    edges = 0
    for part in parts:
        waiting.append(part)
        edges += len(part)
        if edges >= MAX_EDGES:
            yield np.concatenate(waiting)
            waiting, edges = [], 0
    if waiting:
        yield np.concatenate(waiting)


def _unite(labels: NDArray[np.int64], edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the components that `edges` between pictures make of the components `labels`."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = labels[edges]
    size = int(labels.max()) + 1
    graph = coo_array((np.ones(len(ends), dtype=np.int8), (ends[:, 0], ends[:, 1])), shape=(size, size))
    united: NDArray[np.int64] = connected_components(graph.tocsr(), directed=False)[1].astype(np.int64)
    return united[labels]


def _number_by_appearance(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]
