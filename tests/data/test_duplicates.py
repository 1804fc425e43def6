"""Near-duplicates are exactly the confirmed pairs, in few images and in many, sparse and dense."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageOps
from scipy.sparse.csgraph import connected_components

from streetvision_core.data import CsvConfig, Reason, SourceConfig, duplicates, index_source, open_source
from streetvision_core.data.duplicates import Hashes, compare_hashes, near_duplicates
from streetvision_core.errors import DataError

from .making import encode, picture, write, write_csv


def flipped(draw, value: np.ndarray, most: int) -> np.ndarray:
    """Words with up to `most` random bits of them turned over: uint64 [W]."""
    bits = np.unpackbits(value.view(np.uint8))
    bits[draw.integers(0, len(bits), draw.integers(0, most + 1))] ^= 1
    return np.packbits(bits).view(np.uint64)


def crowd(seed: int, *, centres: int = 60, each: int = 8, confirmable: float = 0.9) -> Hashes:
    """Hashes around centres, some near in 64 bits and far in 256; some the mirror image of others."""
    draw = np.random.default_rng(seed)
    rows = []
    for _ in range(centres):
        words = [draw.integers(0, 2**64, size, dtype=np.uint64) for size in (1, 1, 4, 4)]
        for _ in range(each):
            row = [flipped(draw, word, most) for word, most in zip(words, (5, 5, 30, 30), strict=True)]
            rows.append([row[1], row[0], row[3], row[2]] if draw.random() < 0.3 else row)
    plain, mirrored, plain256, mirrored256 = (np.stack(column) for column in zip(*rows, strict=True))
    known = draw.random(len(rows)) < confirmable
    return Hashes(plain.ravel(), mirrored.ravel(), plain256, mirrored256, known)


def ways(hashes: Hashes, i: int, j: int, distance: int) -> list[tuple[int, int]]:
    """Bits of 256 and of 64 between two images, each way that confirms them, in plain Python."""

    def bits(first, second):
        return sum((int(a) ^ int(b)).bit_count() for a, b in zip(first, second, strict=True))

    plain, mirrored = hashes.plain, hashes.mirrored
    both = hashes.confirmable[i] and hashes.confirmable[j]
    compared = (
        (bits(hashes.plain256[i], hashes.plain256[j]), bits([plain[i]], [plain[j]])),
        (bits(hashes.mirrored256[j], hashes.plain256[i]), bits([mirrored[j]], [plain[i]])),
        (bits(hashes.mirrored256[i], hashes.plain256[j]), bits([mirrored[i]], [plain[j]])),
    )
    known = [(far if both else 0, near) for far, near in compared]
    return [(far, near) for far, near in known if near <= distance and far <= 40]


@pytest.mark.parametrize("distance", [0, 4, 8])
@pytest.mark.parametrize("few", [0, 4096])
def test_pairs_are_those_of_plain_python(distance, few, monkeypatch):
    """Tables of parts, small chunks and their union agree with comparing every pair in full."""
    monkeypatch.setattr(duplicates, "FEW", few)
    monkeypatch.setattr(duplicates, "CHUNK", 50)
    hashes = crowd(distance, centres=12)
    kinds = np.random.default_rng(1).integers(0, 3, len(hashes.plain)).tolist()
    total = range(len(hashes.plain))
    pairs = [(i, j) for i in total for j in total if i != j and ways(hashes, i, j, distance)]
    graph = np.zeros((len(total), len(total)), np.bool_)
    graph[tuple(np.array(pairs).T)] = True
    components = connected_components(graph)[1].tolist()
    result = compare_hashes(hashes, kinds, max_distance=distance, confirmed=40)
    assert len(set(zip(components, result.component.tolist(), strict=True))) == len(set(components))
    assert len(set(components)) == result.component.max() + 1
    assert result.component[0] == 0
    assert result.count.tolist() == graph.sum(axis=1).tolist()
    for n, other in enumerate(result.other.tolist()):
        foreign = [j for i, j in pairs if i == n and kinds[j] != kinds[n]]
        assert (other >= 0) == bool(foreign)
        if foreign:
            bits = (int(result.distance256[n]), int(result.distance[n]))
            assert kinds[other] != kinds[n]
            assert bits in ways(hashes, n, other, distance)
            assert bits[0] <= min(max(ways(hashes, n, j, distance))[0] for j in foreign)


def test_no_images_have_no_near_duplicates():
    assert near_duplicates([], []).component.tolist() == []


def test_a_crowd_of_equal_images_needs_no_list_of_pairs():
    """100,000 copies are five thousand million pairs; only different hashes are compared."""
    same = crowd(0, centres=1, each=1).take(np.zeros(100_000, np.int64))
    result = compare_hashes(same, [n % 2 for n in range(100_000)])
    assert result.component.max() == 0
    assert set(result.count.tolist()) == {99_999}
    assert result.other.tolist()[:2] == [99_999, 0]


def test_64_bits_alone_do_not_make_near_duplicates_of_images_with_256():
    """Two dark frames share coarse structure; an index of an older version knows nothing finer."""
    first, second = picture("one", 0, phash=7), picture("two", 0, phash=7)
    finer = [
        replace(image, phash256=f"{bits:064x}", phash256_mirrored=f"{2**250:064x}")
        for image, bits in ((first, 0), (second, 2**41 - 1))
    ]
    assert near_duplicates([first, second], "ab").component.tolist() == [0, 0]
    assert near_duplicates([finer[0], second], "ab").component.tolist() == [0, 0]
    assert near_duplicates(finer, "ab").component.tolist() == [0, 1]
    close = [finer[0], replace(finer[1], phash256=f"{2**40 - 1:064x}")]
    result = near_duplicates(close, "ab")
    assert (result.component.tolist(), result.distance256.tolist()) == ([0, 0], [40, 40])


def test_a_region_too_dense_for_pairs_is_an_error_that_names_an_image(monkeypatch):
    monkeypatch.setattr(duplicates, "FEW", 0)
    monkeypatch.setattr(duplicates, "MAX_PAIRS", 100)
    images = [picture(f"black{n}", 0, phash=1 << n % 64) for n in range(64)]
    with pytest.raises(DataError, match=r"images like black\d+ are the most.*Remove blank or black images"):
        near_duplicates(images, range(64))


def test_copies_with_the_other_label_are_quarantined_with_their_distance(tmp_path):
    """Both go, whoever is right; a copy with the same label, and a stranger with the other one, stay."""
    fine = np.random.default_rng(0).integers(0, 256, (4, 30, 40, 3), dtype=np.uint8)
    scenes = [Image.fromarray(pixels).resize((160, 120), Image.Resampling.BICUBIC) for pixels in fine]
    mirrored = ImageOps.mirror(scenes[0]).resize((80, 60))
    images = {
        "a.jpg": (encode(scenes[0], quality=90), 1),
        "a mirrored.png": (encode(mirrored, "PNG"), 0),
        "b.jpg": (encode(scenes[1], quality=90), 1),
        "b again.jpg": (encode(scenes[1], quality=60), 1),
        "c.jpg": (encode(scenes[2]), 0),
        "d.jpg": (encode(scenes[3]), 0),
    }
    for name, (data, _) in images.items():
        write(tmp_path / name, data)
    rows = [{"file": name, "label": label} for name, (_, label) in images.items()]
    for order in (rows, rows[::-1]):
        source = open_source(SourceConfig(csv=CsvConfig(path=str(write_csv(tmp_path / "labels.csv", order)))))
        index = index_source(source, max_quarantined_share=0.5)
        assert [entry.name for entry in index.quarantine] == ["a mirrored.png", "a.jpg"]
        assert {entry.reason for entry in index.quarantine} == {Reason.CONTRADICTING}
        assert "labelled Roadwork, and a mirrored.png is nearly the same" in index.quarantine[1].detail
        assert "of 256 bits apart" in index.quarantine[1].detail
