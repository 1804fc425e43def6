"""What a person sees while it trains: one bar over the whole training, and one report for each epoch.

The bar is drawn where stderr is a terminal. Elsewhere nothing is printed here: `on_epoch` gets each
`EpochReport`, whose text is one readable line.
"""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lightning import Callback
from tqdm import tqdm  # type: ignore[import-untyped]

from streetvision_core.training.report import EpochReport

if TYPE_CHECKING:
    from collections.abc import Callable

    import lightning

    from streetvision_core.training.module import TrainingModule


class Progress(Callback):
    """Reports epochs and draws the bar; `pictures_per_second` is that of this run so far."""

    def __init__(
        self,
        *,
        epochs: int,
        batches_per_epoch: int,
        pictures_per_epoch: int,
        on_epoch: Callable[[EpochReport], None],
    ) -> None:
        self._epochs = epochs
        self._batches = batches_per_epoch
        self._pictures = pictures_per_epoch
        self._on_epoch = on_epoch
        self._bar: tqdm[Any] | None = None
        self._begun = self._epoch_begun = self._trained_until = 0.0
        self._seconds_trained = 0.0
        self._epochs_done = 0

    @property
    def pictures_per_second(self) -> float:
        """Pictures trained on a second, validation left out."""
        return self._epochs_done * self._pictures / max(self._seconds_trained, 1e-9)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002 - Lightning's signature
        """Open the bar, at the epochs that an earlier run has trained."""
        self._begun = time.monotonic()
        self._bar = tqdm(
            total=self._epochs * self._batches,
            initial=trainer.current_epoch * self._batches,
            unit="batch",
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
            leave=True,
        )

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002 - as above
        """Start the epoch's clock."""
        self._epoch_begun = time.monotonic()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: TrainingModule,  # type: ignore[override]
        outputs: Any,  # noqa: ARG002 - as above
        batch: Any,  # noqa: ARG002 - as above
        batch_idx: int,
    ) -> None:
        """Move the bar by a batch."""
        if self._bar is not None and not self._bar.disable:
            rows = pl_module.rows
            mcc = f", val MCC {rows[-1].val_mcc:.3f}" if rows else ""
            self._bar.set_description_str(
                f"epoch {trainer.current_epoch + 1}/{self._epochs} batch {batch_idx + 1}/{self._batches}",
                refresh=False,
            )
            self._bar.set_postfix_str(f"loss {pl_module.last_loss:.3f}{mcc}", refresh=False)
            self._bar.update()

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002 - as above
        """Stop the epoch's training clock."""
        self._trained_until = time.monotonic()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: TrainingModule) -> None:  # type: ignore[override]  # noqa: ARG002 - as above
        """Report the epoch."""
        now = time.monotonic()
        trained = self._trained_until - self._epoch_begun
        self._epochs_done += 1
        self._seconds_trained += trained
        self._on_epoch(
            EpochReport(
                **asdict(pl_module.rows[-1]),
                epochs=self._epochs,
                pictures_per_second=self._pictures / max(trained, 1e-9),
                seconds=now - self._epoch_begun,
                seconds_left=(now - self._begun)
                / self._epochs_done
                * (self._epochs - pl_module.rows[-1].epoch),
            )
        )

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:  # noqa: ARG002 - as above
        """Close the bar, however training ended."""
        if self._bar is not None:
            self._bar.close()
