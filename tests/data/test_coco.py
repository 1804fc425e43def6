"""JSON in the layout of COCO: labels by annotations or tags, groups, filters, and nothing hostile."""

from __future__ import annotations

import json

import pytest

from streetvision_core.data import Reason, SourceConfig, UnusableImageError, index_source, open_source
from streetvision_core.data.sources import coco as coco_module
from streetvision_core.errors import ConfigError, DataError

from .making import jpeg, write


def image(number, **fields):
    return {
        "id": number,
        "file_name": f"images/v{number // 2}_{number}.jpg",
        "width": 9,
        "height": 9,
        **fields,
    }


def content(images, pairs=(), names=("Cone", "Fence", "Car")):
    return {
        "images": images,
        "annotations": [{"id": n, "image_id": i, "category_id": c} for n, (i, c) in enumerate(pairs)],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names)],
    }


def coco(tmp_path, data, **options):
    text = data if isinstance(data, bytes) else json.dumps(data).encode()
    path = write(tmp_path / "annotations" / "train.json", text)
    return open_source(SourceConfig(coco={"path": str(path), **options}))


def listed(source):
    return [entry.label for entry in source.entries()]


def test_an_image_with_an_annotation_is_roadwork(tmp_path):
    data = content([image(n) for n in range(4)], [(0, 0), (0, 1), (2, 2)])
    assert listed(coco(tmp_path, data)) == [1, 0, 1, 0]
    assert listed(coco(tmp_path, data, roadwork="cone")) == [1, 0, 0, 0]
    assert listed(coco(tmp_path, data, none="CAR ")) == [1, 0, 0, 0]
    with pytest.raises(DataError, match="barrel; the images are annotated with car x 1, cone x 1, fence x 1"):
        listed(coco(tmp_path, data, roadwork="Barrel"))


@pytest.mark.parametrize("word", ["None", "no roadwork", "normal"])
def test_a_category_that_denies_is_never_taken_as_roadwork(tmp_path, word):
    """An image is annotated with its class: without the settings, every image would be roadwork."""
    data = content([image(n) for n in range(4)], [(n, n % 2) for n in range(4)], names=(word, "works"))
    with pytest.raises(DataError, match=f"{word.lower()} among the categories.*none: ..{word.lower()}"):
        listed(coco(tmp_path, data))
    for words in ({"none": word}, {"roadwork": "works"}):
        assert listed(coco(tmp_path, data, **words)) == [0, 1, 0, 1]


def test_a_scene_tag_decides_where_it_is_named(tmp_path):
    tags = [["Lane Closed", "Detour"], ["No change"], [], "no change"]
    images = [image(n, scene_level_tags={"alteration": tag, "weather": "rain"}) for n, tag in enumerate(tags)]
    options = {"label_column": "scene_level_tags.alteration"}
    with pytest.raises(DataError, match="Detour x 1, Lane Closed x 1, No change x 2, empty x 1"):
        listed(coco(tmp_path, {"images": images}, **options))
    words = {"none": "no change", "roadwork": ["lane closed", "detour"]}
    source = coco(tmp_path, {"images": images}, **options, **words)
    assert listed(source) == [1, 0, None, 0]
    first = next(source.entries())
    assert first.attributes == {"width": "9", "height": "9", "scene_level_tags.weather": "rain"}
    with pytest.raises(DataError, match=r"no tag among id, file_name"):
        coco(tmp_path, {"images": images}, label_column="tag")


def test_groups_come_from_a_field_or_from_the_file_name(tmp_path):
    data = content([image(n, video_info={"vid_id": n % 2}, city="Ulm") for n in range(4)])
    assert [entry.group for entry in coco(tmp_path, data).entries()] == ["0", "1", "0", "1"]
    pattern = coco(tmp_path, data, group_pattern=r"/(v\d+)_")
    assert [entry.group for entry in pattern.entries()] == ["v0", "v0", "v1", "v1"]
    assert [entry.group for entry in coco(tmp_path, data, group_column="city").entries()] == ["Ulm"] * 4
    assert [entry.group for entry in coco(tmp_path, data, group_column=None).entries()] == [None] * 4


def test_an_official_split_and_a_filter_come_from_fields(tmp_path):
    data = content([image(n, split=("train", "test")[n % 2], gps={"ok": n < 2}) for n in range(4)])
    source = coco(tmp_path, data, role_column="split", keep={"gps.ok": True})
    assert [entry.role for entry in source.entries()] == ["train", "val_test"]


def test_images_are_read_below_the_root(tmp_path):
    for number in range(4):
        write(tmp_path / image(number)["file_name"], jpeg(number))
    data = content([image(n) for n in range(4)], [(1, 0), (3, 0)])
    index = index_source(coco(tmp_path, data, root=str(tmp_path)))
    assert [image.label for image in index.pictures] == [0, 1, 0, 1]


@pytest.mark.parametrize("name", ["/etc/hostname", "../secret.jpg", "a/../../secret.jpg", "link.jpg", "a\0b"])
def test_no_file_name_leaves_the_root(tmp_path, name):
    write(tmp_path / "secret.jpg", jpeg(1))
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "link.jpg").symlink_to("../secret.jpg")
    source = coco(tmp_path, content([image(0, file_name=name)]))
    [entry] = source.entries()
    with pytest.raises(UnusableImageError) as caught:
        source.read(entry.name)
    assert caught.value.reason is (Reason.MISSING if "\0" in name else Reason.OUTSIDE)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"{", "a file in JSON"),
        (b"\xff\xfe", "a file in JSON"),
        (b"[" * 100_000, "a file in JSON"),
        (b"[]", "no object"),
        ({"pictures": []}, "the keys pictures"),
        ({"images": {}}, "images: a list of objects"),
        ({"images": [1]}, "images: a list of objects"),
        ({"images": [{"id": 1}]}, "none in number 0"),
        ({"images": [{"id": 1, "file_name": 3}]}, "none in number 0"),
        ({"images": [{"id": [], "file_name": "a"}]}, "id of each of images"),
        ({"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}]}, "one id for several"),
        ({"images": [{"id": 1, "file_name": "a"}]}, "categories: a list of objects"),
        (content([image(0)], [(7, 0), (8, 0), (0, 9)]), "category_id x 1, image_id x 2"),
    ],
)
def test_what_is_no_coco_is_one_readable_paragraph(tmp_path, data, words):
    with pytest.raises(DataError, match=words) as caught:
        coco(tmp_path, data)
    assert len(str(caught.value)) < 1000


def test_a_file_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(coco_module, "MAX_BYTES", 10)
    with pytest.raises(DataError, match="at most 10 bytes"):
        coco(tmp_path, content([image(0)]))


def test_a_path_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ConfigError, match="nothing at this path"):
        open_source(SourceConfig(coco={"path": str(tmp_path / "x.json")}))
