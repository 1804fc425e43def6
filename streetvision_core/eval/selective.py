"""The gain from answering only the images that the model is sure about.

Confidence is the distance from the operating point in logits, |logit(p) - logit(threshold)|. For each
coverage asked for, the most confident images are accepted, at least that share of them: equally
confident images are accepted together, so the coverage reached can be larger. Accepted is every
image with a confidence of at least `confidence_bound`.

A float64 probability cannot tell logits above 36.7 apart, though it could tell those below -36.7:
both sides are cut there, so that neither class counts as surer only because of the number format.

As probabilities: with an operating threshold t and a bound c, roadwork is answered from the probability
`threshold` = sigmoid(logit(t) + c) upwards, and none from `none_below` = sigmoid(logit(t) - c) downwards;
what lies between is deferred. At t = 0.5 that is the usual max(p, 1 - p) >= threshold, and at the operating
point itself, where everything is answered, both are t. A sweep over such thresholds would accept everything
at and below t, and mostly skip the coverages that matter; so the rows are even steps of coverage, each with
the threshold that reaches it, and one row more for the operating point.

This describes a set of samples; it promises nothing about new ones (that is risk control).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np

from streetvision_core.eval.inputs import binary_vector, probability_vector, require_equal_length
from streetvision_core.eval.metrics import Confusion
from streetvision_core.eval.thresholds import positive_probability

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streetvision_core.eval.inputs import Bools, Floats, Values

COVERAGES = tuple(percent / 100 for percent in range(5, 100, 5))
CHOSEN, BEST_ACCURACY, BEST_MCC = "chosen", "best_selective_accuracy", "best_mcc"
_SMALLEST = 2.0**-53


@dataclass(frozen=True, order=True)
class SweepRow:
    """One coverage: asked for, reached, and how right the accepted decisions are (shares in [0, 1]).

    `threshold` and `none_below` are probabilities of roadwork: at least the one is answered roadwork, at most
    the other is answered none. `mcc` is of the accepted images, 0 where they are of one class. `marks`
    says what the row is the best of, or that it is the chosen point. Rows of the first schema hold none of
    these four: None, and no marks.
    """

    coverage_asked: float
    coverage: float
    num_accepted: int
    selective_accuracy: float
    selective_risk: float
    confidence_bound: float
    threshold: float | None = None
    none_below: float | None = None
    mcc: float | None = None
    marks: tuple[str, ...] = ()

    def of_first_schema(self) -> Self:
        """Return the row without what the first schema did not record."""
        return replace(self, threshold=None, none_below=None, mcc=None, marks=())

    def to_csv_row(self) -> dict[str, object]:
        """Return the row by column name, the columns that are asked for most first."""
        cells = {**asdict(self), "marks": " ".join(self.marks)}
        return {name: cells[name] for name in SWEEP_COLUMNS}

    @classmethod
    def from_csv_row(cls, row: Mapping[str, str]) -> Self:
        """Read back what `to_csv_row` gave, from text, or a row of the first schema."""
        cells = {"num_accepted": row.get("accepted", ""), **row}
        floats = {name: float(cells[name]) for name in _ALWAYS}
        optional = {name: float(cell) for name in _ADDED_LATER if (cell := row.get(name))}
        return cls(
            **floats,
            **optional,
            num_accepted=int(cells["num_accepted"]),
            marks=tuple(row.get("marks", "").split()),
        )


SWEEP_COLUMNS = (
    "threshold", "coverage", "selective_accuracy", "selective_risk", "num_accepted", "mcc", "marks",
    "none_below", "coverage_asked", "confidence_bound",
)  # fmt: skip
_ALWAYS = ("coverage_asked", "coverage", "selective_accuracy", "selective_risk", "confidence_bound")
_ADDED_LATER = ("threshold", "none_below", "mcc")


def margin_confidence(probabilities: Values, *, threshold: float) -> Floats:
    """Confidence |logit(p) - logit(threshold)| of probabilities [N], float64 [N], finite, in logits.

    Raises:
        DataError: probabilities not [N], empty, not finite or outside [0, 1].
    """
    scores = probability_vector(probabilities, name="probabilities")
    return np.abs(_logit(scores) - _logit(np.float64(threshold)))


def selective_sweep(
    probabilities: Values, labels: Values, *, threshold: float, coverages: Sequence[float] = COVERAGES
) -> tuple[SweepRow, ...]:
    """Selective accuracy and risk at each coverage, for probabilities of roadwork [N] and labels [N].

    Decisions are `probability > threshold`. One row for each coverage, in the order given.

    Raises:
        DataError: as `margin_confidence`, or labels that do not fit.
    """
    scores = probability_vector(probabilities, name="probabilities")
    truth = binary_vector(labels, name="labels")
    require_equal_length(probabilities=scores, labels=truth)
    confidence = margin_confidence(scores, threshold=threshold)
    rows = _sweep(confidence, truth, scores > threshold, coverages=coverages)
    return tuple(_as_thresholds(row, threshold) for row in rows)


def threshold_sweep(probabilities: Values, labels: Values, *, threshold: float) -> tuple[SweepRow, ...]:
    """Return the rows of every coverage of `COVERAGES` and that of the operating point, the best ones marked.

    Of equally good rows the one that answers the most is the best, and the chosen point before all others.

    Raises:
        DataError: as `selective_sweep`.
    """
    *rows, everything = selective_sweep(
        probabilities, labels, threshold=threshold, coverages=(*COVERAGES, 1.0)
    )
    # At the operating point itself nothing is deferred, however close it lies.
    at_point = _as_thresholds(replace(everything, confidence_bound=0.0), threshold)
    rows.append(replace(at_point, marks=(CHOSEN,)))
    best = {
        BEST_ACCURACY: max(rows, key=lambda row: (row.selective_accuracy, row.coverage, row.marks)),
        BEST_MCC: max(rows, key=lambda row: (row.mcc or 0.0, row.coverage, row.marks)),
    }
    return tuple(
        replace(row, marks=(*row.marks, *(mark for mark, first in best.items() if first is row)))
        for row in rows
    )


def _sweep(
    confidence: Floats, labels: Bools, decided: Bools, *, coverages: Sequence[float]
) -> tuple[SweepRow, ...]:
    order = np.argsort(-confidence, kind="stable")
    ranked = confidence[order]
    counts = {
        name: np.cumsum((labels[order] == label) & (decided[order] == decision))
        for name, label, decision in (("tp", 1, 1), ("tn", 0, 0), ("fp", 0, 1), ("fn", 1, 0))
    }
    rows = []
    for asked in coverages:
        # 0.55 * 100 is 55.00000000000001 in floats, and 55 images are asked for, not 56.
        wanted = max(1, math.ceil(asked * ranked.size - 1e-9))
        bound = ranked[wanted - 1]
        accepted = int(np.searchsorted(-ranked, -bound, side="right"))
        reached = Confusion(**{name: int(count[accepted - 1]) for name, count in counts.items()})
        risk = (reached.fp + reached.fn) / accepted
        rows.append(
            SweepRow(asked, accepted / ranked.size, accepted, 1 - risk, risk, float(bound), mcc=reached.mcc)
        )
    return tuple(rows)


def _as_thresholds(row: SweepRow, threshold: float) -> SweepRow:
    """Return the row with its bound on the confidence as probabilities on either side of the threshold."""
    if row.confidence_bound == 0:
        return replace(row, threshold=threshold, none_below=threshold)
    middle = float(_logit(np.float64(threshold)))
    low, high = positive_probability([middle - row.confidence_bound, middle + row.confidence_bound]).tolist()
    return replace(row, threshold=high, none_below=low)


def _logit(probabilities: Floats | np.float64) -> Floats:
    inside = np.clip(probabilities, _SMALLEST, 1 - _SMALLEST)
    return np.asarray(np.log(inside) - np.log1p(-inside))
