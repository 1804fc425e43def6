"""A saved classifier opens in timm and in transformers, with our labels and our probabilities."""

import json
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from streetvision_core.eval.thresholds import positive_probability
from streetvision_core.inference.predict import predict_logits
from streetvision_core.models import LABEL_NAMES, build_classifier, hub_config, load_classifier
from streetvision_core.models.preprocessing import eval_transform
from tests.training.toy import draw, make_backbone


@pytest.fixture(scope="module", params=[("mobilenetv3_small_050", 48), ("test_vit", 64)])
def saved(request, tmp_path_factory):
    """A folder in the hub's format, and the probabilities that we give for its images."""
    architecture, size = request.param
    folder = tmp_path_factory.mktemp(architecture)
    backbone = make_backbone(folder / "backbone", architecture=architecture, input_size=size)
    model = build_classifier(backbone)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        torch.nn.init.normal_(
            model.get_classifier().weight
        )  # a new head is zero and tells no two images apart
    state = model.state_dict()
    config = json.loads(json.dumps(hub_config(backbone)))
    (folder / "config.json").write_text(json.dumps(config))
    save_file(state, folder / "model.safetensors")
    pictures = [
        Image.open(BytesIO(draw(i, i % 2, size=80))).convert("RGB").resize((120, 80)) for i in range(4)
    ]
    logits = predict_logits(
        load_classifier(config, state), pictures, eval_transform(config["pretrained_cfg"])
    )
    return folder, pictures, positive_probability(logits)


def test_timm_opens_the_folder_and_gives_the_same_probabilities(saved):
    import timm

    folder, pictures, expected = saved
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    with torch.inference_mode():
        logits = model(torch.stack([transform(image) for image in pictures])).numpy()
    np.testing.assert_allclose(positive_probability(logits), expected, atol=1e-5)
    assert len(set(expected.round(6))) == len(pictures), "equal answers would compare nothing"


@pytest.mark.filterwarnings("ignore::DeprecationWarning:transformers")  # its own, of its own functions
@pytest.mark.filterwarnings("ignore::FutureWarning:transformers")
def test_the_pipeline_of_transformers_answers_with_our_labels_and_probabilities(saved):
    transformers = pytest.importorskip(
        "transformers", reason="NOT CHECKED: that transformers opens what we save"
    )
    folder, pictures, expected = saved
    pipeline = transformers.pipeline(
        "image-classification",
        model=transformers.AutoModelForImageClassification.from_pretrained(folder),
        image_processor=transformers.AutoImageProcessor.from_pretrained(folder),
    )
    for image, probability in zip(pictures, expected, strict=True):
        scores = {answer["label"]: answer["score"] for answer in pipeline(image)}
        assert set(scores) == set(LABEL_NAMES) == {"None", "Roadwork"}
        assert scores["Roadwork"] == pytest.approx(probability, abs=1e-5)
