"""The starting weights: from a seed, a file or the hub, exactly or with a readable reason why not."""

import pytest
import torch
from safetensors.torch import save_file

from streetvision_core.errors import ConfigError, IntegrityError
from streetvision_core.models import Backbone, BackboneConfig, build_classifier, prepare_backbone
from tests.training.toy import make_backbone, publish, stage


def test_random_weights_are_the_same_each_time(tmp_path):
    first, again = (make_backbone(tmp_path / str(i)).weights.sha256 for i in range(2))
    assert first == again


def test_building_a_model_leaves_the_random_state_of_the_caller_alone(tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build_classifier(make_backbone(tmp_path))
    assert torch.equal(torch.rand(3), expected)


def test_a_published_backbone_reads_back_as_it_was(tmp_path):
    backbone = make_backbone(stage(tmp_path), architecture="test_vit", input_size=64)
    published = publish(backbone.to_artifact(), tmp_path)
    assert Backbone.from_artifact(published) == backbone
    assert backbone.model_args == {"img_size": 64}
    assert backbone.licence == "none"


def test_the_classifier_has_the_weights_of_its_backbone_and_a_head_of_zeros(tmp_path):
    backbone = make_backbone(tmp_path)
    state = build_classifier(backbone).state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in backbone.read_state().items())
    assert set(state) - set(backbone.read_state()) == {"fc.weight", "fc.bias"}
    assert state["fc.weight"].shape == (2, backbone.num_features)
    assert not state["fc.weight"].any()
    assert not state["fc.bias"].any()


def test_changed_weights_are_noticed_when_they_are_loaded(tmp_path):
    backbone = make_backbone(tmp_path)
    data = bytearray(backbone.weights.path.read_bytes())
    data[-1] ^= 1
    backbone.weights.path.write_bytes(data)
    with pytest.raises(IntegrityError, match="other content"):
        build_classifier(backbone)


def test_the_preprocessing_is_timms_but_sees_the_edges_in_the_configured_way(tmp_path):
    cfg = make_backbone(tmp_path, architecture="test_vit", input_size=64).pretrained_cfg
    assert (cfg["crop_mode"], cfg["crop_pct"], cfg["input_size"]) == ("squash", 1.0, [3, 64, 64])
    assert (cfg["mean"], cfg["std"]) == ([0.5] * 3, [0.5] * 3)


def test_an_unknown_model_name_is_answered_with_close_names(tmp_path):
    with pytest.raises(ConfigError, match=r"unknown 'mobilenetv3_smal_050'.*mobilenetv3_small_050"):
        make_backbone(tmp_path, architecture="mobilenetv3_smal_050")


def test_an_unknown_tag_is_answered_with_the_known_ones(tmp_path):
    with pytest.raises(ConfigError, match=r"unknown tag 'nothing'.*r160_in1k"):
        make_backbone(tmp_path, architecture="test_resnet.nothing")


def test_a_size_at_which_the_model_does_not_run_is_refused_before_training(tmp_path):
    with pytest.raises(ConfigError, match=r"input size at which test_vit runs.*17 pixels"):
        make_backbone(tmp_path, architecture="test_vit", input_size=17)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ({"weights": "model.pth"}, "Expected 'random', 'packaged', 'pretrained' or the path"),
    ],
)
def test_settings_that_mean_nothing_are_refused(field, words):
    with pytest.raises(ValueError, match=words):
        BackboneConfig(**field)


def save_weights(path, *, num_classes=1000, change=id):
    import timm

    state = timm.create_model("test_resnet", num_classes=num_classes).state_dict()
    change(state)
    save_file(state, path)
    return str(path)


def test_a_local_file_is_taken_without_its_head(tmp_path):
    weights = save_weights(tmp_path / "local.safetensors")
    backbone = make_backbone(tmp_path / "out", weights=weights)
    assert "fc.weight" not in backbone.read_state()
    assert backbone.licence == "unknown"
    assert backbone.source.startswith("file: local.safetensors, SHA-256")
    assert str(tmp_path) not in backbone.source


def test_position_embeddings_of_a_local_file_are_resized_to_the_input_size(tmp_path):
    large = make_backbone(tmp_path / "large", architecture="test_vit", input_size=96)
    small = make_backbone(
        tmp_path / "small", architecture="test_vit", input_size=64, weights=str(large.weights.path)
    )
    assert large.read_state()["pos_embed"].shape[1] > small.read_state()["pos_embed"].shape[1]
    unchanged = [name for name in small.read_state() if name != "pos_embed"]
    assert all(torch.equal(large.read_state()[name], small.read_state()[name]) for name in unchanged)


def test_a_local_file_that_does_not_fit_is_answered_with_every_kind_of_fault(tmp_path):
    def change(state):
        del state["conv1.0.weight"]
        state["surplus"] = torch.zeros(1)
        state["bn1.weight"] = torch.zeros(3)

    weights = save_weights(tmp_path / "local.safetensors", change=change)
    with pytest.raises(ConfigError) as caught:
        make_backbone(tmp_path / "out", weights=weights)
    message = str(caught.value)
    assert "1 missing (conv1.0.weight)" in message
    assert "1 unexpected (surplus)" in message
    assert "1 of another shape (bn1.weight (3,) instead of (32,))" in message


def test_a_local_file_that_is_missing_or_no_safetensors_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no file"):
        make_backbone(tmp_path, weights=str(tmp_path / "absent.safetensors"))
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"no tensors in here")
    with pytest.raises(ConfigError, match=r"readable \.safetensors"):
        make_backbone(tmp_path, weights=str(damaged))


def test_a_hub_that_cannot_be_reached_is_one_readable_paragraph(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    config = BackboneConfig(architecture="test_vit2", weights="pretrained", input_size=64)
    with pytest.raises(ConfigError, match=r"hub's timm/test_vit2\S+, but .*offline.*Check the network"):
        prepare_backbone(config, directory=tmp_path)
