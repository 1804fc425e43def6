"""What a person sees while it trains: one bar over the whole training, and one report for each epoch.

The bar is drawn where stderr is a terminal. Elsewhere nothing is printed here: `on_epoch` gets each
`EpochReport`, whose text is one readable line. Where lines and bar share a terminal, the bar steps aside.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from lightning import Callback
from tqdm import tqdm  # type: ignore[import-untyped]

from streetvision_core.training.report import Timing
from streetvision_core.training.throughput import MIB, Meter, Throughput, peak_memory_mb, share_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import lightning

    from streetvision_core.training.module import LoopModule


class Progress(Callback):
    """Reports epochs and draws the bar; `throughput` is that of this run so far."""

    def __init__(
        self,
        *,
        epochs: int,
        batches_per_epoch: int,
        pictures_per_epoch: int,
        on_epoch: Callable[[Any], None],
    ) -> None:
        self._epochs = epochs
        self._batches = batches_per_epoch
        self._pictures = pictures_per_epoch
        self._on_epoch = on_epoch
        self._bar: tqdm[Any] | None = None
        self._begun = self._epoch_begun = 0.0
        self._epochs_done = 0
        self._meter = Meter()
        self._peak_memory_mb = 0.0
        self._gpu_peak_memory_mb: float | None = None

    @property
    def throughput(self) -> Throughput:
        """What this run has trained so far, validation left out."""
        meter = self._meter
        return Throughput(
            pictures_per_second=self._epochs_done * self._pictures / max(meter.trained_in_all, 1e-9),
            data_wait_share=share_of(meter.waited_in_all, meter.trained_in_all),
            peak_memory_mb=self._peak_memory_mb,
            gpu_peak_memory_mb=self._gpu_peak_memory_mb,
        )

    def on_train_start(self, trainer: lightning.Trainer, pl_module: LoopModule) -> None:  # type: ignore[override]
        """Open the bar, at the epochs that an earlier run has trained, and measure from here on."""
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)
            self._meter = Meter(ahead=_recorded_work)
        pl_module.on_arrival = self._meter.batch_arrived
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
        self._meter.begin_epoch()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: LoopModule,  # type: ignore[override]
        outputs: Any,  # noqa: ARG002 - as above
        batch: Any,  # noqa: ARG002 - as above
        batch_idx: int,
    ) -> None:
        """Move the bar by a batch, and wait for the next one."""
        if self._bar is not None and not self._bar.disable:
            so_far = f", {pl_module.so_far}" if pl_module.so_far else ""
            epoch = f"{pl_module.phase} epoch".lstrip() + f" {trainer.current_epoch + 1}/{self._epochs}"
            self._bar.set_description_str(f"{epoch} batch {batch_idx + 1}/{self._batches}", refresh=False)
            self._bar.set_postfix_str(f"loss {pl_module.last_loss:.3f}{so_far}", refresh=False)
            self._bar.update()
        self._meter.batch_ended()

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002 - as above
        """Stop the epoch's training clock."""
        self._meter.end_epoch()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: LoopModule) -> None:  # type: ignore[override]  # noqa: ARG002 - as above
        """Report the epoch."""
        now = time.monotonic()
        meter = self._meter
        meter.end_epoch()  # unless a validation has ended it
        self._epochs_done += 1
        self._peak_memory_mb = max(self._peak_memory_mb, peak_memory_mb())
        if pl_module.device.type == "cuda":
            self._gpu_peak_memory_mb = torch.cuda.max_memory_allocated(pl_module.device) / MIB
        timing = Timing(
            epochs=self._epochs,
            pictures_per_second=self._pictures / max(meter.trained, 1e-9),
            seconds=now - self._epoch_begun,
            seconds_left=(now - self._begun) / self._epochs_done * (self._epochs - pl_module.epochs_done),
            data_wait_share=share_of(meter.waited, meter.trained),
            peak_memory_mb=self._peak_memory_mb,
            gpu_peak_memory_mb=self._gpu_peak_memory_mb,
        )
        with self._bar_aside():
            self._on_epoch(pl_module.report(timing))

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:  # noqa: ARG002 - as above
        """Close the bar, however training ended."""
        if self._bar is not None:
            self._bar.close()

    @contextmanager
    def _bar_aside(self) -> Iterator[None]:
        """Take the bar off its line for the block: whoever writes to the terminal begins at its left."""
        if self._bar is None or self._bar.disable:
            yield
            return
        self._bar.clear()
        yield
        self._bar.refresh()


def _recorded_work() -> Callable[[], bool]:
    """Return what tells whether the GPU has yet to finish what it was given so far; nobody waits."""
    event: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()
    return lambda: not event.query()
