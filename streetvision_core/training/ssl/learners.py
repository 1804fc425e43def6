"""Self-supervised adaptation (SimCLR): adapters and the last blocks, views in, merged weights out.

The model gets a head on it that is thrown away afterwards, and learns from pairs of views in the loop of all
trainings (`loop.py`): it goes on after the last epoch of a run that was killed, and the weights are then the
same. Everything random is named by purpose, epoch and place, so workers change nothing. Losses are float32.
After the first backward pass every adapter has to prove that it is reached.

The gradient of a batch is taken in parts (`objectives.py`), so the module steps the optimizer itself. The
head does not normalise over a batch, because the parts would then not be those of a whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from timm.optim._param_groups import param_groups_weight_decay
from torch import nn

from streetvision_core.errors import StreetVisionError
from streetvision_core.inference.predict import memory_format
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
from streetvision_core.training.loop import Plan, Saving, run_training
from streetvision_core.training.module import WEIGHT_DECAY, LoopModule, scheduled_adamw
from streetvision_core.training.seeds import Purpose, derive_seed
from streetvision_core.training.ssl.adaptation import AdaptationEpoch
from streetvision_core.training.ssl.objectives import backward_in_parts, contrastive_loss
from streetvision_core.training.ssl.views import make_view_loader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from streetvision_core.models.adapters import Adapters
    from streetvision_core.models.config import SimClr
    from streetvision_core.models.preprocessing import Preprocessing
    from streetvision_core.training.data import DecodedImages
    from streetvision_core.training.report import Timing

WARMUP_SHARE, GRADIENT_CLIP = 0.1, 1.0
LEARNING_RATE = 1e-3  # AdamW's largest
# Adapters on queries and values, their product scaled by alpha / rank, and the last blocks whole: what the
# paper found enough. More of either needs more images to learn from than people have.
RANK, ALPHA, UNFROZEN_BLOCKS = 8, 16, 1
TEMPERATURE = 0.1
VIEWS_AT_ONCE = 128  # in memory; a larger batch pays with a second forward pass
PROJECTION = 128  # width of what the views are compared in
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


class ContrastiveModule(LoopModule):
    """A model and its head in training; `losses` holds the mean loss of each finished epoch, in any run."""

    phase = "adaptation"

    def __init__(
        self,
        model: Any,
        *,
        transform: Preprocessing,
        config: SimClr,
        seed: int,
        steps_per_epoch: int,
        losses: tuple[float, ...] = (),
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.losses = list(losses)
        width = int(model.num_features)
        torch.manual_seed(derive_seed(seed, Purpose.MODEL, 1))  # the head's first weights
        hidden = max(width, PROJECTION)
        head = (nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, PROJECTION))
        self.learner = nn.Sequential(model, *head).train()
        self._transform = transform
        self._config = config
        self._seed = seed
        self._steps_per_epoch = steps_per_epoch
        self._total = 0.0

    @property
    def epochs_done(self) -> int:
        """The number of epochs trained, in any run."""
        return len(self.losses)

    @property
    def so_far(self) -> str:
        """The mean loss of the last epoch."""
        return f"last epoch {self.losses[-1]:.3f}" if self.losses else ""

    def report(self, timing: Timing) -> AdaptationEpoch:
        """Return the report of the last epoch."""
        return AdaptationEpoch(self.epochs_done, self.losses[-1], timing)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the losses; there are no rows."""
        checkpoint |= {"losses": self.losses, "rows": [], "candidates": []}

    def configure_optimizers(self) -> Any:
        """Return AdamW, without decay on norms and biases, and the schedule by step."""
        steps = self._steps_per_epoch * self._config.epochs
        return scheduled_adamw(
            param_groups_weight_decay(self.learner, WEIGHT_DECAY),
            learning_rate=LEARNING_RATE,
            warmup_steps=round(WARMUP_SHARE * steps),
            total_steps=steps,
        )

    def on_train_epoch_start(self) -> None:
        """Begin the mean of the epoch."""
        self._total = 0.0

    def training_step(self, views: tuple[torch.Tensor, ...] | StreetVisionError, batch_idx: int) -> None:
        """Learn from one batch of pairs of views, uint8 [B, 3, H, W] each."""
        if isinstance(views, StreetVisionError):
            raise views
        optimizer, schedule = self.optimizers(), self.lr_schedulers()
        optimizer.zero_grad()  # type: ignore[union-attr]  # there is one
        action = "Start from other weights, or leave the adaptation out."
        self.last_loss = self.require_finite(
            self._backward(views, batch_idx), batch_idx, what="a finite loss of the adaptation", action=action
        )
        if self.trainer.global_step == 0:
            require_live_adapters(self.learner)
        nn.utils.clip_grad_norm_(self.learner.parameters(), GRADIENT_CLIP)
        optimizer.step()  # type: ignore[union-attr]  # as above
        schedule.step()  # type: ignore[union-attr]  # as above
        self._total += self.last_loss
        if self.trainer.is_last_batch:  # callbacks see the end of an epoch before the module does
            self.losses.append(self._total / self._steps_per_epoch)

    def _backward(self, views: tuple[torch.Tensor, ...], batch_idx: int) -> float:
        """Leave the gradient of the whole batch behind; return its loss."""
        pixels = torch.cat(views)
        parts = torch.split(pixels, VIEWS_AT_ONCE)
        place = (self.current_epoch, batch_idx)

        def encode(part: int) -> torch.Tensor:
            # What a model drops, if it does, is the same in both passes over a part.
            torch.manual_seed(derive_seed(self._seed, Purpose.MODEL, 2, *place, part))
            inputs = self._transform.normalise(parts[part])
            with self.trainer.precision_plugin.forward_context():
                embeddings: torch.Tensor = self.learner(
                    inputs.contiguous(memory_format=memory_format(self.learner[0]))
                )
            return embeddings.float()

        # The loss and its gradient are float32, whatever the forward pass was computed in.
        with torch.autocast(self.device.type, enabled=False):
            loss = backward_in_parts(
                encode,
                len(parts),
                lambda embeddings: contrastive_loss(*embeddings.chunk(2), temperature=TEMPERATURE),
            )
        return float(loss)


