"""The modules that Lightning trains: averaged weights, loss, optimizer and schedule, for any learner.

`TrainingModule` is the part that all ways to train share. It holds a `learner`, which gives logits for one
or more candidates at once (a probe trains many heads, everything else is one candidate), and adds up the
losses of the candidates: none of them sees another one's gradient. `ClassifierModule` learns from pixels, a
whole classifier or the adapters in it; the module of the probe stands in `probe`.

The averaged weights (EMA, with a decay that warms up) are validated, staged and shipped; the raw ones only
receive gradients. Validation runs in float32 by the same function as every later prediction.
"""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import lightning
import numpy as np
import torch
from timm.optim._param_groups import param_groups_layer_decay, param_groups_weight_decay
from timm.utils.model_ema import ModelEmaV3
from torchvision.transforms import v2

from streetvision_core.errors import StreetVisionError, TrainingError
from streetvision_core.eval import compute_mcc
from streetvision_core.eval.calibration import negative_log_likelihood
from streetvision_core.inference.predict import forward_batch, memory_format
from streetvision_core.models.adapters import require_live_adapters
from streetvision_core.recorded import warmup_of
from streetvision_core.training.config import FINETUNE, LORA, LP_FT, TrainingConfig
from streetvision_core.training.losses import CLASSES, LABEL_SMOOTHING, image_losses, soft_targets
from streetvision_core.training.processes import gather_in_order
from streetvision_core.training.report import CandidateRow, EpochReport, EpochRow, Timing, best_of
from streetvision_core.training.seeds import Purpose, derive_seed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from streetvision_core.models.preprocessing import Preprocessing
    from streetvision_core.training.data import Batch

_log = logging.getLogger(__name__)


READ_EVERY = 10
# AdamW's, of all weights but norms and biases: timm's own for fine-tuning, and no preset needs another.
WEIGHT_DECAY = 0.05


class LoopModule(lightning.LightningModule):
    """The interface of a module to the loop: the number of epochs done, in any run, and a report of the last.

    `on_arrival` is called with each batch that has come from a loader.
    """

    last_loss = math.nan

    def __init__(self) -> None:
        super().__init__()
        self.on_arrival: Callable[[], None] = lambda: None

    @property
    @abstractmethod
    def phase(self) -> str:
        """The name of this training where one follows the other; else empty."""

    @property
    @abstractmethod
    def epochs_done(self) -> int:
        """The number of epochs trained, in any run."""

    @property
    @abstractmethod
    def so_far(self) -> str:
        """The text that the bar shows of the earlier epochs; empty before there are any."""

    @abstractmethod
    def report(self, timing: Timing) -> Any:
        """Return the report of the last epoch."""

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:  # noqa: ARG002 - Lightning's signature
        """Note that it is here."""
        self.on_arrival()
        return batch

    def require_finite(self, value: float, batch_idx: int, *, what: str, action: str) -> float:
        """Return the value.

        Raises:
            TrainingError: it is not finite.
        """
        if math.isfinite(value):
            return value
        where = f"epoch {self.current_epoch + 1}, batch {batch_idx + 1}"
        raise TrainingError(what, str(value), where, action)


