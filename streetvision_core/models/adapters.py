"""Low-rank adapters (LoRA) on queries and values, in a model that stays timm's own.

timm keeps queries, keys and values in one Linear. `split_qkv` makes three of it, so that an adapter sits on
queries and on values and leaves the keys alone; `fuse_qkv` puts timm's own Linear back, under its own names.
In between the model is the timm model that it was: its class, its methods and every other tensor.

Order: `add_adapters`, training, `merge_adapters`. What is to be trained besides the adapters is unfrozen
through `requires_grad` after `add_adapters` (PEFT's modules_to_save would wrap whole blocks and break the
merging). Averaged weights are a deep copy of the adapted model; `merged_copy` merges a copy of either.

An adapter that no gradient reaches trains nothing and says nothing, so `require_live_adapters` is asked
after a backward pass. Two causes are known:

* timm's attention with a separate bias (`*_dinov3_qkvb`, `eva02_*`, `beit*`) multiplies by `qkv.weight`
  itself and calls no `qkv.forward`. `split_qkv` switches it to timm's other way of adding that bias.
* A head of zeros, `build_classifier`'s, passes no gradient back until its first step is done. Ask after the
  second backward pass there.

What is not promised: the three Linears multiply smaller matrices than timm's one, so their sums may be
rounded in another order. Splitting and fusing without an adapter gives back the same weights bit for bit.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from streetvision_core.errors import ConfigError, TrainingError
from streetvision_core.models.zoo import SHOWN, find_mismatches

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

# Largest difference between adapted and merged model, as a share of the largest output: rounding, no more.
PARITY = 1e-5
_ADAPTER = "default"  # PEFT's name of a model's only adapter, which it puts into the names of tensors
_TRAINABLE_FROM_START = "lora_B"  # lora_A has no gradient while lora_B is 0


@dataclass(frozen=True)
class Adapters:
    """The result of `add_adapters`: the number of Linears with an adapter, and of adapter parameters."""

    count: int
    parameters: int


class SplitQKV(nn.Module):
    """Three Linears in the place of timm's one; `bias_was_separate` is what `fuse_qkv` gives back."""

    # torch types the bias of a Linear as a tensor, though it may be None: hence Any.
    def __init__(self, fused: Any, *, bias_was_separate: bool | None) -> None:
        super().__init__()
        weights = fused.weight.detach().chunk(3)
        biases = (None, None, None) if fused.bias is None else fused.bias.detach().chunk(3)
        trained = fused.weight.requires_grad
        self.query, self.key, self.value = (
            _make_linear(weight, bias, requires_grad=trained)
            for weight, bias in zip(weights, biases, strict=True)
        )
        self.bias_was_separate = bias_was_separate

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return queries, keys and values of tokens [B, N, C] one behind the other, [B, N, 3 * C']."""
        return torch.cat([self.query(tokens), self.key(tokens), self.value(tokens)], dim=-1)

    def fused(self) -> nn.Linear:
        """Return the three as the one Linear of timm."""
        parts: list[Any] = [self.query, self.key, self.value]
        return _make_linear(
            torch.cat([part.weight.detach() for part in parts]),
            None if parts[0].bias is None else torch.cat([part.bias.detach() for part in parts]),
            requires_grad=self.query.weight.requires_grad,
        )


def block_count(model: Any) -> int:
    """Return how many transformer blocks a model has; raises ConfigError as `split_qkv` does."""
    return len(_attentions(model))


def split_qkv(model: Any) -> None:
    """Split every block's `attn.qkv` into query, key and value, in place; where they are apart they stay.

    Raises:
        ConfigError: the model is no vision transformer whose attention is known.
    """
    for attention in _attentions(model):
        if not isinstance(attention.qkv, nn.Linear):
            continue
        # With a bias of its own timm multiplies by qkv.weight, unless it is told to add the bias separately.
        separate = attention.qkv_bias_separate if getattr(attention, "q_bias", None) is not None else None
        attention.qkv = SplitQKV(attention.qkv, bias_was_separate=separate)
        if separate is not None:
            attention.qkv_bias_separate = True


def fuse_qkv(model: Any) -> None:
    """Undo `split_qkv`, in place: timm's own modules and names.

    Raises:
        TrainingError: adapters are still on it.
    """
    if any(_adapter_layers(model)):
        found, action = "adapters on it", "Call merge_adapters, which fuses as well."
        raise TrainingError("a model whose adapters are merged", found, type(model).__name__, action)
    for attention in _attentions(model):
        if isinstance(attention.qkv, SplitQKV):
            if attention.qkv.bias_was_separate is not None:
                attention.qkv_bias_separate = attention.qkv.bias_was_separate
            attention.qkv = attention.qkv.fused()


def add_adapters(
    model: Any, *, rank: int, alpha: int, seed: int = 0, skip_blocks: Collection[int] = ()
) -> Adapters:
    """Put adapters on the queries and values of a model, in place, and freeze everything else.

    The model computes what it computed before, until the adapters are trained. Their random half follows
    from `seed` alone; the caller's random state is left as it was.

    Args:
        model: A timm vision transformer, with or without a head.
        rank: Rank of an adapter's two matrices.
        alpha: The adapter's product is multiplied by alpha / rank.
        seed: Seed of the adapters' first matrix; the second starts at zero.
        skip_blocks: Numbers of blocks without adapters, counted from 0.

    Raises:
        ConfigError: no vision transformer, a block it does not have, or no block left.
    """
    from peft import LoraConfig, inject_adapter_in_model

    blocks = range(block_count(model))
    adapted = sorted(set(blocks) - set(skip_blocks))
    if not adapted or not set(skip_blocks) <= set(blocks):
        expected = f"blocks to skip among the {len(blocks)} of the model, and at least one left"
        action = "Skip fewer blocks, or choose a deeper architecture."
        raise ConfigError(expected, f"{sorted(skip_blocks)}", "the adapters' configuration", action)
    split_qkv(model)
    targets = "|".join(map(re.escape, _targets(model, adapted)))
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        inject_adapter_in_model(config, model)
    layers = [layer for _, layer in _adapter_layers(model)]
    trained = [parameter for layer in layers for parameter in layer.parameters() if parameter.requires_grad]
    return Adapters(count=len(layers), parameters=sum(parameter.numel() for parameter in trained))


def require_live_adapters(model: Any) -> None:
    """Prove that the last backward pass reached every adapter.

    Raises:
        TrainingError: there is no adapter, or one without a gradient or with one of zeros only.
    """
    wanted = [
        (name, parameter)
        for layer_name, layer in _adapter_layers(model)
        for name, parameter in layer.named_parameters(prefix=layer_name)
        if _TRAINABLE_FROM_START in name
    ]
    dead = [name for name, parameter in wanted if parameter.grad is None or not parameter.grad.any()]
    if dead or not wanted:
        shown = ", ".join(dead[:SHOWN]) + (", ..." if len(dead) > SHOWN else "")
        raise TrainingError(
            "a gradient in every adapter after a backward pass",
            f"none in {len(dead)} of {len(wanted)} tensors ({shown})" if dead else "no adapter",
            type(model).__name__,
            "The model does not compute with them: add them by add_adapters, or choose another architecture.",
        )


def merge_adapters(model: Any) -> None:
    """Add the adapters to the weights they sit on and fuse, in place: a plain timm model is left.

    Raises:
        TrainingError: merged weights would not be finite.
    """
    for name, layer in list(_adapter_layers(model)):
        try:
            layer.merge(safe_merge=True)
        except ValueError as error:  # what PEFT raises when it meets a NaN
            raise TrainingError(
                "finite weights after merging", str(error), name, "Lower the learning rate or alpha."
            ) from error
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer.get_base_layer())
    if hasattr(model, "peft_config"):
        del model.peft_config
    fuse_qkv(model)


