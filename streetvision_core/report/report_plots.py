"""The plots of the final report: reliability, ranking, and the coverage of each policy.

Each function is pure and returns PNG bytes about 640 pixels wide (see `drawing`). Policies keep their look
throughout: the order of the mapping decides it. Curves are the exact ones of `ranking`, thinned for drawing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from streetvision_core.eval.curves import thin
from streetvision_core.eval.inputs import binary_vector
from streetvision_core.eval.intervals import rate_interval
from streetvision_core.eval.ranking import auroc, average_precision, precision_recall_curve, roc_curve
from streetvision_core.eval.reliability import BINS, expected_calibration_error, reliability_bins
from streetvision_core.report.drawing import (
    BLUE,
    MUTED,
    ORANGE,
    dress,
    legend,
    legend_below,
    look,
    new_figure,
    png,
    require_some,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import TypeAlias

    from matplotlib.axes import Axes

    from streetvision_core.eval.inputs import Values
    from streetvision_core.eval.intervals import Interval
    from streetvision_core.eval.metrics import Groups
    from streetvision_core.eval.ranking import RiskCoverageCurve
    from streetvision_core.eval.reliability import ReliabilityBin

    # Where a policy stands in a plot: its value on the x axis and on the y axis.
    Point: TypeAlias = tuple[float, float]

_LEAST_COVERAGE = 0.05


def plot_reliability(probabilities: Values, labels: Values, *, groups: Groups) -> bytes:
    """Share of roadwork against the mean probability of each bin of equal width, above the bins' sizes.

    Takes probabilities of roadwork [N], labels [N] and groups [N]. The bars are 95 % intervals over the
    groups in a bin. Labels of one class are drawn too: they say something about calibration.

    Raises:
        DataError: probabilities or labels that `reliability_bins` refuses.
    """
    bins = reliability_bins(probabilities, labels)
    figure = new_figure(height=4.8)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    _draw_shares(upper, bins, _bin_intervals(bins, probabilities, labels, groups))
    lower.bar(
        [bin_.low for bin_ in bins], [bin_.n for bin_ in bins], 1 / BINS, align="edge", color=BLUE, alpha=0.4
    )
    lower.set_yscale("symlog", linthresh=1)
    lower.set_ylim(0, 3 * max(bin_.n for bin_ in bins))
    lower.set_xlim(-0.02, 1.02)
    total = sum(bin_.n for bin_ in bins)
    title = (
        f"ECE {expected_calibration_error(bins):.3f} on {total:,} images, {len(bins)} of {BINS} bins filled"
    )
    dress(upper, title=title, y="share that is roadwork")
    dress(lower, x="probability of roadwork", y="images")
    lower.yaxis.set_major_formatter("{x:,.0f}")
    legend(upper, place="upper left")
    return png(figure)


def plot_roc(scores: Values, labels: Values, *, at: Mapping[str, Point]) -> bytes:
    """Recall against the false-positive rate of every threshold, with its corner enlarged beside it.

    Takes scores [N] on any scale, labels [N], and `at`: where each policy stands among the images that it
    answers, as (false-positive rate, recall), both in [0, 1], or NaN where it answers nothing. A policy that
    defers images can stand above the curve.

    Raises:
        DataError: what `roc_curve` refuses, one class only among it.
    """
    area = auroc(scores, labels)
    x, y = thin(*roc_curve(scores, labels))
    figure = new_figure(height=4.4)
    whole, corner = figure.subplots(1, 2)
    size = _corner(at.values())
    for axes in (whole, corner):
        axes.plot(x, y, color=MUTED, linewidth=2, zorder=2)
        _mark(axes, at, caption="FPR {:.1%}, recall {:.1%}")
    whole.plot((0, 1), (0, 1), color=MUTED, linewidth=1, linestyle=":")
    _unit_square(whole)
    corner.set_xlim(-size / 25, size)
    corner.set_ylim(1 - size, 1 + size / 25)
    dress(whole, title=f"ROC: AUROC {area:.4f}", x="false-positive rate", y="recall")
    dress(corner, title="its corner, enlarged", x="false-positive rate")
    legend_below(figure, whole)
    return png(figure)


def plot_precision_recall(scores: Values, labels: Values, *, at: Mapping[str, Point]) -> bytes:
    """Precision against the recall of every threshold, with the precision of calling everything roadwork.

    Takes scores [N] on any scale, labels [N], and `at`: where each policy stands among the images that it
    answers, as (recall, precision), both in [0, 1], or NaN where it answers nothing.

    Raises:
        DataError: what `precision_recall_curve` refuses, one class only among it.
    """
    area, share = average_precision(scores, labels), float(binary_vector(labels, name="labels").mean())
    recall, precision = precision_recall_curve(scores, labels)
    # Each precision holds back to the recall before it, and the first one to recall 0.
    x, y = thin(np.append(0, np.repeat(recall, 2)[:-1]), np.repeat(precision, 2))
    figure = new_figure(height=4.0)
    axes = figure.subplots()
    axes.plot(x, y, color=MUTED, linewidth=2, zorder=2)
    axes.axhline(share, color=MUTED, linewidth=1, linestyle=":", label=f"all roadwork: precision {share:.1%}")
    _mark(axes, at, caption="recall {:.1%}, precision {:.1%}")
    _unit_square(axes)
    dress(axes, title=f"Average precision {area:.4f}", x="recall", y="precision")
    legend(axes, place="lower left")
    return png(figure)


def plot_risk_coverages(curves: Mapping[str, RiskCoverageCurve], *, points: Mapping[str, Point]) -> bytes:
    """Selective risk against coverage for several confidences; the lower a curve, the better its confidence.

    `points` says where each policy stands, as (coverage, risk); the risk is NaN where it answers nothing,
    and the legend says so. The axis of risk leaves out what is higher below a coverage of 5 %, where one
    wrong image is a high risk. Images of one class are drawn like others.

    Raises:
        DataError: no curves.
    """
    require_some(curves)
    figure = new_figure(height=4.6)
    axes = figure.subplots()
    order = [*curves, *(name for name in points if name not in curves)]
    for name, curve in curves.items():
        series, (x, y) = look(order.index(name)), thin(curve.coverage, curve.selective_risk)
        line = {"color": series.colour, "linestyle": series.style, "linewidth": series.width}
        axes.plot(x, y, label=f"{name}: AUGRC {curve.augrc:.4f}", **line)
    _mark(axes, points, order=order, caption="answers {:.1%}, {:.2%} wrong")
    axes.set_xlim(-0.02, 1.02)
    highest = _highest_risk(curves, points)
    axes.set_ylim(-0.03 * highest, 1.1 * highest)
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.yaxis.set_major_formatter("{x:.1%}")
    dress(axes, title="Risk and coverage", x="coverage: share of the images answered", y="wrong among them")
    legend_below(figure, axes, columns=2)
    return png(figure)


def plot_certificates(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Risk and its upper bound against the accepted images, along each sequence of thresholds.

    Each row has `answers`, `accepted`, `wrong`, `upper_bound`, `alpha` and `certified`, as
    `scrc_fit.sequence_table` gives them.

    Raises:
        DataError: no rows.
    """
    require_some(rows)
    sequences = list(dict.fromkeys(row["answers"] for row in rows))
    figure = new_figure(height=3.8)
    for axes, name in zip(figure.subplots(1, len(sequences), squeeze=False)[0], sequences, strict=True):
        own = [row for row in rows if row["answers"] == name and row["accepted"]]
        accepted, bounds = [row["accepted"] for row in own], [row["upper_bound"] for row in own]
        axes.plot(accepted, bounds, color=BLUE, marker="o", markersize=4, label="upper bound")
        risks = [row["wrong"] / row["accepted"] for row in own]
        axes.plot(accepted, risks, color=MUTED, linestyle="--", label="wrong on val_calib")
        alpha = next(row["alpha"] for row in rows if row["answers"] == name)
        axes.axhline(alpha, color=ORANGE, linewidth=1, linestyle=":", label=f"promised: {alpha:.2%}")
        chosen = [row for row in own if row["certified"]]
        for row in chosen:
            axes.plot(row["accepted"], row["upper_bound"], "o", color=ORANGE, markersize=9, zorder=3)
        axes.set_ylim(0, 1.15 * max([alpha, *bounds]))
        axes.yaxis.set_major_formatter("{x:.1%}")
        verdict = f"{chosen[0]['accepted']:,} certified" if chosen else "nothing certified"
        dress(axes, title=f"Answered {name}: {verdict}", x="accepted units of val_calib", y="risk")
    legend_below(figure, axes, columns=3)
    return png(figure)


