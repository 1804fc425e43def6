"""Warnings where the label can be told without the street, and none where it cannot."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from streetvision_core.data import (
    CsvConfig,
    FolderConfig,
    ImageIndex,
    ParquetConfig,
    SourceConfig,
    index_source,
    open_source,
)
from streetvision_core.data.shortcuts import (
    JOINT,
    WHAT_TO_DO,
    WHERE_UNGROUPED,
    find_shortcuts,
    shortcut_warnings,
)
from streetvision_core.demo import write_demo
from streetvision_core.errors import DataError
from streetvision_core.eval.ranking import auroc, auroc_interval

from .inputs import shared_data, shared_input
from .making import index_of, picture


def world(change, *, images=400, group_size=4) -> ImageIndex:
    """Images whose label is drawn for each group; `change` gives the fields that depend on the label."""
    draw = random.Random(1)
    groups = {n: draw.randint(0, 1) for n in range(images // group_size)}
    rows = []
    for n in range(images):
        group = n // group_size
        plain = replace(
            picture(f"i{n:04}", groups[group], f"g{group}"),
            width=draw.choice([640, 800]),
            height=480,
            size_bytes=draw.randint(50_000, 90_000),
            brightness=draw.randint(40, 200),
            format=draw.choice(["JPEG", "PNG"]),
        )
        rows.append(replace(plain, **change(plain, draw)))
    return index_of(rows)


def names(index: ImageIndex) -> list[str]:
    return [shortcut.feature for shortcut in find_shortcuts(index)]


def noisy(label: int, draw: random.Random) -> int:
    """The label, or the other one for 15 of 100 images."""
    return label if draw.random() < 0.85 else 1 - label


@pytest.mark.parametrize(
    ("feature", "change"),
    [
        ("width", lambda image, draw: {"width": 300 + 100 * noisy(image.label, draw), "height": image.width}),
        ("height", lambda image, draw: {"height": 480 - 100 * noisy(image.label, draw)}),
        ("bytes per pixel", lambda image, _: {"size_bytes": image.width * (2 if image.label else 1)}),
        ("brightness", lambda image, draw: {"brightness": 90 if image.label else draw.choice([30, 180])}),
        ("format", lambda image, draw: {"format": ["JPEG", "PNG"][noisy(image.label, draw)]}),
        ("attribute source", lambda image, draw: {"attributes": {"source": "ab"[noisy(image.label, draw)]}}),
        ("attribute Make", lambda image, draw: {"attributes": {"Make": "xy"[noisy(image.label, draw)]}}),
    ],
)  # fmt: skip
def test_each_feature_that_tells_the_label_is_named(feature, change):
    """In either direction, in the middle of a range, by value: the feature is among the findings."""
    index = world(change)
    shortcuts = {shortcut.feature: shortcut for shortcut in find_shortcuts(index)}
    assert feature in shortcuts
    assert shortcuts[feature].interval.low > 0.6
    assert f"told from {feature} alone, AUROC " in str(shortcuts[feature])
    assert "i0" in str(shortcuts[feature])  # an example


def test_where_no_groups_are_known_the_warning_says_that_it_may_be_chance():
    """Frames of a few videos have the size and light of their video, and tell its label by chance."""
    index = world(lambda image, _: {"height": 480 - 100 * image.label})
    alone = index_of(replace(image, group=image.name) for image in index.pictures)
    for images, ungrouped in ((index, False), (alone, True)):
        warnings = shortcut_warnings(images, find_shortcuts(images))
        assert (WHERE_UNGROUPED in warnings) == ungrouped
        assert warnings[-1] == WHAT_TO_DO
    assert shortcut_warnings(alone, ()) == []


def test_nothing_is_found_where_nothing_tells_the_label():
    index = world(
        lambda image, draw: {
            "attributes": {
                "camera": image.group,
                "device": image.name,
                "source": draw.choice("abc"),
                "works": ["no", "yes"][image.label],
            }
        }
    )
    assert names(index) == []


def test_features_that_tell_it_only_together_are_named_together():
    def weak(image, draw):
        hints = [image.label ^ (draw.random() < 0.37) for _ in range(4)]
        return {
            "format": ["JPEG", "PNG"][hints[0]],
            "width": 640 + 160 * hints[1],
            "attributes": {"source": "ab"[hints[2]], "camera": "ab"[hints[3]]},
        }

    assert names(world(weak, images=1200)) == [JOINT]


def test_a_few_groups_are_no_evidence():
    """Four drives of roadwork, all by another camera: that may be chance, however many frames they have."""
    rows = [
        replace(
            picture(f"i{n:03}", int(n < 80), f"g{n // 20}"), attributes={"camera": "new" if n < 80 else "old"}
        )
        for n in range(400)
    ]
    assert names(index_of(rows)) == []


def test_the_order_of_the_index_and_absent_measurements_change_nothing():
    index = world(lambda image, _: {"brightness": None, "format": "", "height": 400 + 80 * image.label})
    shuffled = list(index.pictures)
    random.Random(3).shuffle(shuffled)
    assert find_shortcuts(ImageIndex(tuple(shuffled))) == find_shortcuts(index)
    assert {"brightness", "format"}.isdisjoint(names(index))


def test_the_input_whose_label_is_the_camera_is_found_out():
    folder = shared_input("16-label-is-the-camera") / "e04b_label_is_the_camera" / "pictures"
    shortcuts = find_shortcuts(index_source(open_source(SourceConfig(folder=FolderConfig(path=str(folder))))))
    assert {"width", "height", "bytes per pixel"} <= {shortcut.feature for shortcut in shortcuts}
    assert shortcuts[0].auroc == 1.0


def test_the_source_of_the_real_photographs_tells_their_label():
    config = SourceConfig(csv=CsvConfig(path=str(shared_data("streets") / "labels.csv")))
    shortcuts = {shortcut.feature: shortcut for shortcut in find_shortcuts(index_source(open_source(config)))}
    assert shortcuts["attribute source"].auroc == pytest.approx(0.69, abs=0.02)
    assert "Roadwork 64% 'cones'" in str(shortcuts["attribute source"])


def test_the_drawn_demo_has_no_shortcut(tmp_path):
    write_demo(tmp_path / "demo.parquet", 300, size=96)
    config = SourceConfig(parquet=ParquetConfig(path=str(tmp_path / "demo.parquet")))
    assert names(index_source(open_source(config))) == []


def test_what_the_works_themselves_change_needs_more():
    """A cone adds bytes: an AUROC of .85 is no shortcut there, as it is where the size says it."""
    assert names(world(lambda image, draw: {"brightness": 80 + 40 * noisy(image.label, draw)})) == []


# --- the interval


def test_the_interval_is_delongs_where_each_image_is_a_group():
    """Against the definition: every pair of a roadwork and a none image, without the padding's share."""
    random_ = np.random.default_rng(0)
    labels = random_.random(400) < 0.4
    scores = np.round(random_.normal(size=400) + labels, 1)
    pairs = scores[labels][:, None] - scores[~labels][None]
    wins = (pairs > 0) + 0.5 * (pairs == 0)
    deviation = np.sqrt(wins.mean(1).var(ddof=1) / labels.sum() + wins.mean(0).var(ddof=1) / (~labels).sum())
    interval = auroc_interval(scores, labels, np.arange(400))
    assert auroc(scores, labels) == pytest.approx(wins.mean())
    assert interval.high - interval.low == pytest.approx(2 * 1.975 * deviation, rel=0.02)


def test_groups_widen_the_interval_and_it_covers():
    """40 groups of 10 alike images: it covers about .95 of 200 worlds, and by image far less."""
    random_ = np.random.default_rng(1)
    covered = np.zeros(2)
    group = np.repeat(np.arange(40), 10)
    for _ in range(200):
        labels = np.repeat(np.arange(40) % 2, 10)
        scores = np.repeat(random_.normal(size=40), 10) + 0.3 * random_.normal(size=400)
        for way, groups in enumerate((group, np.arange(400))):
            interval = auroc_interval(scores, labels, groups)
            covered[way] += interval.low <= 0.5 <= interval.high
    assert covered[0] >= 180
    assert covered[1] <= 120


def test_perfect_scores_have_an_interval_and_one_group_has_none():
    labels = np.arange(20) % 2
    interval = auroc_interval(labels, labels, np.arange(20))
    assert interval.high == 1.0
    assert 0.8 < interval.low < 1.0
    with pytest.raises(DataError, match="at least two groups of each class"):
        auroc_interval(labels, labels, np.where(labels == 1, 0, np.arange(20)))
