"""Training for many views: validated, chosen and recorded with them, and what they are worth beside it."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from streetvision_core.eval import compute_mcc
from streetvision_core.inference.predict import predict_logits
from streetvision_core.models.preprocessing import hub_transform
from streetvision_core.training import Checkpoint, pixels, predict_role
from streetvision_core.training.data import EvaluationBatches
from streetvision_core.training.pixels import ViewsGain, compare_views
from tests.hearing import heard
from tests.training.toy import fit, make_backbone, make_toy, publish, recipe, stage

GRID = {"views": "grid", "view_grid": 2}


@pytest.fixture(scope="module")
def toy():
    return make_toy(others=8)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return make_backbone(tmp_path_factory.mktemp("backbone"))


@pytest.fixture(scope="module")
def trained(toy, backbone, tmp_path_factory):
    notices = []
    store = tmp_path_factory.mktemp("store")
    with heard(notices.append):
        return fit(backbone, toy, stage(store), **GRID), notices, store


def validation_of(toy, transform, *, cache_bytes=0):
    names = toy.splits.roles["val_select"]
    labels = [int(name[-5]) % 2 for name in names]
    return EvaluationBatches(
        toy.reader, names, labels, transform=transform, batch_size=32, cache_bytes=cache_bytes
    )


def test_the_checkpoint_says_of_val_select_what_its_pooled_views_say(trained, toy, tmp_path):
    checkpoint, _, store = trained
    assert checkpoint.config["views"] == {"grid": 2, "overlap": 0.15, "pooling": "top_k", "top_k": 2}
    names = toy.splits.roles["val_select"]
    assert predict_role(checkpoint, names, index=toy.index, images=toy.reader) == checkpoint.val_select
    again = Checkpoint.from_artifact(publish(checkpoint.to_artifact(), store))
    assert again.config == checkpoint.config
    assert predict_role(again, names, index=toy.index, images=toy.reader) == checkpoint.val_select


def test_the_best_epoch_is_chosen_by_the_pooled_views(trained):
    checkpoint, _, _ = trained
    logits, labels = checkpoint.val_select.logits, checkpoint.val_select.labels
    assert checkpoint.best.val_mcc == compute_mcc(labels, logits[:, 1] > logits[:, 0])


def test_what_the_views_gain_and_cost_is_recorded_and_told(trained, toy):
    checkpoint, notices, _ = trained
    predictions, transform = checkpoint.val_select, hub_transform(checkpoint.config)
    pictures = [validation_of(toy, transform).image(i) for i in range(len(predictions.ids))]
    whole = predict_logits(checkpoint.load_model(), pictures, transform.whole)
    pooled_mcc, whole_mcc = (
        compute_mcc(predictions.labels, logits[:, 1] > logits[:, 0]) for logits in (predictions.logits, whole)
    )
    assert checkpoint.metrics["views_mcc_gain"] == pooled_mcc - whole_mcc
    assert checkpoint.metrics["views_cost"] > 1
    (notice,) = notices
    assert notice.startswith(f"5 views: val_select MCC {pooled_mcc:.3f} against {whole_mcc:.3f} with")


def test_the_views_change_the_weights_in_nothing_but_the_choice_of_the_epoch(
    trained, toy, backbone, tmp_path
):
    plain = fit(backbone, toy, tmp_path, epochs=1)
    views = fit(backbone, toy, tmp_path / "views", epochs=1, **GRID)
    assert views.weights.sha256 == plain.weights.sha256
    assert "views" not in plain.config
    assert not {"views_mcc_gain", "views_cost"} & set(plain.metrics)


def test_the_digest_holds_no_time_and_does_not_depend_on_the_cache(
    trained, toy, backbone, tmp_path, monkeypatch
):
    monkeypatch.setattr(pixels, "CACHE_BYTES", 0)
    again = fit(backbone, toy, tmp_path, **GRID)
    assert again.to_artifact().digest == trained[0].to_artifact().digest


def test_a_gain_is_one_sentence_and_two_numbers():
    gain = ViewsGain(
        views=10, mcc=0.912, mcc_whole=0.874, pictures_per_second=10.0, pictures_per_second_whole=87.0
    )
    assert str(gain) == (
        "10 views: val_select MCC 0.912 against 0.874 with the whole image alone,"
        " at 8.7 times the time an image."
    )
    assert gain.to_metrics() == {"views_mcc_gain": pytest.approx(0.038), "views_cost": 8.7}


def test_views_that_see_nothing_more_gain_nothing(trained, toy):
    """A grid of one cell is the whole image again: the same answers, at more of the time."""
    checkpoint = trained[0]
    config = {**checkpoint.config, "views": {"grid": 1, "overlap": 0.15, "pooling": "mean"}}
    transform = hub_transform(config)
    model, validation = checkpoint.load_model(), validation_of(toy, transform, cache_bytes=10**6)
    pooled = predict_logits(model, map(validation.image, range(validation.pictures)), transform)
    gain = compare_views(
        model, replace(checkpoint.val_select, logits=pooled), validation, transform=transform, device="cpu"
    )
    assert (gain.views, gain.mcc - gain.mcc_whole) == (2, 0)


def test_attention_is_refused_before_an_image_is_read(toy, backbone, tmp_path):
    read = len(toy.reader.reads)
    with pytest.raises(ValidationError, match="method: probe"):
        fit(backbone, toy, tmp_path, **GRID, view_pooling="attention")
    assert len(toy.reader.reads) == read


def test_no_more_images_are_kept_than_memory_allows(toy, trained):
    transform = hub_transform(trained[0].config)
    kept = validation_of(toy, transform, cache_bytes=3 * transform.pixel_bytes)
    toy.reader.reads.clear()
    pixels = np.stack([views.numpy() for views in kept.pixels()])
    assert len(toy.reader.reads) == len(pixels) - 3
    assert pixels.shape[1:] == (5, 3, 32, 32)


def test_views_are_settings_of_the_training_checked_with_the_others():
    assert recipe(views="grid").views.size == 3
    with pytest.raises(ValidationError):
        recipe(views="grid", view_grid=7)