def merged_copy(model: Any) -> Any:
    """Return a copy of the model with its adapters merged; the model keeps them."""
    merged = copy.deepcopy(model)
    merge_adapters(merged)
    return merged


def parity_gap(adapted: Any, merged: Any, pixels: torch.Tensor) -> float:
    """Return the largest difference of two models' outputs, as a share of the largest output.

    Args:
        adapted: The model with adapters; set to evaluation mode.
        merged: The one they were merged into; set to evaluation mode.
        pixels: What both are given, float32 [N, 3, H, W], normalised.
    """
    with torch.inference_mode(), torch.autocast(pixels.device.type, enabled=False):
        return _relative_gap(*(model.eval()(pixels) for model in (adapted, merged)))


def require_parity(adapted: Any, merged: Any, pixels: torch.Tensor) -> float:
    """Prove that a merged model says what the adapted one says, and return their `parity_gap`.

    Raises:
        TrainingError: the gap is larger than `PARITY`, or not a number.
    """
    gap = parity_gap(adapted, merged, pixels)
    if gap <= PARITY:
        return gap
    expected = f"the same outputs before and after merging, to {PARITY:g} of the largest"
    action = "Train in float32, or with a smaller alpha; report it where that does not help."
    raise TrainingError(expected, f"a difference of {gap:g}", "merging the adapters", action)


