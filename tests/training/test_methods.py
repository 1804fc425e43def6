"""The ways to train: each learns, and what comes out is the plain classifier that it was proven to be."""

import json

import numpy as np
import pytest
import torch

from streetvision_core.errors import ConfigError, IntegrityError, TrainingError
from streetvision_core.inference import cached_features as features
from streetvision_core.models import build_classifier, load_classifier
from streetvision_core.models.preprocessing import hub_transform
from streetvision_core.models.weights import read_state
from streetvision_core.training import Checkpoint, probe
from streetvision_core.training.fitting import PROBE_EPOCHS
from streetvision_core.training.methods import trainable_classifier
from streetvision_core.training.module import ClassifierModule
from tests.training.toy import fit, make_backbone, make_toy, publish, recipe, stage

PROBE = {
    "method": "probe", "epochs": 6, "probe_batch_size": 4,
}  # fmt: skip
LORA = {
    "method": "lora",
    "epochs": 3,
    "batch_size": 6,
    "learning_rate": 1e-2,
    "lora_rank": 4,
    "ema_decay": 0.5,
}


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return make_backbone(tmp_path_factory.mktemp("vit"), architecture="test_vit", input_size=32)


@pytest.fixture(scope="module")
def cnn(tmp_path_factory):
    return make_backbone(tmp_path_factory.mktemp("cnn"))


def loss_of(checkpoint):
    """The loss of the logits that were recorded from the weights as they were written."""
    predictions = checkpoint.val_select
    logits, labels = torch.tensor(predictions.logits), torch.tensor(predictions.labels)
    return float(torch.nn.functional.cross_entropy(logits, labels))


def body_of(state):
    return {name: tensor for name, tensor in state.items() if not name.startswith(("head.", "fc."))}


@pytest.mark.parametrize("hidden", [0, 8])
def test_a_probe_leaves_the_backbone_and_its_statistics_as_they_are(cnn, tmp_path, hidden):
    checkpoint = fit(cnn, make_toy(), tmp_path, head_hidden=hidden, **PROBE)
    assert {name: tensor.tolist() for name, tensor in body_of(read_state(checkpoint.weights)).items()} == {
        name: tensor.tolist() for name, tensor in cnn.read_state().items()
    }
    assert ("head_hidden" in checkpoint.config) == bool(hidden)
    assert ("model_type" in checkpoint.config) != bool(hidden)


def test_a_probe_on_a_warm_cache_is_that_on_a_cold_one_and_reads_nothing(cnn, tmp_path):
    """Bit for bit, and as without a cache that stays."""
    options = {**PROBE, "epochs": 3}
    uncached = fit(cnn, make_toy(), tmp_path / "uncached", **options)
    for run in ("cold", "warm"):
        toy = make_toy()
        checkpoint = fit(cnn, toy, tmp_path / run, features=tmp_path / "features", **options)
        assert checkpoint.to_artifact().digest == uncached.to_artifact().digest
    assert toy.reader.reads == []


@pytest.fixture
def try_heads(monkeypatch):
    """Let a probe try these learning rates and weight decays in place of its own."""

    def patch(rates, decays):
        monkeypatch.setattr(probe, "LEARNING_RATES", rates)
        monkeypatch.setattr(probe, "WEIGHT_DECAYS", decays)

    return patch


def test_each_head_of_a_probe_learns_as_if_it_were_alone(cnn, tmp_path, try_heads):
    try_heads((1e-4, 1e-2, 3e-2), (0.0, 0.1))
    together = fit(cnn, make_toy(), tmp_path / "together", **PROBE)
    best = min(together.candidates, key=lambda candidate: (-candidate.val_mcc, candidate.val_loss))
    assert together.best.val_loss == best.val_loss
    for number, candidate in enumerate(together.candidates):
        try_heads((candidate.learning_rate,), (candidate.weight_decay,))
        (alone,) = fit(cnn, make_toy(), tmp_path / str(number), **PROBE).candidates
        assert alone.epoch == candidate.epoch
        assert alone.val_loss == pytest.approx(candidate.val_loss, rel=1e-5)
    assert len({candidate.val_loss for candidate in together.candidates}) == 6


