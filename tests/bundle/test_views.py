"""A bundle of many views: it is what was trained and tested, here and elsewhere, or it is refused."""

import importlib.util
import json

import numpy as np
import pytest
from PIL import Image

from streetvision_core.bundle import Predictor, load_bundle, verify_bundle
from streetvision_core.bundle.weights import load_weights
from streetvision_core.errors import BundleError
from streetvision_core.inference.predict import predict_logits
from streetvision_core.io.tensors import read_tensors
from streetvision_core.models.preprocessing import hub_transform
from streetvision_core.models.views import Views
from streetvision_core.models.weights import read_state
from streetvision_core.training.checkpoint import Checkpoint
from streetvision_core.training.config import TrainingConfig
from tests.bundle.chain import build_predictor, copy, make_chain, read_thresholds
from tests.bundle.forging import forge_part, refused

RECIPE = {
    "epochs": 4,
    "batch_size": 16,
    "optimizer": {"ema_decay": 0.5},
    "views": {"kind": "grid", "size": 2},
}


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    training = TrainingConfig.model_validate(RECIPE)
    return make_chain(tmp_path_factory.mktemp("views"), training=training)


@pytest.fixture(scope="module")
def bundle(chain):
    """The bundle of many views. Nobody writes here: tests copy it first."""
    return chain.bundle()


@pytest.fixture(scope="module")
def gate_bundle(chain):
    return chain.bundle("20261121T093005-00000005", policy="gate")


@pytest.fixture(scope="module")
def files(bundle):
    return sorted(bundle.glob("golden/0*"))


@pytest.fixture(scope="module")
def images(files):
    return [Image.open(path).convert("RGB") for path in files]


@pytest.fixture(scope="module")
def config(bundle):
    return json.loads((bundle / "config.json").read_bytes())


def test_the_bundle_carries_the_views_that_were_trained_for(bundle, config):
    assert config["views"] == {"grid": 2, "overlap": 0.15, "pooling": "top_k", "top_k": 2}
    summary = verify_bundle(bundle, deep=True).summary()
    assert "whole image and 2 x 2 crops of it that overlap by 15%" in summary
    assert "8 images answered again, as expected" in summary


def test_a_moved_bundle_gives_the_very_numbers_of_the_predictor_in_memory(chain, bundle, files, tmp_path):
    moved = copy(bundle, tmp_path / "elsewhere")
    verify_bundle(moved, deep=True)
    answers = list(Predictor.load(moved).predict(files))
    assert answers == list(build_predictor(chain).predict(files))
    golden = json.loads((bundle / "golden/expected.json").read_bytes())["pictures"]
    np.testing.assert_allclose(
        [answer.logits for answer in answers], [image["logits"] for image in golden], atol=1e-5
    )


def test_the_answer_is_that_of_the_pooled_views_and_not_of_the_whole_image(bundle, config, images):
    predictor = Predictor.load(bundle)
    answers = [answer.logits for answer in predictor.predict(images)]
    transform = hub_transform(config)
    assert np.array_equal(answers, predict_logits(predictor.model, images, transform))
    assert np.abs(answers - predict_logits(predictor.model, images, transform.whole)).max() > 0.01


def test_one_half_of_the_pooled_views_is_the_tuned_operating_point(chain):
    logits = read_tensors(chain.upstream["val_calib_logits"].read_bytes("logits.safetensors"))["logits"]
    names = chain.upstream["val_calib_logits"].read_json("ids.json")
    reader, policy = chain.pictures("val_calib"), read_thresholds(chain).policy
    answers = list(build_predictor(chain).predict(reader.read(name) for name in names))
    assert [answer.decision for answer in answers] == list(policy.decide(policy.point.fold(logits)))
    folded = [answer.logits for answer in answers]
    np.testing.assert_allclose(folded, policy.point.fold(logits), atol=1e-3, rtol=1e-4)


def test_attention_is_carried_by_the_config_and_folded_around(chain, images):
    """Only a probe learns it; a checkpoint with one is built, folded and answers as any other."""
    checkpoint = Checkpoint.from_artifact(chain.upstream["phase1_checkpoint"])
    policy, state = read_thresholds(chain).policy, read_state(checkpoint.weights)
    parameters = np.random.default_rng(0).normal(size=97).astype(np.float32)
    views = Views(grid=2, overlap=0.15, pooling="attention", attention=tuple(parameters.tolist()))
    config = json.loads(json.dumps({**checkpoint.config, "views": views.to_config()}))
    logits = predict_logits(checkpoint.load_model(), images, hub_transform(config))
    whole = predict_logits(checkpoint.load_model(), images, hub_transform(config).whole)
    answers = [answer.logits for answer in Predictor.build(config, state, policy).predict(images)]
    np.testing.assert_allclose(answers, policy.point.fold(logits), atol=1e-3, rtol=1e-4)
    assert np.abs(logits - whole).max() > 0.01
    data = checkpoint.weights.path.read_bytes()
    assert load_weights(data, config=config, where="here").num_features == checkpoint.config["num_features"]


