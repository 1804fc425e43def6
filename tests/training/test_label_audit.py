"""The review queue: what it lists and why, in which order, and what it never lists."""

from dataclasses import replace

import numpy as np
import pytest

from streetvision_core.data import ImageIndex, SplitsConfig, assign_splits
from streetvision_core.data.corrections import BLIND, CONTRADICTED, apply_corrections
from streetvision_core.errors import DataError
from streetvision_core.io import csv_bytes
from streetvision_core.training.out_of_fold.label_audit import (
    COLUMNS,
    REVIEW_NAME,
    LabelAudit,
    audit_labels,
    suspected_labels,
)
from streetvision_core.training.out_of_fold.record import CrossValidation
from tests.data.making import publish
from tests.data.test_splits import many


@pytest.fixture(scope="module")
def world():
    """200 images with five wrong labels in train and val_select, and a model that sees what is there."""
    index = many()
    splits = assign_splits(index, SplitsConfig())
    wrong = {*splits.roles["train"][:4], splits.roles["val_select"][0], splits.roles["val_calib"][0]}
    random = np.random.default_rng(0)
    seen = np.array([(image.label == 1) ^ (image.name in wrong) for image in index.pictures])
    margins = 6 * (seen - 0.5) + random.normal(0, 0.5, (2, seen.size))
    return index, splits, wrong, judged(index, margins)


def judged(index, margins):
    """A cross-validation with these margins, [R, N] in the order of the index."""
    return CrossValidation(
        ids=tuple(image.name for image in index.pictures),
        groups=tuple(image.group for image in index.pictures),
        labels=np.array([image.label for image in index.pictures]),
        fold=np.zeros(margins.shape, np.int64),
        logits=np.stack([-margins / 2, margins / 2], axis=-1).astype(np.float32),
        curve=np.empty((0, margins.shape[1], 2), np.float32),
        shares=(1.0,),
        trained_on=(100.0,),
        roles=("train", "val_select", "val_calib"),
        method="probe",
    )


def audited(world, index=None):
    return audit_labels(world[3], index=index or world[0], splits=world[1])


def test_wrong_labels_are_listed_the_most_surprising_first_and_what_certifies_is_not(world):
    _, splits, wrong, _ = world
    doubts = audited(world).doubts
    allowed = {*splits.roles["train"], *splits.roles["val_select"]}
    assert {doubt.name for doubt in doubts} == wrong & allowed != wrong
    assert [doubt.probability for doubt in doubts] == sorted(doubt.probability for doubt in doubts)
    for doubt in doubts:
        assert doubt.model_says != doubt.label
        assert doubt.corrected_label == ""
        assert 0 < doubt.probability < 0.5
        assert "the model" in doubt.why


def test_near_duplicates_of_the_other_label_are_listed_however_sure_the_model_is(world):
    index, splits, _, result = world
    none, roadwork = (
        next(
            image
            for image in index.pictures
            if image.label == label and image.name in splits.roles["train"][10:]
        )
        for label in (0, 1)
    )
    alike = {none.name: replace(none, phash=roadwork.phash, phash256=roadwork.phash256)}
    near = ImageIndex(tuple(alike.get(image.name, image) for image in index.pictures))
    doubts = {doubt.name: doubt for doubt in audit_labels(result, index=near, splits=splits).doubts}
    assert f"nearly the same image as {none.name}, which is labelled None" in doubts[roadwork.name].why
    assert doubts[roadwork.name].probability > 0.5


def test_the_file_goes_back_in_and_the_next_one_holds_its_corrections(world, tmp_path):
    index, splits, _, _ = world
    audit = audited(world)
    filled = [
        {**vars(doubt), "corrected_label": doubt.model_says} if number < 3 else vars(doubt)
        for number, doubt in enumerate(audit.doubts)
    ]
    path = tmp_path / REVIEW_NAME
    path.write_bytes(csv_bytes(filled, columns=COLUMNS))
    corrected = apply_corrections(index, {CONTRADICTED: path})
    assert assign_splits(corrected, SplitsConfig()).roles == splits.roles
    again = {doubt.name: doubt for doubt in audited(world, corrected).doubts}
    for doubt in audit.doubts[:3]:
        next_one = again[doubt.name]
        assert (next_one.label, next_one.corrected_label) == (doubt.label, doubt.model_says)
        assert next_one.why == "corrected before"
    path.write_bytes(csv_bytes(map(vars, again.values()), columns=COLUMNS))
    assert apply_corrections(index, {CONTRADICTED: path}) == corrected
    blind = apply_corrections(index, {BLIND: path})
    assert not any(doubt.corrected_label for doubt in audited(world, blind).doubts)


def test_a_review_reads_back_and_no_cell_of_it_is_a_formula(world, tmp_path):
    doubts = (replace(audited(world).doubts[0], name="=cmd|'/C calc'!A0"), *audited(world).doubts[1:])
    published = publish(LabelAudit(doubts).to_artifact(), tmp_path)
    assert LabelAudit.from_artifact(published) == LabelAudit(doubts)
    assert b"\"'=cmd" in published.read_bytes(REVIEW_NAME)


def test_images_that_nobody_cross_validated_are_an_error(world):
    index, splits, _, result = world
    half = replace(result, ids=result.ids[:100], logits=result.logits[:, :100])
    with pytest.raises(DataError, match="cross_validation again"):
        audit_labels(half, index=index, splits=splits)


def test_suspected_are_labels_off_the_diagonal_of_the_confident_joint():
    """By hand: the mean probability of roadwork where it is the label is .7, that of none is .65."""
    labels = np.array([1, 1, 1, 0, 0, 0, 0])
    probability = np.array([0.95, 0.95, 0.2, 0.71, 0.69, 0.005, 0.005])
    assert suspected_labels(probability, labels).tolist() == [False, False, True, True, False, False, False]
    assert not suspected_labels([0.9, 0.8], [1, 1]).any()