def learning_rate_factor(step: int, *, warmup_steps: int, total_steps: int) -> float:
    """Return the share of the largest learning rate at a step from 0: a linear rise, then half a cosine."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def scheduled_adamw(
    groups: list[dict[str, Any]], *, learning_rate: float, warmup_steps: int, total_steps: int
) -> Any:
    """Return AdamW with the schedule by step, as Lightning takes it."""
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(step, warmup_steps=warmup_steps, total_steps=total_steps)
    )
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class TrainingModule(LoopModule):
    """A learner in training; `rows` holds one `EpochRow` for each finished epoch, in any run.

    `candidates` holds a row for each candidate after the last epoch, of its best epoch so far; it is empty
    where there is one only.
    """

    kind = FINETUNE

    def __init__(
        self,
        learner: torch.nn.Module,
        *,
        config: TrainingConfig,
        class_weights: Sequence[float],
        steps_per_epoch: int,
        rows: Sequence[EpochRow] = (),
        candidates: Sequence[CandidateRow] = (),
    ) -> None:
        super().__init__()
        self.model = learner.train()
        self.ema = ModelEmaV3(self.model, decay=config.optimizer.ema_decay, use_warmup=True)
        self.ema.requires_grad_(requires_grad=False)
        self.class_weights: torch.Tensor
        self.register_buffer("class_weights", torch.tensor(class_weights))
        self.rows = list(rows)
        self.candidates = tuple(candidates)
        self.best_candidate = 0
        self.config = config
        self._steps_per_epoch = steps_per_epoch
        self._loss_sums = torch.zeros(())
        self._batches = 0
        self._validated: list[tuple[torch.Tensor, torch.Tensor]] = []

    @property
    def phase(self) -> str:
        """The name of this training where one follows the other, "probe" or "finetune"; else empty."""
        return self.kind if self.config.method.kind == LP_FT else ""

    @property
    def epochs_done(self) -> int:
        """The number of epochs trained, in any run."""
        return len(self.rows)

    @property
    def so_far(self) -> str:
        """The MCC after the last epoch."""
        return f"val MCC {self.rows[-1].val_mcc:.3f}" if self.rows else ""

    def report(self, timing: Timing) -> EpochReport:
        """Return the report of the last epoch."""
        return EpochReport(**asdict(self.rows[-1]), **asdict(timing), phase=self.phase)

    @abstractmethod
    def batch_losses(self, batch: Any) -> torch.Tensor:
        """Return the mean loss of a batch for each candidate, float32 [S]."""

    @abstractmethod
    def validate_batch(self, batch: Any) -> torch.Tensor:
        """Return the logits of the averaged weights, float32 [S, B, 2]."""

    @abstractmethod
    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the groups that the optimizer trains, each with its weight decay and learning rate."""

    @abstractmethod
    def trained_state(self) -> Mapping[str, torch.Tensor]:
        """Return what was trained, averaged, by name: of several candidates the best one's."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the rows, which early stopping and the best epoch follow from."""
        checkpoint["rows"] = [asdict(row) for row in self.rows]
        checkpoint["candidates"] = [asdict(row) for row in self.candidates]

    def configure_optimizers(self) -> Any:
        """Return AdamW, without decay on norms and biases, and the schedule by step."""
        given = self.config.optimizer
        return scheduled_adamw(
            self.parameter_groups(),
            learning_rate=given.learning_rate,
            warmup_steps=round(warmup_of(self.config.epochs) * self._steps_per_epoch),
            total_steps=self.config.epochs * self._steps_per_epoch,
        )

    def on_train_epoch_start(self) -> None:
        """Seed mixing for this epoch alone, so that it depends on no earlier one's draws."""
        rank = [self.global_rank] if self.global_rank else []
        torch.manual_seed(derive_seed(self.config.seed, Purpose.MODEL, self.current_epoch, *rank))
        self._loss_sums = torch.zeros((), device=self.device)
        self._batches = 0

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Note that the batch is here; raise the error of an image in it that cannot be read."""
        if isinstance(batch, StreetVisionError):
            raise batch
        return super().on_before_batch_transfer(batch, dataloader_idx)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        """Return the sum of the candidates' losses of a batch."""
        losses = self.batch_losses(batch)
        self._loss_sums = self._loss_sums + losses.detach()
        self._batches += 1
        if batch_idx % READ_EVERY == 0:  # reading a GPU's number waits for the GPU
            # A candidate that diverged is out of the race; the others go on.
            smallest = losses.detach().nan_to_num(nan=math.inf).min()
            self.last_loss = self._finite(smallest.item(), batch_idx)
        return losses.sum()

    def configure_gradient_clipping(
        self,
        optimizer: Any,  # noqa: ARG002 - Lightning's signature
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,  # noqa: ARG002 - as above
    ) -> None:
        """Clip the norm of the gradient.

        Lightning refuses to beside a fused optimizer in mixed precision, because a scaler of fp16 might be at
        work in it; bf16 has none.
        """
        if gradient_clip_val:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), gradient_clip_val)

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Callable[[], Any] | None = None
    ) -> None:
        """Step, then average: once for each step of the optimizer, however many batches it took."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self.ema.update(self.model, step=self.trainer.global_step)

    def validation_step(self, batch: Any, batch_idx: int) -> None:  # noqa: ARG002 - Lightning's signature
        """Collect the logits of a batch of val_select, from the averaged weights."""
        self._validated.append((self.validate_batch(batch).cpu(), batch[1].cpu()))

    def on_validation_epoch_end(self) -> None:
        """Add the epoch's row, the best candidate's: Lightning validates before it ends the epoch."""
        parts = gather_in_order(self._validated)
        logits = torch.cat([part for part, _ in parts], dim=1).numpy()
        labels = torch.cat([part for _, part in parts]).numpy()
        self._validated.clear()
        rows = self._judge(logits, labels)
        best = best_of([row for row in rows if row is not None])
        self.best_candidate = rows.index(best)
        self.rows.append(best)
        if self.candidates:
            judged = zip(self.candidates, rows, strict=True)
            self.candidates = tuple(known.after(row) if row else known for known, row in judged)

    def _judge(self, logits: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> list[EpochRow | None]:
        """Return the row of each candidate, None for one that has diverged; logits are [S, N, 2]."""
        last, losses = self._batches - 1, self._mean_losses()
        self._finite(min((loss for loss in losses if math.isfinite(loss)), default=math.nan), last)
        whole = np.isfinite(logits).all(axis=(1, 2)) & np.isfinite(losses)
        self._finite(0.0 if whole.any() else math.nan, last, what="logits on val_select")
        judged = zip(whole, losses, logits, self.learning_rates(), strict=True)
        return [
            EpochRow(
                epoch=self.current_epoch + 1,
                train_loss=loss,
                val_loss=negative_log_likelihood(candidate_logits, labels),
                val_mcc=compute_mcc(labels, candidate_logits[:, 1] > candidate_logits[:, 0]),
                learning_rate=rate,
            )
            if good
            else None
            for good, loss, candidate_logits, rate in judged
        ]

    def learning_rates(self) -> list[float]:
        """Return the learning rate of each candidate at the last step."""
        return [float(self.trainer.optimizers[0].param_groups[0]["lr"])]

    def _mean_losses(self) -> list[float]:
        """Return each candidate's mean loss of the epoch, over all processes."""
        sums = [part for (part,) in gather_in_order([(self._loss_sums.cpu(),)])]
        return [float(loss) for loss in torch.stack(sums).mean(0) / self._batches]

    def _finite(self, value: float, batch_idx: int, *, what: str = "training loss") -> float:
        action = "Lower the learning rate, or lengthen the warm-up."
        return self.require_finite(value, batch_idx, what=f"finite {what}", action=action)