def _bin_intervals(
    bins: tuple[ReliabilityBin, ...], probabilities: Values, labels: Values, groups: Groups
) -> list[Interval]:
    p, truth = np.asarray(probabilities), binary_vector(labels, name="labels")
    unit, lows = np.unique(np.asarray(groups), return_inverse=True)[1], [bin_.low for bin_ in bins]
    # Bins are (low, high], and the first one holds 0 too.
    place = np.maximum(np.searchsorted(lows, p, side="left") - 1, 0)
    counts = [np.bincount(unit[place == number]) for number in range(len(bins))]
    roadwork = [np.bincount(unit[place == number], truth[place == number]) for number in range(len(bins))]
    return [rate_interval(*pair) for pair in zip(roadwork, counts, strict=True)]


def _draw_shares(axes: Axes, bins: tuple[ReliabilityBin, ...], intervals: Sequence[Interval]) -> None:
    shares = [bin_.roadwork for bin_ in bins]
    # Both ends hold the share, and in floats an end may lie a hair on its other side.
    below = [max(0.0, share - interval.low) for share, interval in zip(shares, intervals, strict=True)]
    above = [max(0.0, interval.high - share) for share, interval in zip(shares, intervals, strict=True)]
    means = [bin_.probability for bin_ in bins]
    axes.plot((0, 1), (0, 1), color=MUTED, linewidth=1, linestyle=":", label="as it should be")
    axes.errorbar(means, shares, yerr=(below, above), fmt="none", ecolor=BLUE, elinewidth=1.5, capsize=3)
    axes.plot(
        means,
        shares,
        "o-",
        color=BLUE,
        linewidth=1,
        markersize=5,
        label="bins, with 95 % intervals over groups",
    )
    axes.set_ylim(-0.03, 1.03)


