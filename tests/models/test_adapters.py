"""Adapters on queries and values: nothing changes until they are trained, and merging changes nothing."""

import copy

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from timm.utils.model_ema import ModelEmaV3
from torch import nn

from streetvision_core.errors import ConfigError, TrainingError
from streetvision_core.models.adapters import (
    PARITY,
    adapter_state,
    add_adapters,
    fuse_qkv,
    load_adapter_state,
    merge_adapters,
    merged_copy,
    parity_gap,
    require_live_adapters,
    require_parity,
    split_qkv,
)
from streetvision_core.models.zoo import create_model

# One Linear; Linear with LayerScale; bias apart and qkv.weight used directly; queries, keys, values apart.
FAMILIES = {
    "test_vit": 32,
    "vit_tiny_patch16_224": 32,
    "vit_small_patch14_dinov2": 28,
    "vit_small_patch16_dinov3_qkvb": 32,
    "eva02_tiny_patch14_224": 28,
}
BIAS_APART = "vit_small_patch16_dinov3_qkvb"


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make(architecture="test_vit", **options):
    """A classifier of two blocks that both count: LayerScale is 1, and biases and head are not zero."""
    settings = {"depth": 2, "img_size": FAMILIES[architecture], **options}
    model = create_model(architecture, seed=0, num_classes=2, **settings)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("gamma", "gamma_1", "gamma_2")):
                parameter.fill_(1.0)
            elif name.endswith("bias"):
                parameter.normal_(std=0.1, generator=generator)
        model.get_classifier().weight.normal_(std=0.1, generator=generator)
    return model.eval()


def pixels(model, count=3):
    size = model.patch_embed.img_size[0]
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(2))


def adapt(model, **options):
    return add_adapters(model, **{"rank": 4, "alpha": 8, **options})


def backward(model):
    model.train()
    (model(pixels(model)) * torch.tensor([1.0, -1.0])).sum().backward()


def train(model, *, steps=2, learning_rate=0.1):
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=learning_rate)
    for _ in range(steps):
        optimizer.zero_grad()
        backward(model)
        optimizer.step()
    return model.eval()


def same_state(state, other):
    return list(state) == list(other) and all(torch.equal(state[name], other[name]) for name in state)


@pytest.mark.parametrize("architecture", FAMILIES)
def test_splitting_computes_the_same_and_fusing_gives_back_every_bit(architecture):
    model = make(architecture)
    before, inputs = copy.deepcopy(model.state_dict()), pixels(model)
    expected, separate = model(inputs).detach(), getattr(model.blocks[0].attn, "qkv_bias_separate", None)
    split_qkv(model)
    torch.testing.assert_close(model(inputs), expected, rtol=1e-5, atol=1e-5)
    fuse_qkv(model)
    assert same_state(model.state_dict(), before)
    assert getattr(model.blocks[0].attn, "qkv_bias_separate", None) == separate
    assert torch.equal(model(inputs), expected)


@pytest.mark.parametrize("architecture", FAMILIES)
def test_adapters_start_without_effect_and_every_one_of_them_is_reached(architecture):
    model = make(architecture)
    expected = model(pixels(model)).detach()
    added = adapt(model)
    assert added.count == 2 * len(model.blocks)
    torch.testing.assert_close(model.eval()(pixels(model)), expected, rtol=1e-5, atol=1e-5)
    backward(model)
    require_live_adapters(model)
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert all("lora_" in name for name in names)
    assert added.parameters == sum(tensor.numel() for tensor in adapter_state(model).values())
    assert not [name for name in names if "key" in name or "k_proj" in name]


@pytest.mark.parametrize("architecture", ["vit_small_patch14_dinov2", BIAS_APART])
def test_merging_changes_no_output_and_leaves_timms_own_model(architecture):
    model = make(architecture)
    plain, before = copy.deepcopy(model), model(pixels(model)).detach()
    adapt(model)
    train(model)
    assert (model(pixels(model)) - before).abs().max() > 0.1 * before.abs().max()
    merged = merged_copy(model)
    assert require_parity(model, merged, pixels(model)) < PARITY / 5
    state, original = merged.state_dict(), plain.state_dict()
    assert list(state) == list(original)
    changed = {name for name in state if not torch.equal(state[name], original[name])}
    assert changed == {f"blocks.{i}.attn.qkv.weight" for i in range(len(plain.blocks))}
    assert [type(module) for module in merged.modules()] == [type(module) for module in plain.modules()]
    assert not hasattr(merged, "peft_config")
    third = slice(merged.embed_dim, 2 * merged.embed_dim)
    for block, old in zip(merged.blocks, plain.blocks, strict=True):
        assert torch.equal(block.attn.qkv.weight[third], old.attn.qkv.weight[third])


def test_a_merge_that_is_not_the_adapted_model_is_noticed():
    model = make()
    plain = copy.deepcopy(model)
    adapt(model)
    train(model)
    with pytest.raises(TrainingError, match="the same outputs before and after merging"):
        require_parity(model, plain, pixels(model))


