"""Corrected labels go where they do no harm: to train and val_select, or anywhere after a blind review."""

from dataclasses import replace

import pytest

from streetvision_core.data import (
    ImageIndex,
    SplitsConfig,
    assign_splits,
    index_source,
    open_source,
    verify_splits,
)
from streetvision_core.data.corrections import BLIND, CONTRADICTED, apply_corrections
from streetvision_core.data.images import ImagesConfig, index_images
from streetvision_core.data.labels import LABEL_NAMES
from streetvision_core.errors import ConfigError, DataError
from streetvision_core.io import csv_bytes

from .making import jpeg, publish, write
from .test_splits import many, role_of

COLUMNS = ("name", "label", "says", "why", "corrected_label")


def review(path, index, names, *, to=None):
    """Write a review of some images, whose labels are turned around or set `to` a word."""
    images = {image.name: image for image in index.pictures}
    rows = [
        {
            "name": name,
            "label": LABEL_NAMES[images[name].label],
            "corrected_label": LABEL_NAMES[1 - images[name].label] if to is None else to,
        }
        for name in names
    ]
    path.write_bytes(csv_bytes(rows, columns=COLUMNS))
    return path


def apply(index, path, kind=CONTRADICTED):
    return apply_corrections(index, {kind: path})


@pytest.fixture(scope="module")
def index():
    return many()


@pytest.fixture(scope="module")
def roles(index):
    return assign_splits(index, SplitsConfig())


def test_a_review_changes_its_labels_and_no_role(index, roles, tmp_path):
    """Roles are drawn by the labels as listed: what certified before certifies afterwards."""
    names = [*roles.roles["train"][:20], *roles.roles["val_select"][:5]]
    corrected = apply(index, review(tmp_path / "review.csv", index, names))
    assert {image.name for image in corrected.corrected} == set(names)
    again = assign_splits(corrected, SplitsConfig())
    assert role_of(again) == role_of(roles)
    assert again.counts["train"] != roles.counts["train"]
    assert verify_splits(corrected, again) == []
    labels = {image.name: image.label for image in index.pictures}
    for image in corrected.pictures:
        assert image.listed_label == labels[image.name]
        assert (image.label != image.listed_label) == (image.name in names)


@pytest.mark.parametrize("role", ["val_calib", "val_test"])
def test_a_review_of_what_the_model_contradicts_is_refused_where_images_judge(index, roles, role, tmp_path):
    path = review(tmp_path / "review.csv", index, [roles.roles["train"][0], roles.roles[role][0]])
    corrected = apply(index, path)
    with pytest.raises(DataError, match=f"is in {role}.*breaks a certificate.*{BLIND}"):
        assign_splits(corrected, SplitsConfig())
    assert any("a model contradicts it" in fault for fault in verify_splits(corrected, roles))


def test_a_blind_review_may_correct_every_role(index, roles, tmp_path):
    path = review(tmp_path / "blind.csv", index, [names[0] for names in roles.roles.values()])
    corrected = apply(index, path, BLIND)
    again = assign_splits(corrected, SplitsConfig())
    assert role_of(again) == role_of(roles)
    assert len(corrected.corrected) == 4


def test_rows_without_a_correction_or_with_the_same_label_change_nothing(index, tmp_path):
    name = index.pictures[0].name
    same = LABEL_NAMES[index.pictures[0].label]
    for word in ("", same, same.upper()):
        assert apply(index, review(tmp_path / "review.csv", index, [name], to=word)) == index


def test_what_a_spreadsheet_makes_of_the_file_is_read(index, tmp_path):
    """Semicolons, a byte order mark, columns in another order; a guarded name without its quotes."""
    name = "=1+1.jpg"
    odd = ImageIndex((replace(index.pictures[0], name=name, label=1), *index.pictures[1:]))
    path = tmp_path / "review.csv"
    path.write_text(f"\ufeffLabel;corrected_label;Name\nRoadwork; none ;'{name}\n", encoding="utf-8")
    (corrected,) = apply(odd, path).corrected
    assert (corrected.name, corrected.label, corrected.corrected) == (name, 0, CONTRADICTED)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("name,label\np0000,None\n", "no corrected_label among name, label"),
        ("name,label,corrected_label\nnobody,None,Roadwork\n", "line 2 of .*nobody|nobody.*line 2"),
        ("name,label,corrected_label\np0000,LISTED,perhaps\n", "'perhaps'"),
        ("name,label,corrected_label\np0000,,OTHER\n", "pandas"),
        ("name,label,corrected_label\np0000,OTHER,LISTED\n", "label_audit again"),
        ("name,label,corrected_label\np0000,LISTED,OTHER\np0000,LISTED,LISTED\n", "both for p0000"),
    ],
)
def test_a_file_that_does_not_fit_is_one_readable_paragraph(index, tmp_path, text, fault):
    label = index.pictures[0].label
    path = tmp_path / "review.csv"
    path.write_text(text.replace("LISTED", LABEL_NAMES[label]).replace("OTHER", LABEL_NAMES[1 - label]))
    with pytest.raises(DataError, match=fault):
        apply(index, path)


def test_a_file_that_is_not_there_is_an_error_of_the_configuration(index, tmp_path):
    with pytest.raises(ConfigError, match="no file"):
        apply(index, tmp_path / "review.csv")


def test_copies_of_one_image_are_corrected_alike_or_not_at_all(index, tmp_path):
    first, second = (replace(image, label=0) for image in index.pictures[:2])
    copies = ImageIndex((first, replace(second, sha256=first.sha256), *index.pictures[2:]))
    with pytest.raises(DataError, match="Correct all copies alike"):
        apply(copies, review(tmp_path / "review.csv", copies, [first.name]))
    both = apply(copies, review(tmp_path / "review.csv", copies, [first.name, second.name]))
    assert len(both.corrected) == 2


def test_an_index_with_corrections_round_trips_and_one_without_has_no_such_column(index, tmp_path):
    corrected = apply(index, review(tmp_path / "review.csv", index, ["p0000", "p0001"]))
    published = publish(corrected.to_artifact(), tmp_path / "store")
    assert ImageIndex.from_artifact(published) == corrected
    assert corrected.to_artifact().metrics["corrected"] == 2
    assert b"corrected" not in index.to_artifact().files["index.csv"]


def test_the_images_step_applies_a_review_and_a_scan_without_it_takes_it_back(tmp_path):
    """It does where images are taken over unread from a scan with the review."""
    for number in range(8):
        write(tmp_path / "images" / LABEL_NAMES[number % 2] / f"{number}.jpg", jpeg(number))
    config = ImagesConfig(folder={"path": str(tmp_path / "images")})
    plain = index_images(config, directory=tmp_path).index
    path = review(tmp_path / "review.csv", plain, [plain.pictures[0].name])
    reviewed = index_images(config.model_copy(update={CONTRADICTED: str(path)}), directory=tmp_path)
    assert [image.name for image in reviewed.index.corrected] == [plain.pictures[0].name]
    assert "labels corrected: 1" in reviewed.summary
    assert reviewed.index != plain
    known = {image.name: image for image in reviewed.index.pictures}
    assert index_source(open_source(config), unchanged=known.get) == plain
