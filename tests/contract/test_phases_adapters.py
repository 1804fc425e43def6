"""LoRA and ExPLoRA publish nothing that, read back from the disk, is not what was trained."""

from __future__ import annotations

import pytest
import torch

from streetvision_core.errors import TrainingError
from streetvision_core.models import weights
from streetvision_core.training import fitting
from tests.training.ssl.test_explora import adapt
from tests.training.toy import fit, make_backbone, make_toy

LORA = {
    "method": "lora", "epochs": 3, "batch_size": 6, "learning_rate": 1e-2, "lora_rank": 4, "ema_decay": 0.5,
}  # fmt: skip


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return make_backbone(tmp_path_factory.mktemp("vit"), architecture="test_vit", input_size=32)


def doubled(part):
    return lambda name, tensor: 2 * tensor if part in name else tensor


def damaged_read(monkeypatch, change):
    """Damage the staged adapters as they are read back, whatever the digest says."""
    read_state = weights.read_state

    def read(staged):
        state = read_state(staged)
        if any("lora_" in name for name in state):
            return {name: change(name, tensor) for name, tensor in state.items()}
        return state

    monkeypatch.setattr(weights, "read_state", read)
    monkeypatch.setattr(fitting, "read_state", read)


@pytest.mark.parametrize("part", ["lora_B", "head"])
def test_lora_that_reads_back_otherwise_ends_the_step(part, vit, tmp_path, monkeypatch):
    fit(vit, make_toy(), tmp_path / "good", **LORA)
    damaged_read(monkeypatch, doubled(part))
    with pytest.raises(TrainingError, match=r"what was trained.*adapters\.safetensors"):
        fit(vit, make_toy(), tmp_path / "bad", **LORA)


@pytest.mark.parametrize("part", ["lora_B", "lora_A", "blocks.5.mlp", "norm"])
def test_explora_that_reads_back_otherwise_ends_the_step(part, vit, tmp_path, monkeypatch):
    damaged_read(monkeypatch, doubled(part))
    with pytest.raises(TrainingError, match=r"what was trained.*adapters\.safetensors"):
        adapt(vit, make_toy(), tmp_path)


def test_explora_that_reads_back_as_it_was_goes_on(vit, tmp_path):
    made = adapt(vit, make_toy(), tmp_path)
    assert made.adapters.is_untouched()
    assert all(torch.isfinite(tensor).all() for tensor in weights.read_state(made.adapters).values())
