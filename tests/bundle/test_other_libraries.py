"""The bundle opens elsewhere as it is: in timm and in transformers, with 0.5 as the tuned decision."""

import importlib.util

import numpy as np
import pytest
from PIL import Image

from tests.bundle.chain import copy


@pytest.fixture(scope="module")
def moved(bundle, tmp_path_factory):
    return copy(bundle, tmp_path_factory.mktemp("receiver") / "model")


@pytest.fixture(scope="module")
def images(moved):
    return [Image.open(path).convert("RGB") for path in sorted(moved.glob("golden/0*"))]


@pytest.fixture(scope="module")
def answers(predictor, images):
    return list(predictor.predict(images))


def test_timm_opens_the_folder_and_gives_the_same_logits(moved, images, answers):
    import timm
    import torch

    model = timm.create_model(f"local-dir:{moved}", pretrained=True).eval()
    transform = timm.data.create_transform(
        **timm.data.resolve_data_config(pretrained_cfg=model.pretrained_cfg), is_training=False
    )
    with torch.inference_mode():
        logits = model(torch.stack([transform(image) for image in images])).numpy()
    np.testing.assert_allclose(logits, [answer.logits for answer in answers], atol=1e-4)
    assert list(model.pretrained_cfg["label_names"]) == ["None", "Roadwork"]


@pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None,
    reason="transformers is not installed: that the miner's pipeline opens the bundle was NOT tested",
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_pipeline_of_transformers_gives_the_same_decisions_at_one_half(moved, images, answers):
    """As a StreetVision miner calls it: the score of the label Roadwork, rounded."""
    from transformers import pipeline

    classify = pipeline("image-classification", model=str(moved), device="cpu")
    for image, answer in zip(images, answers, strict=True):
        scores = {one["label"]: one["score"] for one in classify(image)}
        assert set(scores) == {"None", "Roadwork"}
        assert scores["Roadwork"] == pytest.approx(answer.probability, abs=1e-4)
        assert (scores["Roadwork"] > 0.5) == (answer.decision == "roadwork")
