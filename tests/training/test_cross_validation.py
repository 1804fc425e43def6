"""Cross-validation: an image is judged by models that saw nothing of its group, and figures follow."""

from dataclasses import replace

import numpy as np
import pytest

from streetvision_core.data.splits import RoleCounts, Splits, SplitsConfig, Uniting
from streetvision_core.errors import DataError
from streetvision_core.eval import compute_mcc
from streetvision_core.eval.folds import deal_folds
from streetvision_core.io import Artifact
from streetvision_core.training import fit_classifier
from streetvision_core.training.out_of_fold import cross_validation
from streetvision_core.training.out_of_fold.cross_validation import CrossValidationConfig, cross_validate
from streetvision_core.training.out_of_fold.record import (
    RECORD_NAME,
    CrossValidation,
    cross_validation_problems,
)
from tests.training.toy import make_toy, publish, recipe

FOLDS, REPEATS = 3, 2


def splits_of(toy):
    """The roles of the toy, whose groups are pairs of one image of each class, as real splits."""
    counts = {role: RoleCounts(len(names), 0, 0, 0) for role, names in toy.splits.roles.items()}
    groups = {image.name: image.group for image in toy.index.pictures}
    return Splits(toy.splits.roles, groups, counts, Uniting(0, 0, 0, 0), SplitsConfig())


@pytest.fixture(scope="module")
def toy():
    return make_toy(train=32, others=8)


@pytest.fixture(scope="module")
def run(toy, backbone, tmp_path_factory):
    """Cross-validates a recipe on the toy; features are shared by all who do."""
    features = tmp_path_factory.mktemp("features")

    def cross(*, method="probe", epochs=1, resume=None, **settings):
        return cross_validate(
            backbone,
            index=toy.index,
            splits=splits_of(toy),
            images=toy.reader,
            recipe=recipe(method=method, epochs=epochs),
            config=CrossValidationConfig(folds=FOLDS, **settings),
            features=features,
            resume=resume,
        )

    return cross


@pytest.fixture(scope="module")
def watched(run, toy):
    """A cross-validation, and the groups of each training by what they were for."""
    seen, groups = [], {image.name: image.group for image in toy.index.pictures}
    fit, predict = cross_validation.fit_classifier, cross_validation.predict_role

    def watched_fit(*args, splits, **kwargs):
        seen.append({role: {groups[name] for name in splits.roles[role]} for role in splits.roles})
        return fit(*args, splits=splits, **kwargs)

    def watched_predict(checkpoint, names, **kwargs):
        seen[-1]["judged"] = {groups[name] for name in names}
        return predict(checkpoint, names, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cross_validation, "fit_classifier", watched_fit)
        patch.setattr(cross_validation, "predict_role", watched_predict)
        patch.setattr(cross_validation, "MOST_REPEATS", REPEATS)
        return run(), seen


@pytest.fixture
def result(watched):
    return watched[0]


def problems(published, result):
    return cross_validation_problems(published, names=result.ids, labels=result.labels.tolist())


def test_every_image_of_the_roles_is_judged_once_a_repeat_and_no_other(result, toy):
    names = sorted(toy.splits.roles["train"] + toy.splits.roles["val_select"])
    assert result.ids == tuple(names)
    assert result.logits.shape == (REPEATS, len(names), 2)
    assert np.isfinite(result.logits).all()
    assert result.fold.shape == (REPEATS, len(names))
    assert np.unique(result.fold).tolist() == list(range(FOLDS))
    assert (result.fold[0] != result.fold[1]).any()


def test_nothing_of_a_judged_group_is_trained_on_or_chooses_the_epoch(watched):
    seen = watched[1]
    assert len(seen) == FOLDS * (REPEATS + 3)  # every repeat, and three smaller shares of the first
    for roles in seen:
        assert all(roles.values())
        assert not (roles["judged"] | roles["val_select"]) & roles["train"]
        assert not roles["judged"] & roles["val_select"]


def test_the_figure_is_that_of_the_logits_and_repeats_narrow_no_interval(result):
    first = result.figure(result.logits[:1])
    decisions = result.logits[0].argmax(axis=1)
    assert first.mcc == pytest.approx(compute_mcc(result.labels, decisions))
    assert first.low < first.mcc <= first.high
    # Twice the same answers say no more than once.
    assert result.figure(np.concatenate([result.logits[:1]] * 2)) == first


