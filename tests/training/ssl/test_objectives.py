"""The self-supervised objectives against brute force, and in parts."""

import numpy as np
import pytest
import torch
from torch import nn

from streetvision_core.training.ssl.objectives import backward_in_parts, contrastive_loss

DOUBLE = {"rtol": 1e-10, "atol": 1e-12}


def views(count=6, width=5, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2 * count, width, generator=generator)


def contrastive_by_hand(embeddings, temperature):
    """One softmax at a time, in NumPy: view i against all other views."""
    z = embeddings.numpy().astype(np.float64)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    total, size = 0.0, len(z)
    for i in range(size):
        other = (i + size // 2) % size
        exponentials = {j: np.exp(z[i] @ z[j] / temperature) for j in range(size) if j != i}
        total -= np.log(exponentials[other] / sum(exponentials.values()))
    return total / size


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_the_contrastive_loss_is_that_of_brute_force(temperature):
    embeddings = views()
    loss = contrastive_loss(*embeddings.chunk(2), temperature=temperature)
    assert float(loss) == pytest.approx(contrastive_by_hand(embeddings, temperature), rel=1e-5)


def test_the_contrastive_loss_is_least_where_the_two_views_of_an_image_agree():
    first, second = views().chunk(2)
    agreeing = contrastive_loss(first, 3 * first, temperature=0.1)  # their length does not matter
    assert agreeing < contrastive_loss(first, second, temperature=0.1)
    assert agreeing < contrastive_loss(first, first.roll(1, dims=0), temperature=0.1)


class Encoder(nn.Module):
    """A small model in double precision that drops some of its inputs."""

    def __init__(self, *, dropout=0.3):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.layers = nn.Sequential(
                nn.Linear(5, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 4)
            ).double()

    def forward(self, inputs):
        return self.layers(inputs)


def gradients(inputs, part_size, *, dropout):
    model = Encoder(dropout=dropout)
    parts = torch.split(inputs, part_size)

    def encode(part):
        torch.manual_seed(part)
        return model(parts[part])

    loss = backward_in_parts(encode, len(parts), loss_of)
    return loss, [parameter.grad for parameter in model.parameters()]


def loss_of(embeddings):
    return contrastive_loss(*embeddings.chunk(2), temperature=0.5)


@pytest.mark.parametrize("part_size", [1, 3, 5, 6])
def test_the_gradient_of_parts_is_that_of_the_whole_batch(part_size):
    """To rounding; the losses are float32 by design, so they bound what can be asked for."""
    inputs = views().double()
    whole_loss, whole = gradients(inputs, 12, dropout=0.0)
    loss, in_parts = gradients(inputs, part_size, dropout=0.0)
    torch.testing.assert_close(loss, whole_loss, rtol=1e-6, atol=1e-6)
    for gradient, other in zip(in_parts, whole, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-5, atol=1e-7)


def test_parts_that_draw_the_same_twice_have_the_gradient_of_one_graph_through_all_of_them():
    inputs, model = views().double(), Encoder()
    outputs = []
    for part, rows in enumerate(torch.split(inputs, 4)):
        torch.manual_seed(part)
        outputs.append(model(rows))
    loss_of(torch.cat(outputs)).backward()
    _, in_parts = gradients(inputs, 4, dropout=0.3)
    for gradient, parameter in zip(in_parts, model.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-5, atol=1e-7)
