"""Groups are those that the data names; what joins too many, and what nobody named, is told."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from streetvision_core.data import (
    CsvConfig,
    FolderConfig,
    IndexedImage,
    SourceConfig,
    SplitsConfig,
    assign_splits,
)
from streetvision_core.data.fingerprint import fingerprint
from streetvision_core.data.groups import (
    check_grouping,
    count_groups,
    group_setting,
    groups_known,
    ungrouped_frames,
    unite,
)
from streetvision_core.data.images import ImagesConfig, index_images
from streetvision_core.data.sources import Entry
from streetvision_core.data.verify import verify_splits
from streetvision_core.errors import DataError

from .inputs import shared_input
from .making import encode, index_of, picture, scene


def measured(
    name: str, data: bytes, *, label: int = 0, group: str | None = None, **attributes: str
) -> IndexedImage:
    made = fingerprint(data)
    return IndexedImage(name=name, label=label, group=group or name, attributes=attributes, **vars(made))


def frame(video: int, number: int) -> bytes:
    """A night frame: a dark road in the pool of two headlights, a few lamps that pass, and noise."""
    of_video, of_frame = np.random.default_rng(video), np.random.default_rng([video, number])
    y, x = np.mgrid[:90, :160] / np.array([[[90]], [[160]]])
    light = 4 + 30 * np.exp(-((x - of_video.normal(0.5, 0.02)) ** 2 / 0.08 + (y - 0.85) ** 2 / 0.03))
    for _ in range(of_video.integers(1, 5)):
        across, up, bright = of_video.uniform((0, 0.2, 20), (1, 0.6, 150))
        light += bright * np.exp(-((x - across - 0.01 * number) ** 2 + (y - up) ** 2) / 4e-4)
    noisy = np.clip(light + of_frame.normal(0, 1.5, light.shape), 0, 255).astype(np.uint8)
    return encode(Image.fromarray(noisy).convert("RGB"), quality=85)


def night(*, videos: int, frames: int, grouped: bool) -> list[IndexedImage]:
    return [
        measured(f"v{v:02}_{n:03}.jpg", frame(v, n), label=v % 2, group=f"v{v:02}" if grouped else None)
        for v in range(videos)
        for n in range(frames)
    ]


# --- uniting


def test_a_night_of_thirty_videos_splits_into_four_usable_roles():
    """Dark frames of little texture are alike in 64 bits, across videos; 256 bits tell them apart."""
    index = index_of(night(videos=30, frames=10, grouped=True))
    splits = assign_splits(index, SplitsConfig())
    assert verify_splits(index, splits) == []
    assert splits.uniting.groups_after >= 25
    for row in splits.table():
        assert abs(row["share"] - SplitsConfig().shares[row["role"]]) < 0.07
        assert 0.3 < row["roadwork"] / row["pictures"] < 0.7
    coarse = index_of(replace(image, phash256="", phash256_mirrored="") for image in index.pictures)
    with pytest.raises(DataError, match=r"of 300 images of \d+ groups .*leave out what shows nothing"):
        assign_splits(coarse, SplitsConfig())


def alike(groups: list[str | None]) -> list[IndexedImage]:
    """Images that are all near-duplicates of each other, one of each group."""
    return [picture(f"p{n:02}", n % 2, group, phash=1 << n % 60) for n, group in enumerate(groups)]


def test_more_than_five_groups_that_hang_together_are_shown():
    others = [picture(f"q{n:03}", n % 2, f"h{n // 2}") for n in range(200)]
    united = unite(alike([f"g{n}" for n in range(5)]) + others)
    assert {group.name: len(group.members) for group in united}["g0"] == 5
    with pytest.raises(DataError) as error:
        unite(alike([f"g{n}" for n in range(6)]) + others)
    assert "6 of 206 images of 6 groups (g0, g1, g2 and 3 more)" in str(error.value)
    assert "p00 (group g0) and p01 (group g1), 2 of 64 and 0 of 256 bits apart" in str(error.value)
    assert "give them one group" in str(error.value)
    assert "leave out what shows nothing" in str(error.value)


def test_groups_that_hang_together_by_several_components_are_shown_as_well():
    """g0 and g1 share an image, g1 and g2 another, and so on: seven groups in one, two by two."""
    pairs = [
        picture(f"p{n}-{side}", n % 2, f"g{n + side}", phash=0x0123456789ABCDEF * (2 * n + 1) % 2**64)
        for n in range(6)
        for side in (0, 1)
    ]
    with pytest.raises(DataError, match=r"12 of 12 images of 7 groups"):
        unite(pairs)


def test_copies_without_a_group_unite_until_they_are_a_large_part_of_the_images():
    others = [picture(f"q{n:03}", n % 2) for n in range(300)]
    assert len(unite(alike([None] * 29) + others)) == 301
    with pytest.raises(DataError, match=r"30 of 330 images of 30 groups"):
        unite(alike([None] * 30) + others)
    many = [picture(f"q{n:04}", n % 2) for n in range(600)]
    assert len(unite(alike([None] * 30) + many)) == 601


def test_one_large_group_is_no_accident():
    others = [picture(f"q{n:03}", n % 2) for n in range(20)]
    united = unite(alike(["g"] * 60) + others)
    assert {group.name: len(group.members) for group in united}["g"] == 60


# --- settings without effect

LISTED = [Entry(f"pictures/VID_{n}.jpg", n % 2, None, {"video_id": "v0", "place": "a"}) for n in range(4)]


def test_a_pattern_that_matches_nothing_is_an_error_with_three_names():
    config = SourceConfig(folder=FolderConfig(path="x", group_pattern=r"^(video\d+)_"))
    with pytest.raises(DataError) as error:
        check_grouping(LISTED, config)
    for part in (
        "folder.group_pattern",
        r"'^(video\d+)_' matches none of 4",
        "pictures/VID_0.jpg, pictures/VID_1.jpg, pictures/VID_2.jpg and 1 more",
        "below the class folder",
    ):
        assert part in str(error.value)
    check_grouping([replace(LISTED[0], group="g"), *LISTED[1:]], config)


def test_a_column_without_a_value_is_an_error_with_the_columns_there_are():
    config = SourceConfig(csv=CsvConfig(path="x", group_column="drive"))
    with pytest.raises(DataError, match=r"csv.group_column.*one of place, video_id"):
        check_grouping(LISTED, config)


def test_without_a_setting_of_ones_own_no_groups_are_no_error():
    check_grouping(LISTED, SourceConfig(csv=CsvConfig(path="x")))
    check_grouping(LISTED, SourceConfig(csv=CsvConfig(path="x", group_column=None)))
    check_grouping(LISTED, SourceConfig(folder=FolderConfig(path="x")))


# --- nobody named groups


def test_frames_without_a_group_are_seen_by_their_names_and_looks():
    images = night(videos=8, frames=5, grouped=False)
    seen = ungrouped_frames(images)
    assert seen is not None
    assert (seen.images, seen.neighbours, seen.series, seen.columns) == (40, 32, 8, ())
    words = seen.describe("folder.group_pattern")
    assert "40 of 40 images have no group" in words
    assert "v00_000.jpg, v00_001.jpg, v00_002.jpg" in words
    assert r"folder.group_pattern, for example to '^(.*?)\d+\D*$'" in words
    assert ungrouped_frames(night(videos=8, frames=5, grouped=True)) is None


def test_images_without_a_group_beside_others_are_counted():
    """A shard that lacks the group column, or a pattern that half of the names match."""
    images = [picture(f"p{n}", n % 2, "g" if n < 6 else None) for n in range(10)]
    seen = ungrouped_frames(images)
    assert seen is not None
    assert seen.describe("parquet.group_column").startswith(
        "4 of 10 images have no group, for example p6, p7"
    )
    assert ungrouped_frames(images[:6]) is None


def test_photographs_that_count_up_but_show_different_things_are_no_frames():
    images = [measured(f"IMG_{n:04}.jpg", encode(scene(n), quality=80)) for n in range(60)]
    assert ungrouped_frames(images) is None
    assert not groups_known(images)


def test_a_column_that_is_named_like_a_group_is_named():
    images = [measured(f"p{n}.jpg", encode(scene(n)), video_id=f"v{n // 5}", site=f"{n}") for n in range(20)]
    seen = ungrouped_frames(images)
    assert seen is not None
    assert seen.columns == ("video_id",)
    assert "Set csv.group_column: video_id" in seen.describe("csv.group_column")


def test_images_that_are_groups_of_their_own_are_counted_as_images():
    assert count_groups(12, 12, known=False) == "12 images (no groups known)"
    assert count_groups(1, 1, known=False) == "1 image (no groups known)"
    assert count_groups(12, 12, known=True) == "12 groups"  # of one image each, named by the data
    assert count_groups(1, 12, known=True) == "1 group"
    for grouped in (True, False):
        index = index_of(picture(f"p{n}", n % 2, f"g{n // 2}" if grouped else None) for n in range(40))
        assert assign_splits(index, SplitsConfig()).groups_known == grouped == groups_known(index.pictures)
        words = " in 20 groups" if grouped else ", images (no groups known)"
        assert index.summary.endswith(f"(20 None, 20 Roadwork){words}; 0 put aside")


def test_images_without_a_group_are_counted_beside_the_groups():
    index = index_of(picture(f"p{n}", n % 2, "g" if n < 6 else None) for n in range(10))
    assert " in 1 group and 4 images without one; 0 put aside" in index.summary
    metrics = index.to_artifact().metrics
    assert (metrics["groups"], metrics["ungrouped"]) == (1, 4)


def test_groups_of_one_image_each_are_known():
    index = index_of(picture(f"p{n}", n % 2, f"place {n}") for n in range(40))
    assert assign_splits(index, SplitsConfig()).groups_known
    assert "in 40 groups" in index.summary


def entry(name, group=None, **attributes):
    return Entry(name, 0, group, attributes)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"csv": {"path": "x", "group_column": "vid"}}, "'vid' matches none of 1.*csv.group_column of a"),
        ({"folder": {"path": "x", "group_pattern": "(v)"}}, "folder.group_pattern of a.*class folder"),
        ({"coco": {"path": "x", "group_pattern": "(v)"}}, "coco.group_pattern of a.*the file name"),
        ({"coco": {"path": "x", "group_column": "vid"}}, "coco.group_column of a.*Name another column"),
    ],
)
def test_a_group_setting_of_one_of_several_sources_must_match_there(part, words):
    config = SourceConfig(join=[{"name": "a", **part}, {"name": "ab", "parquet": {"path": "y"}}])
    others = [entry("ab/1.jpg", "g")]
    with pytest.raises(DataError, match=words):
        check_grouping([entry("a/1.jpg"), *others], config)
    check_grouping([entry("a/1.jpg", "g"), *others], config)


def test_the_setting_is_that_of_the_source_of_the_image():
    config = {"join": [{"name": "a", "folder": {}}, {"name": None, "coco": {}}]}
    settings = [group_setting(config, image) for image in ("a/1.jpg", "coco/1.jpg")]
    assert settings == ["folder.group_pattern", "coco.group_column"]
    assert group_setting({"coco": {}, "csv": None}) == "coco.group_column"


def test_files_and_sources_without_any_group_are_named():
    images = [
        picture(f"d/{file}.parquet#00000{n}", n % 2, None if file == "b" else "g")
        for file in "ab"
        for n in (0, 1)
    ]
    seen = ungrouped_frames(images)
    assert "; none at all in d/b.parquet. " in seen.describe("parquet.group_column")
    images = [
        replace(
            picture(f"{source}/{n}", n % 2, "g" if source == "x" else None), attributes={"source": source}
        )
        for source in ("x", "y")
        for n in (0, 1)
    ]
    assert ungrouped_frames(images).places == ("y",)
    assert ungrouped_frames(images[2:]) is None


@pytest.mark.parametrize(
    ("name", "config", "words"),
    [
        (
            "a07b_pattern_never_real_video",
            {"folder": {"path": "pictures", "group_pattern": r"^(video\d+)_"}},
            r"folder.group_pattern.*matches none of 120, for example None/VID_20260401_f000.jpg",
        ),
        (
            "b33_group_other_name",
            {"csv": {"path": "labels.csv"}},
            r"20 of 20 images have no group.*Set csv.group_column: video_id",
        ),
        (
            "c09_shard_without_group",
            {"parquet": {"path": "data"}},
            r"24 of 48 images have no group.*; none at all in \S+\.parquet.*parquet.group_column",
        ),
    ],
)
def test_what_users_met_is_told(name, config, words, tmp_path):
    """A setting that groups nothing is an error; no groups, or some, are a warning that says how many."""
    folder = shared_input("04-groups-never-matched") / name
    ((kind, settings),) = config.items()
    settings = {**settings, "path": str(folder / settings["path"])}
    try:
        indexed = index_images(ImagesConfig(**{kind: settings}), directory=tmp_path)
    except DataError as error:
        text = str(error)
    else:
        seen = ungrouped_frames(indexed.index.pictures)
        assert seen is not None
        text = seen.describe(group_setting({kind: settings}))
    assert re.search(words, text), text