def learn_from_views(
    model: Any,
    images: DecodedImages,
    *,
    sample: torch.Tensor,
    transform: Preprocessing,
    config: SimClr,
    seed: int,
    saving: Saving,
    on_epoch: Callable[[AdaptationEpoch], None] = lambda _: None,
) -> Adapted:
    """Adapt a timm vision transformer without a head to images; the model is used up.

    Args:
        model: The starting weights.
        images: What it is adapted to, two or more.
        sample: Crops on which merging is proved to change nothing, uint8 [N, 3, H, W].
        transform: The model's preprocessing.
        config: The recipe.
        seed: Seed of the weights of adapters and head, and of the views.
        saving: Where epochs are saved, and those that an earlier run has trained.
        on_epoch: Called after each epoch.

    Raises:
        ConfigError: the model cannot be adapted.
        TrainingError: a loss that is not finite, an adapter that is not reached, or a merge that changes
            what the model says.
    """
    seed = derive_seed(seed, Purpose.ADAPTATION)
    adapters, whole = _unfreeze(model, seed=derive_seed(seed, Purpose.MODEL, 0))
    loader = make_view_loader(images, transform=transform, batch_size=config.batch_size, seed=seed)
    module = ContrastiveModule(
        model,
        transform=transform,
        config=config,
        seed=seed,
        steps_per_epoch=len(loader),
        losses=saving.saved.losses if saving.saved else (),
    )
    plan = Plan(config.epochs, precision="auto")
    run_training(module, loader, None, plan=plan, best=None, saving=saving, on_epoch=on_epoch)
    learned = model.eval()
    merged = merged_copy(learned)
    inputs = transform.normalise(sample.to(next(learned.parameters()).device))
    parity = require_parity(learned, merged, inputs)
    state = merged.state_dict()
    return Adapted(
        model=merged,
        trained=adapter_state(learned) | {name: state[name] for name in state if name.startswith(whole)},
        adapters=adapters,
        losses=tuple(module.losses),
        parity=parity,
    )


def rebuild_adapted(model: Any, trained: Mapping[str, torch.Tensor]) -> Any:
    """Put what was trained on starting weights, merge it, and return the plain model.

    Args:
        model: The starting weights, without a head; used up.
        trained: The adapters' tensors and those that were trained whole, as `Adapted.trained` has them.

    Raises:
        ConfigError: the tensors do not fit.
    """
    whole = {name: tensor for name, tensor in trained.items() if name in model.state_dict()}
    load_exactly(model, {**model.state_dict(), **whole}, where="what was trained whole")
    _unfreeze(model, seed=0)
    load_adapter_state(model, {name: tensor for name, tensor in trained.items() if name not in whole})
    merge_adapters(model)
    return model


def _unfreeze(model: Any, *, seed: int) -> tuple[Adapters, tuple[str, ...]]:
    """Add the adapters and unfreeze the last blocks; return the beginnings of the names of the latter."""
    depth = block_count(model)
    last = range(max(0, depth - UNFROZEN_BLOCKS), depth)
    adapters = add_adapters(model, rank=RANK, alpha=ALPHA, seed=seed, skip_blocks=last)
    names = [f"blocks.{number}" for number in last]
    # The final norm goes with the last block: it scales what that block puts out.
    names += [name for name in _FINAL_NORMS if names and hasattr(model, name)]
    for name in names:
        model.get_submodule(name).requires_grad_(requires_grad=True)
    return adapters, tuple(f"{name}." for name in names)