def test_a_probe_learns_what_the_features_tell(cnn, tmp_path):
    checkpoint = fit(cnn, make_toy(train=40, others=20), tmp_path, **{**PROBE, "epochs": 20})
    assert checkpoint.best.val_mcc > 0.8
    assert checkpoint.epochs[-1].train_loss < checkpoint.epochs[0].train_loss


def test_many_views_are_probed_with_a_learned_attention(cnn, tmp_path, notices):
    """The attention travels in config.json, so the loaded classifier gives the recorded logits."""
    from streetvision_core.data.decoding.decode import decode
    from streetvision_core.inference.predict import predict_logits

    toy = make_toy(train=20, others=10)
    checkpoint = fit(
        cnn, toy, tmp_path,
        views="grid", view_grid=2, view_pooling="attention", **PROBE,
    )  # fmt: skip
    attention = checkpoint.config["views"]["attention"]
    assert np.any(attention)
    pictures = [decode(toy.reader.pictures[name]) for name in toy.splits.roles["val_select"]]
    logits = predict_logits(checkpoint.load_model(), pictures, hub_transform(checkpoint.config))
    np.testing.assert_array_equal(logits, checkpoint.val_select.logits)
    assert checkpoint.best.val_loss == pytest.approx(loss_of(checkpoint), rel=1e-4)
    assert "5 views" in notices[-1]
    with pytest.raises(ValueError, match="method: probe"):
        fit(cnn, toy, tmp_path / "other", views="grid", view_pooling="attention")


def test_attention_in_front_of_a_hidden_layer_is_carried_too(cnn, tmp_path):
    views = {"views": "grid", "view_grid": 2, "view_pooling": "attention", "head_hidden": 6}
    checkpoint = fit(cnn, make_toy(), tmp_path, **{**PROBE, **views, "epochs": 2})
    assert checkpoint.config["head_hidden"] == 6
    checkpoint.load_model()


def test_a_head_that_diverges_does_not_end_the_others(cnn, tmp_path, try_heads):
    try_heads((1e-2, 1e38), (0.0,))
    checkpoint = fit(cnn, make_toy(), tmp_path / "both", **PROBE)
    try_heads((1e-2,), (0.0,))
    alone = fit(cnn, make_toy(), tmp_path / "alone", **PROBE)
    assert checkpoint.weights.sha256 == alone.weights.sha256
    try_heads((1e38,), (0.0,))
    with pytest.raises(TrainingError, match="finite"):
        fit(cnn, make_toy(), tmp_path / "none", **PROBE)


def test_an_image_that_cannot_be_read_ends_a_probe_by_its_name(cnn, tmp_path):
    for name in ("train/003.png", "val_select/000.png"):
        toy = make_toy()
        toy.reader.damaged.add(name)
        with pytest.raises(IntegrityError, match=name):
            fit(cnn, toy, tmp_path, **PROBE)


def test_a_classifier_that_is_no_linear_layer_is_refused_readably(tmp_path):
    (tmp_path / "b").mkdir()
    backbone = make_backbone(tmp_path / "b", architecture="resnetv2_50x1_bit", input_size=32)
    with pytest.raises(ConfigError, match="Conv2d"):
        fit(backbone, make_toy(), tmp_path, **PROBE)


def test_what_cannot_be_adapted_is_refused_before_an_image_is_read(cnn, tmp_path):
    toy = make_toy()
    with pytest.raises(ConfigError, match="attention"):
        fit(cnn, toy, tmp_path, **LORA)
    assert toy.reader.reads == []


