"""What is gained by answering only the pictures the model is sure about.

Confidence is the distance from the operating point in logits, |logit(p) - logit(threshold)|. For each
coverage asked for, the most confident pictures are accepted, at least that share of them: equally
confident pictures are accepted together, so the coverage reached can be larger. Accepted is every
picture with a confidence of at least `confidence_bound`.

A float64 probability cannot tell logits above 36.7 apart, though it could tell those below -36.7:
both sides are cut there, so that neither class counts as surer only because of the number format.

This describes a set of samples; it promises nothing about new ones (that is risk control).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streetvision_core.errors import ConfigError
from streetvision_core.eval.inputs import binary_vector, probability_vector, require_equal_length

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streetvision_core.eval.inputs import Bools, Floats, Values

COVERAGES = tuple(percent / 100 for percent in range(5, 100, 5))
_SMALLEST = 2.0**-53


@dataclass(frozen=True, order=True)
class SweepRow:
    """One coverage: asked for, reached, and how right the accepted decisions are (shares in [0, 1])."""

    coverage_asked: float
    coverage: float
    accepted: int
    selective_accuracy: float
    selective_risk: float
    confidence_bound: float


def margin_confidence(probabilities: Values, *, threshold: float) -> Floats:
    """Confidence |logit(p) - logit(threshold)| of probabilities [N], float64 [N], finite, in logits.

    Raises:
        DataError: probabilities not [N], empty, not finite or outside [0, 1].
        ConfigError: a threshold not strictly between 0 and 1.
    """
    if not 0 < threshold < 1:
        raise ConfigError(
            "an operating threshold strictly between 0 and 1",
            f"{threshold}",
            "the point confidence is measured from",
            "A threshold at 0 or 1 answers one class only; choose it on data the model can separate.",
        )
    scores = probability_vector(probabilities, name="probabilities")
    return np.abs(_logit(scores) - _logit(np.float64(threshold)))


def selective_sweep(
    probabilities: Values, labels: Values, *, threshold: float, coverages: Sequence[float] = COVERAGES
) -> tuple[SweepRow, ...]:
    """Selective accuracy and risk at each coverage, for probabilities of roadwork [N] and labels [N].

    Decisions are `probability > threshold`. One row for each coverage, in the order given.

    Raises:
        DataError: as `margin_confidence`, or labels that do not fit.
        ConfigError: a threshold not strictly between 0 and 1, or a coverage outside (0, 1].
    """
    scores = probability_vector(probabilities, name="probabilities")
    truth = binary_vector(labels, name="labels")
    require_equal_length(probabilities=scores, labels=truth)
    _require_coverages(coverages)
    confidence = margin_confidence(scores, threshold=threshold)
    return _sweep(confidence, wrong=(scores > threshold) != truth, coverages=coverages)


def _sweep(confidence: Floats, *, wrong: Bools, coverages: Sequence[float]) -> tuple[SweepRow, ...]:
    order = np.argsort(-confidence, kind="stable")
    ranked, errors = confidence[order], np.cumsum(wrong[order])
    rows = []
    for asked in coverages:
        # 0.55 * 100 is 55.00000000000001 in floats, and 55 pictures are asked for, not 56.
        wanted = max(1, math.ceil(asked * ranked.size - 1e-9))
        bound = ranked[wanted - 1]
        accepted = int(np.searchsorted(-ranked, -bound, side="right"))
        risk = int(errors[accepted - 1]) / accepted
        rows.append(SweepRow(asked, accepted / ranked.size, accepted, 1 - risk, risk, float(bound)))
    return tuple(rows)


def _logit(probabilities: Floats | np.float64) -> Floats:
    inside = np.clip(probabilities, _SMALLEST, 1 - _SMALLEST)
    return np.asarray(np.log(inside) - np.log1p(-inside))


def _require_coverages(coverages: Sequence[float]) -> None:
    for coverage in coverages:
        if not 0 < coverage <= 1:
            raise ConfigError(
                "every coverage in (0, 1]",
                f"{coverage}",
                "the coverages of the selective sweep",
                "Give shares of the pictures to accept, such as 0.05 to 0.95.",
            )
