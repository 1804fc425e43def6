"""Which epochs a person is told of, where they come faster than anybody reads.

Of a training of more than `ALL_EPOCHS` epochs those that end within `PACE_SECONDS` of the last one told are
left out, but for the first and the last of each phase. Shorter trainings, and slower ones, are told whole.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from streetvision_core.training.report import EpochReport

ALL_EPOCHS = 20
PACE_SECONDS = 1.0


class Paced:
    """Takes every report and hands on to `tell` those to be told, in order; `finish` tells the last one."""

    def __init__(
        self, tell: Callable[[EpochReport], None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tell = tell
        self._clock = clock
        self._held: EpochReport | None = None
        self._told: tuple[str, float] | None = None

    def __call__(self, report: EpochReport) -> None:
        """Tell of the epoch, or keep it until the next one comes."""
        if self._held is not None and self._held.phase != report.phase:
            self.finish()
        now = self._clock()
        due = self._told is None or self._told[0] != report.phase or now - self._told[1] >= PACE_SECONDS
        if due or report.epochs <= ALL_EPOCHS or report.epoch == report.epochs:
            self._held, self._told = None, (report.phase, now)
            self._tell(report)
        else:
            self._held = report

    def finish(self) -> None:
        """Tell of the last epoch, if it was kept: patience may have ended the training with it."""
        held, self._held = self._held, None
        if held is not None:
            self._tell(held)
