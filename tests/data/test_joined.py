"""Several sources as one, and the split that the data brings with it."""

from __future__ import annotations

import json
from dataclasses import replace

import pydantic
import pytest

from streetvision_core.data import (
    ROLES,
    ImageIndex,
    Reason,
    SourceConfig,
    SplitsConfig,
    assign_splits,
    index_source,
    open_source,
    verify_splits,
)
from streetvision_core.data.images import ImagesConfig, index_images
from streetvision_core.data.opening import published_source
from streetvision_core.errors import DataError
from streetvision_core.history.text import source_of
from streetvision_core.io.private import local_paths, part_config

from .making import index_of, jpeg, picture, publish, write, write_csv


def csv(tmp_path, name, numbers, label):
    for number in numbers:
        write(tmp_path / name / f"{number}.jpg", jpeg(number))
    rows = [{"file": f"{number}.jpg", "label": label, "group": f"g{number}"} for number in numbers]
    return {"csv": {"path": str(write_csv(tmp_path / name / "labels.csv", rows))}}


def joined(*parts):
    return open_source(SourceConfig(join=list(parts)))


def test_each_image_has_its_source_as_an_attribute_and_in_its_name(tmp_path):
    works = {"name": "ROADWork", **csv(tmp_path, "a", [1, 2], "Roadwork")}
    source = joined(works, csv(tmp_path, "b", [1, 3], "None"))
    entries = list(source.entries())
    assert [entry.name for entry in entries] == ["ROADWork/1.jpg", "ROADWork/2.jpg", "csv/1.jpg", "csv/3.jpg"]
    assert [entry.attributes["source"] for entry in entries] == ["ROADWork"] * 2 + ["csv"] * 2
    assert [entry.label for entry in entries] == [1, 1, 0, 0]
    assert source.read("csv/3.jpg") == jpeg(3)
    assert source.stamp("csv/3.jpg") is not None
    assert "ROADWork: CSV" in source.describe()


def test_one_image_in_two_sources_is_a_duplicate_and_with_both_labels_a_contradiction(tmp_path):
    source = joined(
        {"name": "a", **csv(tmp_path, "a", [1, 2, 4, 5], "Roadwork")},
        {"name": "b", **csv(tmp_path, "b", [1, 3, 6], "None")},
        {"name": "c", **csv(tmp_path, "c", [2, 7], "Roadwork")},
    )
    index = index_source(source, max_quarantined_share=0.5)
    assert {entry.name: entry.reason for entry in index.quarantine} == dict.fromkeys(
        ("a/1.jpg", "b/1.jpg"), Reason.CONTRADICTING
    )
    same = [image.sha256 for image in index.pictures if image.name in ("a/2.jpg", "c/2.jpg")]
    assert same[0] == same[1]


def test_a_name_that_stands_for_two_sources_is_refused(tmp_path):
    part = csv(tmp_path, "a", [1], "None")
    for parts in ([part, part], [{"name": "csv", **part}, part]):
        with pytest.raises(pydantic.ValidationError, match=r"'csv' twice.*name: ROADWork"):
            SourceConfig(join=parts)
    for wrong in ([], [{"name": "a"}], [{"name": "a/b", **part}], [{**part, "folder": {"path": "x"}}]):
        with pytest.raises(pydantic.ValidationError):
            SourceConfig(join=wrong)


def test_a_source_without_an_image_is_an_error_among_others(tmp_path):
    path = write(tmp_path / "empty.csv", b"file,label\n")
    source = joined({"name": "none", "csv": {"path": str(path)}}, csv(tmp_path, "b", [1], "None"))
    with pytest.raises(DataError, match="none in none"):
        list(source.entries())