class ClassifierModule(TrainingModule):
    """A classifier that learns from pixels: all of its weights, or those that require a gradient."""

    def __init__(
        self, model: Any, *, transform: Preprocessing, validation_batch_size: int, **common: Any
    ) -> None:
        super().__init__(model.to(memory_format=memory_format(model)), **common)
        self._transform = transform
        self._validation_batch_size = validation_batch_size
        self._mixing = make_mixing(self.config)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the groups of all weights that require a gradient; lower layers may learn more slowly."""
        config = self.config.optimizer
        if config.layer_decay == 1:
            return param_groups_weight_decay(self.model, weight_decay=WEIGHT_DECAY)  # type: ignore[no-any-return]
        groups = param_groups_layer_decay(
            self.model, weight_decay=WEIGHT_DECAY, layer_decay=config.layer_decay
        )
        return [
            {
                "params": group["params"],
                "weight_decay": group["weight_decay"],
                "lr": config.learning_rate * group["lr_scale"],
            }
            for group in groups
        ]

    def learning_rates(self) -> list[float]:
        """Return the largest learning rate of the last step, which is the head's."""
        return [max(float(group["lr"]) for group in self.trainer.optimizers[0].param_groups)]

    def on_before_optimizer_step(self, optimizer: Any) -> None:  # noqa: ARG002 - Lightning's signature
        """Prove that adapters learn, once the head, which starts at zero, lets a gradient through."""
        if self.config.method.kind == LORA and self.trainer.global_step == 1:
            require_live_adapters(self.model)

    def trained_state(self) -> Mapping[str, torch.Tensor]:
        """Return all averaged weights, or those alone that were trained where others are frozen."""
        frozen = {name for name, parameter in self.model.named_parameters() if not parameter.requires_grad}
        state = self.ema.module.state_dict()
        return {name: tensor for name, tensor in state.items() if name not in frozen}

    def batch_losses(self, batch: Batch) -> torch.Tensor:
        """Return the mean loss of a batch of pixels uint8 [B, 3, H, W] and labels [B], float32 [1]."""
        pixels, labels = batch
        inputs = self._transform.normalise(pixels)
        targets = soft_targets(labels, smoothing=0.0)
        if self._mixing is not None:
            inputs, targets = self._mixing(inputs, targets)
        smoothing = LABEL_SMOOTHING
        losses = image_losses(
            self.model(inputs.contiguous(memory_format=memory_format(self.model))),
            targets * (1 - smoothing) + smoothing / CLASSES,
            self.class_weights,
            gamma=self.config.loss.gamma,
        )
        return losses.mean()[None]

    def validate_batch(self, batch: Batch) -> torch.Tensor:
        """Return the averaged weights' logits, float32 [1, B, 2]."""
        size = self._validation_batch_size
        return forward_batch(self.ema.module, batch[0], self._transform, batch_size=size)[None]


def make_mixing(config: TrainingConfig) -> Any:
    """Return what mixes the images of a batch with each other, None where nothing does."""
    return v2.MixUp(alpha=config.mixup, num_classes=None) if config.mixup else None
