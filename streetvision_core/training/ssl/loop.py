"""The loop of self-supervised adaptation: adapters and the last blocks, views in, merged weights out.

Everything random is named by purpose, epoch and place, so workers change nothing, and the same seed gives
the same bits on the same machine with the same number of threads. bf16 is used where a GPU has it, never
fp16; losses are float32. After the first backward pass every adapter has to prove that it is reached.

It runs in one process. The objectives are right in several (`ssl_objectives.py`); nothing here starts them.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from timm.optim._param_groups import param_groups_weight_decay

from streetvision_core.errors import StreetVisionError, TrainingError
from streetvision_core.inference.predict import choose_device, memory_format
from streetvision_core.models.adapters import (
    adapter_state,
    add_adapters,
    block_count,
    load_adapter_state,
    merge_adapters,
    merged_copy,
    require_live_adapters,
    require_parity,
)
from streetvision_core.models.zoo import load_exactly
from streetvision_core.training.schedule import learning_rate_factor
from streetvision_core.training.seeds import Purpose, derive_seed
from streetvision_core.training.ssl.adaptation import AdaptationEpoch
from streetvision_core.training.ssl.learners import Contrastive
from streetvision_core.training.ssl.views import make_view_loader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from streetvision_core.models.adapters import Adapters
    from streetvision_core.models.explora_config import ExploraConfig
    from streetvision_core.models.preprocessing import Preprocessing
    from streetvision_core.training.data import DecodedPictures

WARMUP_SHARE, WEIGHT_DECAY, GRADIENT_CLIP = 0.1, 0.05, 1.0
ALPHA_OF_RANK = 2  # the adapters' product is scaled by alpha / rank
_FINAL_NORMS = ("norm", "fc_norm")


@dataclass(frozen=True)
class Adapted:
    """The merged model, what was trained of it by name, and how that went.

    `trained` is what turns the starting weights into the merged ones: the adapters' tensors, and the tensors
    of what was trained whole. `losses` are the means of the epochs, `parity` is the largest difference that
    merging made, as a share of the largest output.
    """

    model: Any
    trained: dict[str, torch.Tensor]
    adapters: Adapters
    losses: tuple[float, ...]
    parity: float


def learn_from_views(
    model: Any,
    pictures: DecodedPictures,
    *,
    sample: torch.Tensor,
    transform: Preprocessing,
    config: ExploraConfig,
    on_epoch: Callable[[AdaptationEpoch], None] = lambda _: None,
) -> Adapted:
    """Adapt a timm vision transformer without a head to pictures; the model is used up.

    Args:
        model: The starting weights.
        pictures: What it is adapted to, two or more.
        sample: Crops on which merging is proved to change nothing, uint8 [N, 3, H, W].
        transform: The model's preprocessing.
        config: The recipe.
        on_epoch: Called after each epoch.

    Raises:
        ConfigError: the model cannot be adapted.
        TrainingError: a loss that is not finite, an adapter that is not reached, or a merge that changes
            what the model says.
    """
    seed = derive_seed(config.seed, Purpose.ADAPTATION)
    adapters, whole = _unfreeze(model, config, seed=derive_seed(seed, Purpose.MODEL, 0))
    torch.manual_seed(derive_seed(seed, Purpose.MODEL, 1))  # the head's first weights
    loader = make_view_loader(pictures, transform=transform, config=config, seed=seed)
    training = _Training(model, transform, config=config, seed=seed, steps_per_epoch=len(loader))
    seen = len(loader) * min(config.explora_batch_size, len(pictures))
    losses: list[float] = []
    begun = time.monotonic()
    for epoch in range(config.explora_epochs):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]  # it is an `EpochBatches`
        total = sum(training.step(views, epoch, number) for number, views in enumerate(loader))
        losses.append(total / len(loader))
        a_while = (time.monotonic() - begun) / len(losses)
        left = config.explora_epochs - len(losses)
        on_epoch(
            AdaptationEpoch(len(losses), config.explora_epochs, losses[-1], seen / a_while, left * a_while)
        )
    learned = model.eval()
    merged = merged_copy(learned)
    inputs = transform.normalise(sample.to(training.device))
    parity = require_parity(learned, merged, inputs)
    state = merged.state_dict()
    return Adapted(
        model=merged,
        trained=adapter_state(learned) | {name: state[name] for name in state if name.startswith(whole)},
        adapters=adapters,
        losses=tuple(losses),
        parity=parity,
    )


def rebuild_adapted(model: Any, trained: Mapping[str, torch.Tensor], *, config: ExploraConfig) -> Any:
    """Put what was trained on starting weights, merge it, and return the plain model.

    Args:
        model: The starting weights, without a head; used up.
        trained: The adapters' tensors and those that were trained whole, as `Adapted.trained` has them.
        config: The recipe that they were trained with.

    Raises:
        ConfigError: the tensors do not fit.
    """
    whole = {name: tensor for name, tensor in trained.items() if name in model.state_dict()}
    load_exactly(model, {**model.state_dict(), **whole}, where="what was trained whole")
    _unfreeze(model, config, seed=0)
    load_adapter_state(model, {name: tensor for name, tensor in trained.items() if name not in whole})
    merge_adapters(model)
    return model


def _unfreeze(model: Any, config: ExploraConfig, *, seed: int) -> tuple[Adapters, tuple[str, ...]]:
    """Add the adapters and unfreeze the last blocks; return the beginnings of the names of the latter."""
    depth = block_count(model)
    last = range(max(0, depth - config.explora_unfrozen_blocks), depth)
    adapters = add_adapters(
        model,
        rank=config.explora_rank,
        alpha=ALPHA_OF_RANK * config.explora_rank,
        seed=seed,
        skip_blocks=last,
    )
    names = [f"blocks.{number}" for number in last]
    # The final norm goes with the last block: it scales what that block puts out.
    names += [name for name in _FINAL_NORMS if names and hasattr(model, name)]
    for name in names:
        model.get_submodule(name).requires_grad_(requires_grad=True)
    return adapters, tuple(f"{name}." for name in names)


class _Training:
    """A learner with its optimizer and its schedule, one batch of views at a time."""

    def __init__(
        self, model: Any, transform: Preprocessing, *, config: ExploraConfig, seed: int, steps_per_epoch: int
    ) -> None:
        self.device = choose_device()
        self.learner = Contrastive(model)
        self.learner.to(self.device)
        self.learner.trained.train()
        self._model = model
        self._transform = transform
        self._config = config
        self._seed = seed
        self._bf16 = self.device.type == "cuda" and torch.cuda.is_bf16_supported()
        steps = steps_per_epoch * config.explora_epochs
        self._optimizer = torch.optim.AdamW(
            param_groups_weight_decay(self.learner.trained, WEIGHT_DECAY),
            lr=config.explora_learning_rate,
        )
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer,
            partial(learning_rate_factor, warmup_steps=round(WARMUP_SHARE * steps), total_steps=steps),
        )

    def step(self, views: tuple[torch.Tensor, ...] | StreetVisionError, epoch: int, number: int) -> float:
        """Learn from one batch; return its loss."""
        if isinstance(views, StreetVisionError):
            raise views
        pixels = torch.cat(views)
        parts = torch.split(pixels, self._config.explora_micro_batch or len(pixels))
        seeds = [derive_seed(self._seed, Purpose.MODEL, 2, epoch, number, i) for i in range(len(parts))]

        def run(module: Any, part: int) -> torch.Tensor:
            torch.manual_seed(seeds[part])  # what an adapter drops is the same in both passes over a part
            return self._say(module, parts[part])

        self._optimizer.zero_grad()
        loss = float(self.learner.backward(len(parts), run))
        if not math.isfinite(loss):
            raise TrainingError(
                "a finite loss of the adaptation",
                str(loss),
                f"epoch {epoch + 1}, batch {number + 1}",
                "Lower explora_learning_rate.",
            )
        if epoch == number == 0:
            require_live_adapters(self._model)
        torch.nn.utils.clip_grad_norm_(self.learner.trained.parameters(), GRADIENT_CLIP)
        self._optimizer.step()
        self._schedule.step()
        return loss

    def _say(self, module: Any, pixels: torch.Tensor) -> torch.Tensor:
        inputs = self._transform.normalise(pixels.to(self.device))
        inputs = inputs.contiguous(memory_format=memory_format(self._model))
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._bf16):
            said: torch.Tensor = module(inputs)
        return said.float()