def _mark(axes: Axes, at: Mapping[str, Point], *, caption: str, order: Sequence[str] = ()) -> None:
    """Mark where policies stand; the marks are hollow, so that those on one spot are all seen."""
    ranks = list(order or at)
    ring: dict[str, Any] = {
        "markerfacecolor": "none",
        "markeredgewidth": 2,
        "linestyle": "",
        "zorder": 3,
        "clip_on": False,
    }
    for name, (x, y) in at.items():
        series = look(ranks.index(name))
        words = caption.format(x, y) if math.isfinite(x + y) else "answers nothing"
        shape: dict[str, Any] = {"marker": series.marker, "markersize": series.size, "color": series.colour}
        axes.plot(x, y, label=f"{name}: {words}", **shape, **ring)


def _corner(points: Iterable[Point]) -> float:
    """Return how much of each axis the enlarged corner shows: all policies, in steps of 5 %."""
    farthest = max((max(x, 1 - y) for x, y in points if math.isfinite(x + y)), default=0.1)
    return min(1.0, max(1, math.ceil(farthest * 1.5 / 0.05)) * 0.05)


def _unit_square(axes: Axes) -> None:
    axes.set_xlim(-0.04, 1.04)
    axes.set_ylim(-0.04, 1.04)


def _highest_risk(curves: Mapping[str, RiskCoverageCurve], points: Mapping[str, Point]) -> float:
    """Return the highest risk that is worth showing; the axis ends above it."""
    drawn = [
        float(curve.selective_risk[curve.coverage >= _LEAST_COVERAGE].max()) for curve in curves.values()
    ]
    return max(0.01, *drawn, *(risk for _, risk in points.values() if math.isfinite(risk)))