def weights_gap(expected: Mapping[str, torch.Tensor], actual: Mapping[str, torch.Tensor]) -> float:
    """Return the largest difference of two models' weights by name, each as a share of its tensor's largest.

    It is infinite where the names or shapes are not the same.
    """
    if find_mismatches(expected, actual):
        return float("inf")
    return max(_relative_gap(tensor, actual[name]) for name, tensor in expected.items())


def _relative_gap(expected: torch.Tensor, actual: torch.Tensor) -> float:
    was, is_now = expected.detach().cpu().double(), actual.detach().cpu().double()
    if not was.numel():
        return 0.0
    gap, largest = float((was - is_now).abs().max()), float(was.abs().max())
    return gap / largest if largest else gap


def adapter_state(model: Any) -> dict[str, torch.Tensor]:
    """Return the tensors of the adapters by name (`blocks.0.attn.qkv.query.lora_A.weight`), on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in _adapter_tensors(model).items()}


def load_adapter_state(model: Any, state: Mapping[str, torch.Tensor]) -> None:
    """Load what `adapter_state` gave into a model with the same adapters.

    Raises:
        ConfigError: the tensors do not fit; the report names them.
    """
    tensors = _adapter_tensors(model)
    if faults := find_mismatches(tensors, state):
        found = "; ".join(faults)
        action = "Add adapters with the rank and the blocks that these were trained with."
        raise ConfigError("adapters that fit the model tensor by tensor", found, type(model).__name__, action)
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(state[name])


def _attentions(model: Any) -> list[Any]:
    """Return the attention of each block, the first block first."""
    attentions = [getattr(block, "attn", None) for block in getattr(model, "blocks", ())]
    if not attentions or any(type(attention) not in _known_attentions() for attention in attentions):
        raise ConfigError(
            "a vision transformer whose blocks have queries, keys and values",
            f"a model without them, or with a kind of attention that is not known ({type(model).__name__})",
            "adapters",
            "Choose a ViT of timm, such as vit_small_patch14_dinov2 or vit_small_patch16_dinov3.",
        )
    return attentions


def _known_attentions() -> tuple[type[nn.Module], ...]:
    """Return timm's classes whose `qkv` is queries, keys and values in this order, a third each."""
    from timm.layers.attention import Attention, AttentionRope
    from timm.models import beit, eva, vision_transformer_relpos

    return (
        Attention,
        AttentionRope,
        eva.EvaAttention,
        beit.Attention,
        vision_transformer_relpos.RelPosAttention,
    )


def _targets(model: Any, blocks: Sequence[int]) -> Iterator[str]:
    attentions = _attentions(model)
    for block in blocks:
        apart = isinstance(attentions[block].qkv, SplitQKV)
        for name in ("qkv.query", "qkv.value") if apart else ("q_proj", "v_proj"):
            yield f"blocks.{block}.attn.{name}"


def _adapter_layers(model: Any) -> Iterator[tuple[str, Any]]:
    from peft.tuners.lora import LoraLayer

    return ((name, module) for name, module in model.named_modules() if isinstance(module, LoraLayer))


def _adapter_tensors(model: Any) -> dict[str, torch.Tensor]:
    return {
        name.replace(f".{_ADAPTER}", ""): parameter
        for layer_name, layer in _adapter_layers(model)
        for name, parameter in layer.named_parameters(prefix=layer_name)
        if "lora_" in name.removeprefix(layer_name)
    }


def _make_linear(weight: torch.Tensor, bias: torch.Tensor | None, *, requires_grad: bool) -> nn.Linear:
    """Return a Linear of these tensors; nothing random is drawn for it."""
    outputs, inputs = weight.shape
    linear = nn.Linear(inputs, outputs, bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight.clone(), requires_grad=requires_grad)
    if bias is not None:
        linear.bias = nn.Parameter(bias.clone(), requires_grad=requires_grad)
    return linear