def test_a_gate_over_many_views_answers_again_as_it_was_tested(gate_bundle, files):
    verification = verify_bundle(gate_bundle, deep=True)
    assert verification.bundle.policy.type == "gate"
    assert verification.golden == len(files)


def test_the_readme_says_that_other_libraries_see_the_whole_image_alone(bundle):
    text = " ".join((bundle / "README.md").read_text().split())
    assert "## It looks 5 times" in text
    assert "mean of the 2 that say roadwork the loudest" in text
    assert "timm and transformers open the same weights and see the whole image alone" in text
    assert "tuned for the pooled views and not for that" in text
    assert "`views: whole`" in text
    assert "in every library" not in text
    assert "same operating point" not in text


def test_timm_opens_the_folder_and_sees_the_whole_image(bundle, config, images):
    import timm
    import torch

    model = timm.create_model(f"local-dir:{bundle}", pretrained=True).eval()
    transform = timm.data.create_transform(
        **timm.data.resolve_data_config(pretrained_cfg=model.pretrained_cfg), is_training=False
    )
    with torch.inference_mode():
        logits = model(torch.stack([transform(image) for image in images])).numpy()
    whole = predict_logits(load_bundle(bundle).model, images, hub_transform(config).whole)
    np.testing.assert_allclose(logits, whole, atol=1e-4)


@pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None,
    reason="transformers is not installed: that it opens a bundle of many views was NOT tested",
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_pipeline_of_transformers_opens_it_and_sees_the_whole_image(bundle, config, images):
    from transformers import pipeline

    from streetvision_core.eval.thresholds import positive_probability

    classify = pipeline("image-classification", model=str(bundle), device="cpu")
    whole = predict_logits(load_bundle(bundle).model, images, hub_transform(config).whole)
    for image, expected in zip(images, positive_probability(whole), strict=True):
        scores = {answer["label"]: answer["score"] for answer in classify(image)}
        assert scores["Roadwork"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        lambda views: views.update(code="evil"),
        lambda views: views.update(grid=99),
        lambda views: views.update(grid=2.0),
        lambda views: views.update(overlap=2),
        lambda views: views.update(pooling="median"),
        lambda views: views.update(top_k=6),
        lambda views: views.pop("top_k"),
        lambda views: (views.pop("top_k"), views.update(pooling="attention", attention=[0.5] * 96)),
        lambda views: (views.pop("top_k"), views.update(pooling="attention", attention=[1e39] * 97)),
        lambda views: views.clear(),
    ],
)
def test_views_that_streetvision_does_not_write_are_refused(bundle, tmp_path, change):
    """The whole folder agrees with them, so that the views themselves are what is refused."""
    forged = forge_part(bundle, tmp_path / "f", "config.json", lambda config: change(config["views"]))
    refused(forged, "views as StreetVision writes them|test_resnet")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_attention_that_is_no_number_is_refused(bundle, tmp_path, number):
    views = {"grid": 2, "overlap": 0.15, "pooling": "attention", "attention": [number] * 97}
    forged = forge_part(bundle, tmp_path / "f", "config.json", lambda config: config.update(views=views))
    refused(forged, "is not a JSON number")


@pytest.mark.parametrize("views", [None, [], "grid"])
def test_what_is_no_views_at_all_is_refused(bundle, tmp_path, views):
    forged = forge_part(bundle, tmp_path / "f", "config.json", lambda config: config.update(views=views))
    refused(forged, "views as StreetVision writes them")


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config.pop("views"),
        lambda config: config["views"].update(grid=3),
        lambda config: config.update(views={"grid": 2, "overlap": 0.15, "pooling": "mean"}),
    ],
    ids=["none", "another grid", "another pooling"],
)
def test_other_views_are_found_by_the_golden_images(bundle, tmp_path, change):
    forged = forge_part(bundle, tmp_path / "f", "config.json", change)
    with pytest.raises(BundleError, match="golden images to be answered as they were"):
        verify_bundle(forged, deep=True)