def test_a_plain_adapter_on_qkv_of_dinov3_trains_nothing_and_is_caught():
    """timm multiplies by qkv.weight there and never calls the adapter; PEFT raises nothing."""
    model = make(BIAS_APART, depth=12)
    inject_adapter_in_model(LoraConfig(r=4, target_modules=["qkv"]), model)
    model.get_classifier().requires_grad_(requires_grad=True)  # nothing else has a gradient to compute
    backward(model)
    with pytest.raises(TrainingError, match=r"none in 12 of 12 tensors \(blocks.0.attn.qkv.lora_B.default"):
        require_live_adapters(model)


def test_one_dead_adapter_among_many_is_named():
    model = make(depth=6)
    adapt(model)
    backward(model)
    require_live_adapters(model)
    model.blocks[3].attn.qkv.value.lora_B["default"].weight.grad.zero_()
    with pytest.raises(TrainingError, match=r"none in 1 of 12 tensors \(blocks.3.attn.qkv.value.lora_B"):
        require_live_adapters(model)


def test_a_model_without_adapters_has_no_live_ones():
    with pytest.raises(TrainingError, match="no adapter"):
        require_live_adapters(make())


def test_a_head_of_zeros_lets_the_second_backward_pass_through_and_not_the_first():
    model = make()
    nn.init.zeros_(model.get_classifier().weight)
    adapt(model)
    model.get_classifier().requires_grad_(requires_grad=True)
    train(model, steps=1)
    with pytest.raises(TrainingError, match="a gradient in every adapter"):
        require_live_adapters(model)
    backward(model)
    require_live_adapters(model)


def test_averaged_weights_are_a_copy_that_merges_like_the_model():
    model = make()
    adapt(model)
    ema = ModelEmaV3(model, decay=0.5)
    start = adapter_state(ema.module)
    train(model)
    ema.update(model)
    middle = adapter_state(ema.module)
    for name, tensor in adapter_state(model).items():
        torch.testing.assert_close(middle[name], (start[name] + tensor) / 2)
    assert parity_gap(ema.module, merged_copy(ema.module), pixels(model)) < PARITY


def test_blocks_are_skipped_and_can_be_trained_whole():
    model = make()
    last = len(model.blocks) - 1
    added = adapt(model, skip_blocks=(last,))
    model.blocks[last].requires_grad_(requires_grad=True)
    assert added.count == 2 * last
    before = copy.deepcopy(model)
    train(model)
    assert not torch.equal(model.blocks[last].mlp.fc1.weight, before.blocks[last].mlp.fc1.weight)
    assert torch.equal(model.blocks[0].mlp.fc1.weight, before.blocks[0].mlp.fc1.weight)
    assert require_parity(model, merged_copy(model), pixels(model)) < PARITY


@pytest.mark.parametrize("skipped", [(2,), (-1,), range(2)])
def test_skipping_blocks_that_do_not_exist_or_all_of_them_is_refused(skipped):
    with pytest.raises(ConfigError, match="blocks to skip among the 2 of the model"):
        adapt(make(), skip_blocks=skipped)


@pytest.mark.parametrize("architecture", ["test_resnet", "swin_tiny_patch4_window7_224"])
def test_other_architectures_are_refused_in_words(architecture):
    with pytest.raises(ConfigError, match=r"vision transformer.*vit_small_patch14_dinov2"):
        adapt(create_model(architecture, seed=0))


def test_adapters_follow_from_their_seed_and_draw_nothing_of_the_callers():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    states = []
    for seed in (3, 3, 4):
        model = make()
        adapt(model, seed=seed)
        states.append(adapter_state(model))
    assert torch.equal(torch.rand(3), expected)
    assert same_state(states[0], states[1])
    assert not same_state(states[0], states[2])


def test_adapters_are_stored_and_loaded_back_apart_from_the_model():
    trained, fresh = make(), make()
    adapt(trained)
    train(trained)
    adapt(fresh, seed=9)
    load_adapter_state(fresh, adapter_state(trained))
    assert torch.equal(fresh.eval()(pixels(fresh)), trained(pixels(trained)))
    assert "blocks.0.attn.qkv.query.lora_A.weight" in adapter_state(trained)
    with pytest.raises(ConfigError, match="adapters that fit the model tensor by tensor"):
        load_adapter_state(fresh, {})


def test_merging_what_is_not_finite_is_refused():
    model = make()
    adapt(model)
    with torch.no_grad():
        model.blocks[0].attn.qkv.query.lora_B["default"].weight.fill_(torch.nan)
    with pytest.raises(TrainingError, match="finite weights after merging"):
        merge_adapters(model)


def test_fusing_with_adapters_on_is_refused():
    model = make()
    adapt(model)
    with pytest.raises(TrainingError, match="whose adapters are merged"):
        fuse_qkv(model)
