"""The demo images: drawn the same everywhere, varied, and impossible to tell apart by colour alone."""

from __future__ import annotations

import io
from collections import defaultdict

import imagehash
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageOps
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import matthews_corrcoef
from sklearn.model_selection import GroupShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from streetvision_core.demo import DemoImage, draw_images, draw_sequence, write_demo
from streetvision_core.demo.light import TIMES_OF_DAY, WEATHERS


@pytest.fixture(scope="module")
def pictures() -> list[DemoImage]:
    """The default set."""
    return list(draw_images(3000))


def test_same_seed_gives_same_bytes_and_workers_do_not_matter() -> None:
    alone, together = (list(draw_images(150, seed=3, workers=workers)) for workers in (1, 2))
    assert alone == together


def test_another_seed_draws_other_images() -> None:
    first, second = draw_sequence(5, 2, seed=0, size=192), draw_sequence(5, 2, seed=1, size=192)
    assert {image.jpeg for image in first}.isdisjoint(image.jpeg for image in second)


def test_a_sequence_does_not_depend_on_how_many_there_are() -> None:
    few = list(draw_images(20, workers=1))
    more = list(draw_images(40, workers=1))
    assert few[:16] == more[:16]


@pytest.mark.parametrize("size", [96, 192])
def test_every_jpeg_decodes_to_the_size(size: int) -> None:
    for image in draw_images(24, size=size, workers=1):
        with Image.open(io.BytesIO(image.jpeg)) as opened:
            opened.load()
            assert (opened.format, opened.mode, opened.size) == ("JPEG", "RGB", (size, size * 3 // 4))


def test_the_default_set_has_both_labels_and_all_attributes(pictures: list[DemoImage]) -> None:
    assert len(pictures) == 3000
    assert len({image.name for image in pictures}) == len(pictures)
    assert len({image.jpeg for image in pictures}) == len(pictures)
    assert 0.45 < np.mean([image.label for image in pictures]) < 0.55
    for label in (0, 1):
        seen = defaultdict(set)
        for image in pictures:
            if image.label == label:
                for name, value in image.attributes.items():
                    seen[name].add(value)
        assert seen == {"time_of_day": {*TIMES_OF_DAY}, "weather": {*WEATHERS}, "ambiguous": {"yes", "no"}}
    assert 0.01 < np.mean([image.attributes["ambiguous"] == "yes" for image in pictures]) < 0.05


def test_a_group_has_two_to_four_frames_and_one_label(pictures: list[DemoImage]) -> None:
    frames: dict[str, list[DemoImage]] = defaultdict(list)
    for image in pictures:
        frames[image.group].append(image)
    *whole, last = frames.values()
    assert {len(group) for group in whole} == {2, 3, 4}
    assert len(last) <= 4
    for group in frames.values():
        assert len({(image.label, *image.attributes.items()) for image in group}) == 1


def _colour_histograms(image: DemoImage) -> np.ndarray:
    """Square roots of the shares of 8 x 8 x 8 RGB and 8 x 8 x 8 HSV bins."""
    with Image.open(io.BytesIO(image.jpeg)) as opened:
        spaces = [np.asarray(opened) >> 5, np.asarray(opened.convert("HSV")) >> 5]
    bins = [space.reshape(-1, 3).astype(np.int64) @ (64, 8, 1) for space in spaces]
    return np.sqrt(np.concatenate([np.bincount(indices, minlength=512) / indices.size for indices in bins]))


def test_colour_histograms_cannot_tell_the_classes_apart(pictures: list[DemoImage]) -> None:
    """The images must need seeing: the issue asks for less than 0.60."""
    features = np.stack([_colour_histograms(image) for image in pictures])
    labels = np.array([image.label for image in pictures])
    groups = [image.group for image in pictures]
    scores = []
    for train, test in GroupShuffleSplit(2, test_size=0.25, random_state=0).split(features, labels, groups):
        for strength in (1.0, 1e-3):
            model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))
            model.fit(features[train], labels[train])
            scores.append(matthews_corrcoef(labels[test], model.predict(features[test])))
    assert max(scores) < 0.60


def test_unrelated_images_are_not_near_duplicates(pictures: list[DemoImage]) -> None:
    """Splits merge groups within 8 bits of perceptual hash, mirrored too; almost none may merge by chance."""
    some = pictures[:900]
    hashes, mirrored = [], []
    for image in some:
        with Image.open(io.BytesIO(image.jpeg)) as opened:
            hashes.append(imagehash.phash(opened).hash.ravel())
            mirrored.append(imagehash.phash(ImageOps.mirror(opened)).hash.ravel())
    groups = np.array([image.group for image in some])
    apart = groups[:, None] != groups[None, :]
    bits = np.array(hashes, dtype=np.int32)
    for others in (bits, np.array(mirrored, dtype=np.int32)):
        distances = bits @ (1 - others).T + (1 - bits) @ others.T
        assert np.mean(distances[apart] <= 8) < 1e-4


def test_the_file_has_the_layout_of_the_hub_and_the_same_bytes_each_time(tmp_path) -> None:
    write_demo(tmp_path / "one.parquet", 60, workers=1)
    write_demo(tmp_path / "two.parquet", 60, workers=2)
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    table = pq.read_table(tmp_path / "one.parquet")
    assert {field.name: str(field.type) for field in table.schema} == {
        "image": "struct<bytes: binary, path: string>",
        "label": "int64",
        "video_info": "struct<vid_id: string>",
        "time_of_day": "string",
        "weather": "string",
        "ambiguous": "string",
    }
    rows = table.to_pylist()
    for row, image in zip(rows, draw_images(60, workers=1), strict=True):
        assert row["image"] == {"bytes": image.jpeg, "path": image.name}
        assert (row["label"], row["video_info"]["vid_id"]) == (image.label, image.group)
