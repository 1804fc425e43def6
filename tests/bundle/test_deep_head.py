"""A bundle whose head has a hidden layer: it verifies, answers as tested, and says what it is."""

import json

import pytest

from streetvision_core.bundle import Predictor, load_bundle, verify_bundle
from streetvision_core.models.head import head_layers
from streetvision_core.training.config import TrainingConfig
from tests.bundle.chain import copy, make_chain
from tests.bundle.forging import forge_part, refused

RECIPE = {
    "method": {"kind": "probe"},
    "head_hidden": 12,
    "epochs": 20,
    "batch_size": 16,
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    chain = make_chain(tmp_path_factory.mktemp("deep"), training=TrainingConfig.model_validate(RECIPE))
    return chain.bundle()


def test_it_is_proven_anywhere_and_its_golden_images_answer(bundle, tmp_path):
    moved = copy(bundle, tmp_path / "moved")
    verify_bundle(moved, deep=True)
    layers = head_layers(load_bundle(moved).model.get_classifier())
    assert [layer.out_features for layer in layers] == [12, 2]
    expected = json.loads((moved / "golden/expected.json").read_bytes())["pictures"]
    answers = Predictor.load(moved).predict([moved / image["file"] for image in expected])
    assert [answer.decision for answer in answers] == [image["decision"] for image in expected]


def test_nobody_is_told_to_open_it_with_timm(bundle):
    text = (bundle / "README.md").read_text()
    assert "timm and transformers cannot open it" in text
    assert "local-dir" not in text
    assert "in every library" not in text
    assert "model_type" not in json.loads((bundle / "config.json").read_bytes())


@pytest.mark.parametrize("hidden", [-1, 12.0, True, "12", 99_999, 13])
def test_another_hidden_layer_than_that_of_the_weights_is_refused(bundle, tmp_path, hidden):
    change = {"head_hidden": hidden}
    forged = forge_part(bundle, tmp_path / "f", "config.json", lambda config: config.update(change))
    refused(forged, "head_hidden|test_resnet|as StreetVision writes it")
