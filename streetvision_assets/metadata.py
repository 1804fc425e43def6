"""Images, tables and text as Dagster metadata for the UI, and the epochs of a running training.

Each epoch that is reported becomes a line of the log and an observation. Dagster records both at once, so the
plots of the asset draw the curve epoch by epoch. An observation has no data version: it says nothing of what
is materialized, and nothing downstream becomes stale by it.

`Paced` decides which epochs are reported. Of a training of more than `ALL_EPOCHS` epochs those that
end within `PACE_SECONDS` of the last one reported are left out, but for the first and the last of each phase.
Shorter trainings, and slower ones, are reported whole.
"""

from __future__ import annotations

import base64
import time
from functools import partial
from typing import TYPE_CHECKING

import dagster as dg

from streetvision_core.escape import for_markdown
from streetvision_core.eval.metrics import NO_ANSWERS
from streetvision_core.training.config import PROBE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from streetvision_core.report.figures import Range
    from streetvision_core.report.report import PolicyReport
    from streetvision_core.training.out_of_fold.record import Figure
    from streetvision_core.training.report import EpochReport


def picture(data: bytes) -> dg.MetadataValue:
    """Return a PNG or JPEG as metadata that the UI draws in place; keep it below about 60 KB."""
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    return dg.MetadataValue.md(f"![](data:image/{kind};base64,{base64.b64encode(data).decode()})")


def markdown(content: str) -> dg.MetadataValue:
    """Return Markdown as metadata that the UI renders; what comes from data went through `for_markdown`."""
    return dg.MetadataValue.md(content)


def table(rows: Sequence[Mapping[str, object]]) -> dg.MetadataValue:
    """Return rows of one shape as a Markdown table; floats get four decimals, text is shown as it is."""
    columns = list(rows[0])
    lines = [
        list(map(for_markdown, columns)),
        ["---"] * len(columns),
        *([_cell(row[name]) for name in columns] for row in rows),
    ]
    return dg.MetadataValue.md("\n".join(f"| {' | '.join(line)} |" for line in lines))


def with_interval(value: float | None, interval: Range | Figure | None) -> str:
    """Return a number and its 95 % interval over groups, to three decimals; None: no answers."""
    if value is None:
        return NO_ANSWERS
    if interval is None:
        return f"{value:.3f} (interval over groups not recorded)"
    return f"{value:.3f} (95 %, over groups: {interval.low:.3f} to {interval.high:.3f})"


def reached_mcc(policy: PolicyReport) -> str:
    """Return the MCC of a policy in a report, with its interval."""
    return with_interval(policy.metric("mcc"), policy.interval("mcc"))


def _cell(value: object) -> str:
    if value is None:
        return "not recorded"
    return f"{value:.4f}" if isinstance(value, float) else for_markdown(value)


ALL_EPOCHS = 20
PACE_SECONDS = 1.0


class Paced:
    """Takes every report and hands those that are due on to `tell`, in order; `finish` hands on the last."""

    def __init__(
        self, tell: Callable[[EpochReport], None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tell = tell
        self._clock = clock
        self._held: EpochReport | None = None
        self._last: tuple[str, float] | None = None

    def __call__(self, report: EpochReport) -> None:
        """Tell of the epoch, or keep it until the next one comes."""
        if self._held is not None and self._held.phase != report.phase:
            self.finish()
        now = self._clock()
        due = self._last is None or self._last[0] != report.phase or now - self._last[1] >= PACE_SECONDS
        if due or report.epochs <= ALL_EPOCHS or report.epoch == report.epochs:
            self._held, self._last = None, (report.phase, now)
            self._tell(report)
        else:
            self._held = report

    def finish(self) -> None:
        """Tell of the last epoch, if it was kept."""
        held, self._held = self._held, None
        if held is not None:
            self._tell(held)


OBSERVED = (
    "epoch",
    "train_loss",
    "val_loss",
    "val_mcc",
    "learning_rate",
    "pictures_per_second",
    "data_wait_share",
)


def observed_epochs(context: dg.AssetExecutionContext) -> Paced:
    """Return what takes the reports of a training of this asset; `finish` it after the last one."""
    return Paced(partial(_tell, context))


def _tell(context: dg.AssetExecutionContext, report: EpochReport) -> None:
    context.log.info(str(report))
    # Numbers of a probe that comes first would be the same curve's otherwise.
    prefix = f"{report.phase}_" if report.phase == PROBE else ""
    metadata = {prefix + name: getattr(report, name) for name in OBSERVED}
    context.log_event(
        dg.AssetObservation(context.asset_key, metadata=metadata, description=for_markdown(report))
    )