def test_what_was_joined_is_opened_again_and_its_paths_are_private(tmp_path):
    parts = [{"name": "x", **csv(tmp_path, "a", [1, 2], "works")}, csv(tmp_path, "b", [3, 4], "None")]
    parts[0]["csv"]["roadwork"] = "works"
    config = ImagesConfig(join=parts)
    declared = local_paths(config)
    assert {"join.0.csv.path", "join.1.csv.path"} <= declared
    public, private = part_config(config.model_dump(mode="json"), declared=declared)
    assert str(tmp_path) not in json.dumps(public)
    assert set(private) <= declared
    assert source_of(public)[0] == "join"
    assert set(source_of(public)[1]) == {"x", "csv"}
    again = ImagesConfig.model_validate(config.model_dump(mode="json"))
    assert again == config
    indexed = index_images(config, directory=tmp_path)
    assert [image.label for image in indexed.index.pictures] == [0, 0, 1, 1]

    class Published:
        def config(self):
            return config.model_dump(mode="json")

    assert published_source(Published()).read("x/1.jpg") == jpeg(1)


# --- the split that the data brings


def test_a_file_that_is_listed_in_two_roles_is_in_none(tmp_path):
    rows = [{"file": f"{n}.jpg", "label": n % 2, "split": "train"} for n in range(4)]
    for row in rows:
        write(tmp_path / row["file"], jpeg(int(row["file"][0])))
    path = write_csv(tmp_path / "labels.csv", [*rows, {**rows[0], "split": "test"}])
    source = open_source(SourceConfig(csv={"path": str(path), "role_column": "split"}))
    index = index_source(source, max_quarantined_share=0.5)
    assert {(entry.name, entry.detail) for entry in index.quarantine} == {
        ("0.jpg", "listed in several roles")
    }
    assert {image.role for image in index.pictures} == {"train"}
    assert "split" not in index.pictures[0].attributes


def official(roles=ROLES, each=4):
    images = [
        replace(picture(f"{role}{number}", number % 2, f"{role}-{number}"), role=role)
        for role in roles
        for number in range(each)
    ]
    return index_of(images)


def test_roles_of_the_data_are_the_split(tmp_path):
    index = ImageIndex.from_artifact(publish(official().to_artifact(), tmp_path))
    splits = assign_splits(index, SplitsConfig(seed=3))
    assert splits.roles == {role: tuple(f"{role}{number}" for number in range(4)) for role in ROLES}
    assert not verify_splits(index, splits)


def changed(index, **of):
    return index_of([replace(image, **of.get(image.name, {})) for image in index.pictures])


@pytest.mark.parametrize(
    ("index", "words"),
    [
        (official(roles=("train", "val_test", "val_select")), "none of val_calib, only train x 4"),
        (changed(official(), train1={"role": None}), r"1 images without one beside train x 3"),
        (changed(official(), train0={"group": "val_test-1"}), "train0 in train, val_test1 in val_test"),
        (changed(official(), **{f"val_test{n}": {"label": 1} for n in range(4)}), "only Roadwork in"),
    ],
)  # fmt: skip
def test_a_split_that_cannot_be_kept_is_an_error_that_shows_it(index, words):
    with pytest.raises(DataError, match=words):
        assign_splits(index, SplitsConfig())


def test_near_duplicates_in_two_roles_are_shown():
    index = official()
    same = {name: {"phash": "0" * 16, "phash256": "0" * 64} for name in ("train0", "val_calib2")}
    with pytest.raises(DataError, match=r"train0 in train, val_calib2 in val_calib"):
        assign_splits(changed(index, **same), SplitsConfig())


def test_a_file_for_each_role_is_an_official_split(tmp_path):
    parts = []
    for place, role in enumerate(ROLES):
        numbers = range(100 + 4 * place, 104 + 4 * place)
        rows = [{"file": f"{n}.jpg", "label": ("None", "Roadwork")[n % 2]} for n in numbers]
        for number in numbers:
            write(tmp_path / f"{number}.jpg", jpeg(number))
        path = write_csv(tmp_path / f"{role}.csv", rows)
        parts.append({"name": role, "role": role, "csv": {"path": str(path)}})
    splits = assign_splits(index_source(joined(*parts)), SplitsConfig())
    assert {role: len(names) for role, names in splits.roles.items()} == dict.fromkeys(ROLES, 4)
    assert splits.roles["val_calib"][0].startswith("val_calib/")
