"""Every curve that is drawn, as a table of numbers beside the plot: one CSV below `curves/` each.

The numbers come from the very functions that the plots take them from. A row is an exact point of the curve,
where something changes, never one in between; of a long curve the rows are the points that the plot keeps
(see `thin`), at most 1,000.

Curves of many points are thinned before they are drawn or tabulated: of each column of a fine raster the
first, the last, the lowest and the highest point stay, so that a line through them covers the same heights in
each column.

Source: Jugel, Jerzak, Hackenbroich and Markl, M4: A Visualization-Oriented Time Series Data Aggregation,
PVLDB 7 (2014), 797-808.

An artifact of an older version has no such files. What was not recorded is no fault.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from streetvision_core.eval.decisions import same_numbers
from streetvision_core.eval.ranking import class_steps, risk_coverage_curve
from streetvision_core.eval.reliability import reliability_bins
from streetvision_core.eval.thresholds import mcc_curve
from streetvision_core.io import csv_bytes, read_csv

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from streetvision_core.eval.inputs import Floats, Values
    from streetvision_core.io import PublishedArtifact

    Rows: TypeAlias = Sequence[Mapping[str, object]]

CURVE_PREFIX = "curves/"
_COLUMNS = 250


def mcc_rows(probabilities: Values, labels: Values) -> list[dict[str, object]]:
    """MCC at each threshold on the probability of roadwork, the exact best one among them.

    Takes probabilities [N] and labels [N].

    Raises:
        DataError: what `mcc_curve` refuses.
    """
    thresholds, mcc = mcc_curve(probabilities, labels)
    return _rows(threshold=thresholds, mcc=mcc)


def risk_coverage_rows(confidence: Values, wrong: Values) -> list[dict[str, object]]:
    """Return the rows of the risk-coverage curve of confidence [N] and `wrong` [N], strict to loose.

    Raises:
        DataError: what `risk_coverage_curve` refuses.
    """
    curve = risk_coverage_curve(confidence, wrong)
    kept = thin_positions(curve.coverage, curve.selective_risk)
    return _rows(
        confidence=curve.thresholds[kept],
        coverage=curve.coverage[kept],
        selective_risk=curve.selective_risk[kept],
        num_accepted=curve.accepted[kept],
        errors=curve.errors[kept],
    )


def roc_rows(scores: Values, labels: Values) -> list[dict[str, object]]:
    """False-positive rate and recall where a score [N] of at least `score` is called roadwork, falling.

    Raises:
        DataError: what `roc_curve` refuses, one class only among it.
    """
    score, hits, alarms = class_steps(scores, labels)
    rate, recall = alarms / alarms[-1], hits / hits[-1]
    kept = thin_positions(rate, recall)
    return _rows(score=score[kept], false_positive_rate=rate[kept], recall=recall[kept])


def precision_recall_rows(scores: Values, labels: Values) -> list[dict[str, object]]:
    """Precision and recall where a score [N] of at least `score` is called roadwork, falling.

    Raises:
        DataError: what `precision_recall_curve` refuses, one class only among it.
    """
    score, hits, alarms = class_steps(scores, labels)
    recall, precision = hits / hits[-1], hits / (hits + alarms)
    kept = thin_positions(recall, precision)
    return _rows(score=score[kept], recall=recall[kept], precision=precision[kept])


def reliability_rows(probabilities: Values, labels: Values) -> list[dict[str, object]]:
    """Mean probability and share of roadwork of each filled bin of equal width.

    Takes probabilities [N] and labels [N].

    Raises:
        DataError: what `reliability_bins` refuses.
    """
    return [
        {
            "low": bin_.low,
            "high": bin_.high,
            "n": bin_.n,
            "mean_probability": bin_.probability,
            "share_of_roadwork": bin_.roadwork,
        }
        for bin_ in reliability_bins(probabilities, labels)
    ]


def curve_files(curves: Mapping[str, Rows]) -> dict[str, bytes]:
    """Return `curves/NAME.csv` for each curve with rows."""
    return {
        f"{CURVE_PREFIX}{name}.csv": csv_bytes(rows, columns=list(rows[0]))
        for name, rows in curves.items()
        if rows
    }


def read_curves(published: PublishedArtifact) -> dict[str, bytes]:
    """Return the verified files of the curves by name; none of an artifact that was made before they were."""
    names = [name for name in published.content if name.startswith(CURVE_PREFIX)]
    return {name: published.read_bytes(name) for name in names}


def curve_problems(recorded: Mapping[str, bytes], computed: Mapping[str, bytes]) -> list[str]:
    """Return which recorded curves come out otherwise when computed again; one sentence each."""
    return [
        f"{name} is another curve when computed again"
        for name in sorted(recorded.keys() & computed.keys())
        if not same_numbers(_cells(recorded[name]), _cells(computed[name]))
    ]


def thin(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return at most 1,000 points of a curve whose x [N] never falls; of few points all.

    Of each of 250 columns from the first x to the last, the first, last, lowest and highest point are kept.
    """
    kept = thin_positions(x, y)
    return (x, y) if kept.size == x.size else (x[kept], y[kept])


def thin_positions(x: Floats, y: Floats) -> npt.NDArray[np.intp]:
    """Return the positions of the points that `thin` keeps, rising."""
    if x.size <= 4 * _COLUMNS:
        return np.arange(x.size)
    column = np.minimum((x - x[0]) / max(x[-1] - x[0], 1e-300) * _COLUMNS, _COLUMNS - 1).astype(np.int64)
    first = np.flatnonzero(np.diff(column, prepend=-1))
    last = np.append(first[1:], x.size) - 1
    by_height = np.lexsort((y, column))
    return np.unique(np.concatenate([first, last, by_height[first], by_height[last]]))


def _rows(**columns: npt.NDArray[np.generic]) -> list[dict[str, object]]:
    parts = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in parts]


def _cells(data: bytes) -> list[list[float | str]]:
    return [[_cell(cell) for cell in row.values()] for row in read_csv(data)]


def _cell(cell: str) -> float | str:
    try:
        return float(cell)
    except ValueError:
        return cell
