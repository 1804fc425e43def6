"""Losses and class weights against torch, scikit-learn and the papers' formulas."""

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional

from streetvision_core.training.losses import class_weights, image_losses, soft_targets
from tests.training.toy import recipe

LABELS = torch.tensor([0, 1, 1, 0, 0, 1, 0, 0])
WEIGHTS = torch.tensor([0.7, 1.9])
LOGITS = torch.randn(8, 2, generator=torch.Generator().manual_seed(3)) * 3


def losses(logits=LOGITS, *, smoothing=0.0, weights=WEIGHTS, gamma=0.0, labels=LABELS):
    return image_losses(logits, soft_targets(labels, smoothing=smoothing), weights, gamma=gamma)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_weights_and_smoothing_are_torchs(smoothing):
    theirs = functional.cross_entropy(
        LOGITS, LABELS, weight=WEIGHTS, label_smoothing=smoothing, reduction="none"
    )
    torch.testing.assert_close(losses(smoothing=smoothing), theirs)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 3.5])
def test_focal_loss_is_the_papers(gamma):
    """FL(p_t) = -a_t (1 - p_t) ** gamma log p_t (Lin et al., 1708.02002, equation 5), in NumPy."""
    shares = np.exp(LOGITS.double().numpy())
    p_t = (shares / shares.sum(1, keepdims=True))[np.arange(8), LABELS]
    expected = -WEIGHTS.numpy()[LABELS] * (1 - p_t) ** gamma * np.log(p_t)
    np.testing.assert_allclose(losses(gamma=gamma).numpy(), expected, rtol=1e-4, atol=1e-7)


def test_focal_loss_without_a_discount_is_cross_entropy():
    assert torch.equal(losses(gamma=0.0), losses(gamma=recipe(loss="cross_entropy").loss.gamma))
    torch.testing.assert_close(losses(gamma=1e-9), losses(gamma=0.0))
    assert recipe(loss="focal", focal_gamma=1.5).loss.gamma == 1.5


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_the_gradient_is_finite_however_sure_the_model_is(gamma):
    logits = torch.tensor([[60.0, -60.0], [-60.0, 60.0], [60.0, -60.0]], requires_grad=True)
    losses(logits, gamma=gamma, smoothing=0.1, labels=torch.tensor([0, 1, 1])).sum().backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_the_mean_over_equal_parts_is_the_loss_of_the_whole_batch(gamma):
    """Also with class weights, whose sum differs from part to part."""
    whole = losses(gamma=gamma).mean()
    parts = [
        losses(LOGITS[rows], gamma=gamma, labels=LABELS[rows]).mean() for rows in torch.arange(8).view(4, 2)
    ]
    torch.testing.assert_close(torch.stack(parts).mean(), whole)


def test_many_heads_are_each_judged_alone():
    heads = torch.stack([LOGITS, LOGITS.flip(-1), LOGITS * 2])
    together = losses(heads, smoothing=0.1, gamma=2.0)
    assert together.shape == (3, 8)
    for head, loss in zip(heads, together, strict=True):
        torch.testing.assert_close(loss, losses(head, smoothing=0.1, gamma=2.0))


@pytest.mark.parametrize("positives", [1, 30, 500])
def test_balanced_weights_are_scikit_learns(positives):
    labels = [1] * positives + [0] * (600 - positives)
    theirs = compute_class_weight("balanced", classes=np.array([0, 1]), y=labels)
    np.testing.assert_allclose(class_weights(labels), theirs)


def test_weights_are_one_on_the_mean_over_the_images():
    labels = [0, 1, 0, 0, 0, 0, 1]
    weights = class_weights(labels)
    assert np.mean([weights[label] for label in labels]) == pytest.approx(1)
