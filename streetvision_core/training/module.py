"""What Lightning trains: the classifier, its averaged weights, its loss, its optimizer and its schedule.

The averaged weights (EMA, with a decay that warms up) are what is validated, staged and shipped; the raw
ones only receive gradients. Validation runs in float32 by the same function as every later prediction.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Self

import lightning
import numpy as np
import torch
from timm.optim._param_groups import param_groups_weight_decay
from timm.utils.model_ema import ModelEmaV3
from torch.nn import functional

from streetvision_core.errors import StreetVisionError, TrainingError
from streetvision_core.eval import compute_mcc, negative_log_likelihood
from streetvision_core.models.predict import forward_batch, memory_format
from streetvision_core.training.report import EpochRow
from streetvision_core.training.seeds import Purpose, derive_seed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streetvision_core.models.preprocessing import Preprocessing
    from streetvision_core.training.config import TrainingConfig
    from streetvision_core.training.data import Batch

READ_EVERY = 10


def balanced_class_weights(labels: Sequence[int]) -> list[float]:
    """Return N / (classes * count) for classes 0 and 1, both present: each class weighs N / 2 in all."""
    counts = np.bincount(labels, minlength=2)
    return [float(len(labels) / (len(counts) * count)) for count in counts]


def learning_rate_factor(step: int, *, warmup_steps: int, total_steps: int) -> float:
    """Return the share of the largest learning rate at a step from 0: a linear rise, then half a cosine."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


class ClassifierModule(lightning.LightningModule):
    """The classifier in training; `rows` holds one `EpochRow` for each finished epoch, in any run."""

    def __init__(
        self,
        model: Any,
        *,
        transform: Preprocessing,
        config: TrainingConfig,
        class_weights: Sequence[float],
        validation_batch_size: int,
        steps_per_epoch: int,
        rows: Sequence[EpochRow] = (),
    ) -> None:
        super().__init__()
        self.model = model.to(memory_format=memory_format(model)).train()
        if config.freeze_backbone:
            self.model.requires_grad_(requires_grad=False)
            self.model.get_classifier().requires_grad_(requires_grad=True)
        self.ema = ModelEmaV3(self.model, decay=config.ema_decay, use_warmup=True)
        self.ema.requires_grad_(requires_grad=False)
        self.class_weights: torch.Tensor
        self.register_buffer("class_weights", torch.tensor(class_weights))
        self.rows = list(rows)
        self.last_loss = math.nan
        self._transform = transform
        self._config = config
        self._validation_batch_size = validation_batch_size
        self._steps_per_epoch = steps_per_epoch
        self._loss_sum = torch.zeros(())
        self._validated: list[tuple[torch.Tensor, torch.Tensor]] = []

    def train(self, mode: bool = True) -> Self:
        """Switch to training; a frozen backbone stays in evaluation mode, so that its statistics stay too."""
        super().train(mode)
        if self._config.freeze_backbone:
            self.model.eval()
        return self

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the rows, which early stopping and the best epoch follow from."""
        checkpoint["rows"] = [asdict(row) for row in self.rows]

    def configure_optimizers(self) -> Any:
        """Return AdamW, without decay on norms and biases, and the schedule by step."""
        config = self._config
        groups = param_groups_weight_decay(self.model, weight_decay=config.weight_decay)
        optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
        warmup = round(config.warmup_epochs * self._steps_per_epoch)
        total = config.epochs * self._steps_per_epoch
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, warmup_steps=warmup, total_steps=total)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        """Seed dropout for this epoch alone, so that an epoch depends on no earlier one's draws."""
        torch.manual_seed(derive_seed(self._config.seed, Purpose.MODEL, self.current_epoch))
        self._loss_sum = torch.zeros((), device=self.device)

    def on_before_batch_transfer(self, batch: Batch | StreetVisionError, dataloader_idx: int) -> Batch:  # noqa: ARG002 - Lightning's signature
        """Raise what went wrong in a worker."""
        if isinstance(batch, StreetVisionError):
            raise batch
        return batch

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """Return the loss of a batch: cross-entropy, weighted by class, labels smoothed."""
        pixels, labels = batch
        inputs = self._transform.normalise(pixels).contiguous(memory_format=memory_format(self.model))
        loss = functional.cross_entropy(
            self.model(inputs),
            labels,
            weight=self.class_weights,
            label_smoothing=self._config.label_smoothing,
        )
        self._loss_sum += loss.detach()
        if batch_idx % READ_EVERY == 0:  # reading a GPU's number waits for the GPU
            self.last_loss = self._finite(loss.item(), batch_idx)
        return loss

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Step, then average: once for each step of the optimizer, however many batches it took."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self.ema.update(self.model, step=self.trainer.global_step)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002 - Lightning's signature
        """Collect the logits of a batch of val_select, from the averaged weights."""
        pixels, labels = batch
        size = self._validation_batch_size
        logits = forward_batch(self.ema.module, pixels, self._transform, batch_size=size)
        self._validated.append((logits.cpu(), labels.cpu()))

    def on_validation_epoch_end(self) -> None:
        """Add the epoch's row; Lightning validates before it ends the training epoch."""
        logits, labels = (torch.cat(parts).numpy() for parts in zip(*self._validated, strict=True))
        self._validated.clear()
        train_loss = self._finite(self._loss_sum.item() / self._steps_per_epoch, self._steps_per_epoch - 1)
        self._finite(float(np.abs(logits).max()), self._steps_per_epoch - 1, what="logits on val_select")
        self.rows.append(
            EpochRow(
                epoch=self.current_epoch + 1,
                train_loss=train_loss,
                val_loss=negative_log_likelihood(logits, labels),
                val_mcc=compute_mcc(labels, logits[:, 1] > logits[:, 0]),
                learning_rate=float(self.trainer.optimizers[0].param_groups[0]["lr"]),
            )
        )

    def _finite(self, value: float, batch_idx: int, *, what: str = "training loss") -> float:
        if math.isfinite(value):
            return value
        raise TrainingError(
            f"finite {what}",
            str(value),
            f"epoch {self.current_epoch + 1}, batch {batch_idx + 1}",
            "Lower the learning rate, lengthen the warm-up, or lower gradient_clip.",
        )