def test_lp_ft_starts_from_the_head_of_the_probe(cnn, tmp_path):
    common = {"batch_size": 4, "probe_batch_size": 4}
    both = {"method": "lp_ft", "epochs": 2, "learning_rate": 1e-30}
    checkpoint = fit(cnn, make_toy(), tmp_path / "both", **common, **both)
    alone = fit(cnn, make_toy(), tmp_path / "probe", **common, method="probe", epochs=PROBE_EPOCHS)
    head, expected = read_state(checkpoint.weights), read_state(alone.weights)
    for name in ("fc.weight", "fc.bias"):
        torch.testing.assert_close(head[name], expected[name])
    assert checkpoint.metrics["probe_val_mcc"] == alone.best.val_mcc
    assert checkpoint.candidates == alone.candidates


def test_adapters_learn_are_merged_and_say_what_they_said(vit, tmp_path):
    toy = make_toy(train=24, others=12)
    checkpoint = fit(vit, toy, tmp_path, **LORA)
    trained = read_state(checkpoint.parts["adapters.safetensors"])
    assert any("lora_B" in name for name in trained)
    state, before = read_state(checkpoint.weights), vit.read_state()
    changed = {name for name in before if not torch.equal(state[name], before[name])}
    assert changed == {name for name in before if name.endswith("attn.qkv.weight")}
    width = state["blocks.0.attn.qkv.weight"].shape[1]
    keys = state["blocks.0.attn.qkv.weight"][width : 2 * width]
    assert torch.equal(keys, before["blocks.0.attn.qkv.weight"][width : 2 * width])
    # The adapters were validated; the recorded logits are those of the merged weights.
    assert loss_of(checkpoint) == pytest.approx(checkpoint.best.val_loss, rel=1e-4)


def test_an_adapter_that_does_not_learn_ends_the_training(vit, tmp_path, monkeypatch):
    def one_is_dead(*args, **options):
        model = trainable_classifier(*args, **options)
        next(p for name, p in model.named_parameters() if "lora_B" in name).register_hook(torch.zeros_like)
        return model

    monkeypatch.setattr("streetvision_core.training.methods.trainable_classifier", one_is_dead)
    with pytest.raises(TrainingError, match="lora_B"):
        fit(vit, make_toy(), tmp_path, **LORA)


def test_lower_layers_learn_more_slowly(vit):
    module = ClassifierModule(
        build_classifier(vit), transform=None, validation_batch_size=4, class_weights=[1, 1],
        steps_per_epoch=10, config=recipe(layer_decay=0.5, learning_rate=0.1),
    )  # fmt: skip
    rates = {}
    for group in module.configure_optimizers()["optimizer"].param_groups:
        rates |= {id(parameter): group["initial_lr"] for parameter in group["params"]}
    by_name = {name: rates[id(weights)] for name, weights in module.model.named_parameters()}
    assert by_name["head.weight"] == 0.1
    blocks = sorted({by_name[name] for name in by_name if name.startswith("blocks.")})
    assert blocks == pytest.approx([0.1 / 2 ** (len(blocks) - i) for i in range(len(blocks))])
    assert by_name["patch_embed.proj.weight"] < blocks[0]


@pytest.mark.parametrize("options", [PROBE, LORA, {"method": "lp_ft"}])
def test_a_published_checkpoint_is_the_one_that_was_made(vit, tmp_path, options):
    made = fit(vit, make_toy(), stage(tmp_path), **{**options, "epochs": 2})
    read = Checkpoint.from_artifact(publish(made.to_artifact(), tmp_path))
    assert read.config == json.loads(json.dumps(made.config))
    assert (read.epochs, read.candidates) == (made.epochs, made.candidates)
    assert read.to_artifact().digest == made.to_artifact().digest
    load_classifier(read.config, read_state(read.weights))


def test_no_process_at_all_is_refused():
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        recipe(devices=0)


def test_the_weights_are_hashed_once_for_both_roles(cnn, tmp_path, monkeypatch):
    hashed = []
    original = features.body_digest
    monkeypatch.setattr(features, "body_digest", lambda model: hashed.append(1) or original(model))
    fit(cnn, make_toy(), tmp_path, **{**PROBE, "epochs": 2})
    assert hashed == [1]
