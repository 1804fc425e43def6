"""The parts of the loop against oracles: averaged weights, class weights, schedule, weight decay."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from streetvision_core.models import build_classifier
from streetvision_core.models.preprocessing import eval_transform
from streetvision_core.training.data import Batch
from streetvision_core.training.losses import LABEL_SMOOTHING
from streetvision_core.training.module import ClassifierModule, learning_rate_factor
from streetvision_core.training.report import EpochRow
from tests.training.toy import make_backbone, recipe


def make_module(directory, *, class_weights=(1.0, 1.0), **changes):
    backbone = make_backbone(directory)
    model = build_classifier(backbone)
    torch.nn.init.normal_(model.get_classifier().weight)  # a new head is zero and gives every image one loss
    return ClassifierModule(
        model,
        transform=eval_transform(backbone.pretrained_cfg),
        validation_batch_size=4,
        config=recipe(**changes),
        class_weights=class_weights,
        steps_per_epoch=10,
    )


def test_averaged_weights_equal_the_average_taken_by_hand(tmp_path, monkeypatch):
    """Decay warms up as 1 - step ** (-2 / 3), from a copy in the first step, up to the configured one."""
    module = make_module(tmp_path, ema_decay=0.6)
    name, parameter = next(iter(module.model.named_parameters()))
    monkeypatch.setattr("lightning.LightningModule.optimizer_step", lambda *_: None)
    by_hand = None
    for step in range(1, 9):
        monkeypatch.setattr(ClassifierModule, "trainer", SimpleNamespace(global_step=step))
        with torch.no_grad():
            parameter.normal_()
        module.optimizer_step(0, step - 1, None)
        decay = min(0.6, 1 - step ** (-2 / 3))
        now = parameter.detach().double()
        by_hand = now if by_hand is None else decay * by_hand + (1 - decay) * now
        averaged = dict(module.ema.module.named_parameters())[name].double()
        torch.testing.assert_close(averaged, by_hand, rtol=1e-5, atol=1e-6)


def test_what_is_validated_are_the_averaged_weights(tmp_path):
    module = make_module(tmp_path)
    batch = Batch(torch.randint(0, 255, (3, 3, 32, 32), dtype=torch.uint8), torch.tensor([0, 1, 0]))
    module.validation_step(batch, 0)
    with torch.no_grad():
        for parameter in module.model.parameters():
            parameter.zero_()
    module.validation_step(batch, 1)
    (first, _), (second, _) = module._validated
    assert torch.equal(first, second)
    with torch.no_grad():
        for parameter in module.ema.module.parameters():
            parameter.zero_()
    module.validation_step(batch, 2)
    assert not torch.equal(module._validated[-1][0], first)


def test_the_loss_weighs_classes_and_smooths_labels(tmp_path):
    module = make_module(tmp_path, class_weights=(0.6, 3.0)).eval()
    pixels, labels = torch.randint(0, 255, (5, 3, 32, 32), dtype=torch.uint8), torch.tensor([0, 1, 1, 0, 0])
    loss = module.training_step(Batch(pixels, labels), 1)
    log_p = module.model(module._transform.normalise(pixels)).log_softmax(1)
    target = torch.nn.functional.one_hot(labels, 2) * (1 - LABEL_SMOOTHING) + LABEL_SMOOTHING / 2
    by_hand = -(target * torch.tensor([0.6, 3.0]) * log_p).sum() / 5
    torch.testing.assert_close(loss, by_hand, rtol=1e-4, atol=1e-5)


def test_norms_and_biases_are_not_decayed(tmp_path):
    module = make_module(tmp_path)
    optimizer = module.configure_optimizers()["optimizer"]
    decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 0.05}
    for name, parameter in module.model.named_parameters():
        assert (id(parameter) in decayed) == (parameter.ndim > 1), name
    everything = [p for group in optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in everything} == {id(p) for p in module.model.parameters()}


@given(warmup=st.integers(0, 50), rest=st.integers(1, 200))
def test_the_learning_rate_rises_linearly_then_falls_as_a_cosine_to_nothing(warmup, rest):
    total = warmup + rest
    factors = [learning_rate_factor(s, warmup_steps=warmup, total_steps=total) for s in range(total + 1)]
    np.testing.assert_allclose(np.diff(factors[: warmup + 1]), 1 / (warmup + 1), atol=1e-12)
    assert factors[warmup] == 1
    assert (np.diff(factors[warmup:]) < 0).all()
    assert factors[-1] == pytest.approx(0, abs=1e-12)
    assert factors[warmup + rest // 2] == pytest.approx(0.5, abs=2 / rest + 1e-12)


def test_of_equal_mcc_the_lower_loss_is_better():
    def row(mcc, loss):
        return EpochRow(epoch=1, train_loss=0, val_loss=loss, val_mcc=mcc, learning_rate=0)

    assert row(0.5, 0.9).is_better_than(row(0.4, 0.1))
    assert row(0.5, 0.1).is_better_than(row(0.5, 0.2))
    assert not row(0.5, 0.2).is_better_than(row(0.5, 0.2))
    assert row(-1, 9).is_better_than(None)
