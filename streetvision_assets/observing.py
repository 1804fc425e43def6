"""A training as the UI shows it while it runs: a line of the log and an observation for each epoch told.

Dagster records both at once, so the plots of the asset draw the curve epoch by epoch. An observation has no
data version: it says nothing of what is materialized, and nothing downstream becomes stale by it. Which
epochs are told is decided by ``training/pace.py``.
"""

from __future__ import annotations

from functools import partial

import dagster as dg

from streetvision_core.escape import for_markdown
from streetvision_core.training.config import PROBE
from streetvision_core.training.pace import Paced
from streetvision_core.training.report import EpochReport

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
    """Return what takes the reports of a training of this asset; ``finish`` it after the last one."""
    return Paced(partial(_tell, context))


def _tell(context: dg.AssetExecutionContext, report: EpochReport) -> None:
    context.log.info(str(report))
    # Numbers of a probe that comes first would be the same curve's otherwise.
    prefix = f"{report.phase}_" if report.phase == PROBE else ""
    metadata = {prefix + name: getattr(report, name) for name in OBSERVED}
    context.log_event(
        dg.AssetObservation(context.asset_key, metadata=metadata, description=for_markdown(report))
    )