def test_the_curve_of_a_probe_ends_in_the_full_training(result):
    sizes = result.rows_of_sizes()
    assert [row["share"] for row in sizes] == [0.25, 0.5, 0.75, 1.0]
    images = [row["images"] for row in sizes]
    assert images == sorted(images)
    assert sizes[-1]["mcc"] == result.rows_of_repeats()[0]["mcc"]


def test_another_method_trains_once_a_fold_and_draws_no_curve(run):
    result = run(method="finetune")
    assert result.repeats == 1
    assert result.shares == (1.0,)
    assert len(result.curve) == 0


class Killed(BaseException):
    """The end of a process."""


class Fits:
    """Trains as `fit_classifier` does, `left` times."""

    def __init__(self, left):
        self.left, self.calls = left, 0

    def __call__(self, *args, **kwargs):
        if self.calls == self.left:
            raise Killed
        self.calls += 1
        return fit_classifier(*args, **kwargs)


def test_a_killed_run_goes_on_after_the_last_judged_fold(run, tmp_path, monkeypatch):
    resume = tmp_path / "resume"
    monkeypatch.setattr(cross_validation, "fit_classifier", Fits(2))
    with pytest.raises(Killed):
        run(method="finetune", resume=resume)
    damaged, _ = resume.glob("*.safetensors")
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    again = Fits(99)
    monkeypatch.setattr(cross_validation, "fit_classifier", again)
    result = run(method="finetune", resume=resume)
    assert again.calls == FOLDS - 1  # of two judged folds one is damaged
    assert result.to_artifact().digest == run(method="finetune").to_artifact().digest


def test_it_is_read_back_as_it_was_and_the_check_is_content(result, tmp_path):
    published = publish(result.to_artifact(), tmp_path)
    again = CrossValidation.from_artifact(published)
    assert again.to_artifact().digest == result.to_artifact().digest
    assert published.manifest.metrics["mcc"] == result.pooled.mcc
    assert problems(published, result) == []


def test_the_check_sees_other_logits_a_split_group_other_images_and_other_labels(result, tmp_path):
    files = result.to_artifact().files
    turned = replace(result, logits=-result.logits).to_artifact().files
    forged = publish(Artifact({**turned, RECORD_NAME: files[RECORD_NAME]}), tmp_path / "logits")
    assert "do not follow" in problems(forged, result)[0]
    moved = result.fold.copy()
    moved[1, 0] = (moved[1, 0] + 1) % FOLDS
    split = publish(replace(result, fold=moved).to_artifact(), tmp_path / "group")
    assert f"repeat 2 has {result.groups[0]!r} in two folds" in problems(split, result)[0]
    whole = publish(result.to_artifact(), tmp_path / "whole")
    assert "other images" in problems(whole, replace(result, ids=("other", *result.ids[1:])))[0]
    assert "other labels" in problems(whole, replace(result, labels=1 - result.labels))[0]


def test_a_small_set_is_repeated_by_a_probe_alone():
    repeats_of = cross_validation.repeats_of
    assert [repeats_of(n, method="probe") for n in (100, 600, 1000, 5000)] == [5, 4, 2, 1]
    assert repeats_of(100, method="finetune") == 1


def test_val_calib_is_read_only_by_name():
    assert CrossValidationConfig().names_of_roles == ("train", "val_select")
    assert "val_calib" in CrossValidationConfig(roles="all_but_test").names_of_roles


def test_too_few_groups_for_the_folds_are_one_paragraph(toy, backbone, tmp_path):
    with pytest.raises(DataError, match="for 50 folds"):
        cross_validate(
            backbone,
            index=toy.index,
            splits=splits_of(toy),
            images=toy.reader,
            recipe=recipe(method="probe"),
            config=CrossValidationConfig(folds=50),
            features=tmp_path,
        )


def test_folds_are_dealt_in_whole_groups():
    group = np.repeat(np.arange(12), 3)
    fold = deal_folds(np.arange(36) % 2 == 0, group, folds=3, seed=0, purpose="a test")
    assert all(len(set(fold[group == number])) == 1 for number in range(12))
