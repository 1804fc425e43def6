"""The curves of the report's plots as tables, beside the plots: `curves/NAME.csv`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streetvision_core.eval.curves import (
    curve_files,
    precision_recall_rows,
    reliability_rows,
    risk_coverage_rows,
    roc_rows,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streetvision_core.report.report import Decided, Tested


def tabulate_curves(tested: Tested, decided: Mapping[str, Decided]) -> dict[str, bytes]:
    """Return the curves of the plots as CSV by name; curves that differ by policy have a column `policy`.

    ROC and precision-recall curves are by the checkpoint's margin, logit(Roadwork) - logit(None), which every
    policy ranks by; without both classes there are none.
    """
    margins = np.diff(tested.logits, axis=1)[:, 0]
    curves: dict[str, list[dict[str, object]]] = {"risk_coverage": [], "reliability": []}
    for kind, outcome in decided.items():
        folded = outcome.policy.point.fold(tested.logits)
        by_policy = {
            "risk_coverage": risk_coverage_rows(outcome.confidence, outcome.answers(tested) != tested.labels),
            "reliability": reliability_rows(outcome.policy.probabilities(folded), tested.labels),
        }
        for name, rows in by_policy.items():
            curves[name] += [{"policy": kind, **row} for row in rows]
    if tested.labels.any() and not tested.labels.all():
        curves["roc"] = roc_rows(margins, tested.labels)
        curves["precision_recall"] = precision_recall_rows(margins, tested.labels)
    return curve_files(curves)
