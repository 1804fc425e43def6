"""The plots a person looks at first: PNG bytes about 640 pixels wide, from numbers alone.

Every function is pure, and the same numbers give the same bytes (see `drawing`). Roadwork is orange and None
is blue throughout. What only the final report draws is in `report_plots`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from streetvision_core.errors import DataError
from streetvision_core.eval.inputs import binary_vector, probability_vector
from streetvision_core.eval.metrics import count_confusion
from streetvision_core.eval.thresholds import mcc_curve
from streetvision_core.report.drawing import (
    BLUE,
    INK,
    MUTED,
    ORANGE,
    dress,
    legend,
    legend_below,
    new_figure,
    png,
    require_some,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

    from streetvision_core.eval.inputs import Bools, Floats, Values
    from streetvision_core.eval.selective import SweepRow

LABEL_NAMES = ("None", "Roadwork")


def plot_training_curve(rows: Sequence[Mapping[str, float]]) -> bytes:
    """Loss and MCC on val_select by epoch, the epoch with the best MCC marked (the first of equals).

    Each row has `epoch` and `val_mcc`; `train_loss` and `val_loss` are drawn where every row has them.

    Raises:
        DataError: no rows, or a row without `epoch` or `val_mcc`.
    """
    _require_columns(rows, ("epoch", "val_mcc"))
    figure = new_figure(height=3.4)
    left, right = figure.subplots(1, 2)
    epochs, mcc = [row["epoch"] for row in rows], [row["val_mcc"] for row in rows]
    best = int(np.argmax(mcc))
    for key, name, style in (("train_loss", "train", "--"), ("val_loss", "validation", "-")):
        if all(key in row for row in rows):
            colour = MUTED if key == "train_loss" else BLUE
            left.plot(epochs, [row[key] for row in rows], style, color=colour, label=name, **_line(rows))
    right.plot(epochs, mcc, color=BLUE, **_line(rows))
    right.plot(epochs[best], mcc[best], "o", color=ORANGE, markersize=8, zorder=3)
    dress(left, title="Loss", x="epoch")
    dress(right, title=f"Best val MCC {mcc[best]:.3f}, epoch {epochs[best]:g}", x="epoch")
    for axes in (left, right):
        axes.axvline(epochs[best], color=ORANGE, linewidth=1, linestyle=":", zorder=1)
        axes.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
        axes.locator_params(axis="x", integer=True, nbins=8, min_n_ticks=1)
    legend(left, place="upper right")
    return png(figure)


def plot_mcc_curve(probabilities: Values, labels: Values, threshold: float) -> bytes:
    """MCC against threshold with the operating point, above the probabilities of the two classes.

    Raises:
        DataError: probabilities or labels that `mcc_curve` refuses.
    """
    scores = probability_vector(probabilities, name="probabilities")
    truth = binary_vector(labels, name="labels")
    thresholds, mcc = mcc_curve(scores, truth)
    reached = count_confusion(truth, scores > threshold).mcc
    figure = new_figure(height=4.4)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2.2, 1))
    upper.plot(thresholds, mcc, color=BLUE, linewidth=2, drawstyle="steps-post")
    upper.plot(threshold, reached, "o", color=ORANGE, markersize=8, zorder=3)
    upper.set_xlim(-0.01, 1.01)
    _histogram(lower, scores, truth)
    for axes in (upper, lower):
        axes.axvline(threshold, color=ORANGE, linewidth=1, linestyle=":", zorder=1)
    dress(upper, title=f"MCC {reached:.3f} at threshold {threshold:.4g}", y="MCC")
    dress(lower, x="probability of roadwork", y="images")
    legend(lower, place="upper center", columns=2)
    return png(figure)


def plot_confusion_matrix(metrics: Mapping[str, float]) -> bytes:
    """Draw the four counts, each with its share of its label's images and shaded by that share."""
    counts = np.array([[metrics["tn"], metrics["fp"]], [metrics["fn"], metrics["tp"]]])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = new_figure(height=4.0)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.25, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        look: dict[str, Any] = {"color": "white" if share > 0.6 else INK, "ha": "center", "va": "center"}
        axes.text(column, row - 0.07, f"{counts[row, column]:,}", size=21, **look)
        axes.text(column, row + 0.18, f"{share:.1%} of {LABEL_NAMES[row]}", size=10, **look)
    axes.set_xticks((0, 1), LABEL_NAMES)
    axes.set_yticks((0, 1), LABEL_NAMES)
    reached = f"MCC {metrics['mcc']:.3f}, accuracy {metrics['accuracy']:.1%} on {counts.sum():,} images"
    title = reached if counts.any() else "No image was answered"
    dress(axes, title=title, x="decision", y="label", grid=False)
    axes.axhline(0.5, color="white", linewidth=3)
    axes.axvline(0.5, color="white", linewidth=3)
    for side in axes.spines.values():
        side.set_visible(False)
    return png(figure)


def plot_risk_coverage(rows: Sequence[SweepRow]) -> bytes:
    """Selective risk against the coverage reached; the lower the curve, the better the confidence.

    Raises:
        DataError: no rows.
    """
    require_some(rows)
    figure = new_figure(height=3.6)
    axes = figure.subplots()
    ordered = sorted(rows, key=lambda row: row.coverage)
    coverage, risk = [row.coverage for row in ordered], [row.selective_risk for row in ordered]
    axes.fill_between(coverage, risk, color=BLUE, alpha=0.12, linewidth=0)
    axes.plot(coverage, risk, color=BLUE, **_line(rows))
    axes.set_xlim(0, 1)
    axes.set_ylim(0, max(*risk, 0.01) * 1.15)
    title = (
        f"Selective risk {risk[-1]:.1%} at coverage {coverage[-1]:.0%}, {risk[0]:.1%} at {coverage[0]:.0%}"
    )
    dress(axes, title=title, x="coverage: share of the images answered", y="wrong among them")
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.yaxis.set_major_formatter("{x:.1%}")
    return png(figure)


def plot_set_sizes(sizes: Sequence[Mapping[str, float]], repeats: Sequence[Mapping[str, float]]) -> bytes:
    """Out-of-fold MCC with its interval by the images trained on, and the MCC of every repeat.

    Each row of a size has `images`, `mcc`, `low` and `high`, the row with all images last; each repeat has
    `mcc`.

    Raises:
        DataError: no sizes.
    """
    require_some(sizes)
    figure = new_figure(height=3.6)
    axes = figure.subplots()
    images, mcc = [row["images"] for row in sizes], [row["mcc"] for row in sizes]
    ends = [[row["mcc"] - row["low"] for row in sizes], [row["high"] - row["mcc"] for row in sizes]]
    axes.errorbar(images, mcc, yerr=ends, color=BLUE, linewidth=2, elinewidth=1.5, marker="o", capsize=3)
    axes.plot(
        [images[-1]] * len(repeats), [row["mcc"] for row in repeats], "o", color=ORANGE, markersize=4,
        zorder=3, label="each draw of the folds",
    )  # fmt: skip
    axes.set_xlim(0, 1.1 * images[-1])
    dress(axes, title="Out-of-fold MCC, 95 % intervals over groups", x="images trained on", y="MCC")
    legend_below(figure, axes)
    return png(figure)


def _histogram(axes: Axes, scores: Floats, labels: Bools) -> None:
    for label, name in enumerate(LABEL_NAMES):
        chosen = scores[labels == label]
        colour = ORANGE if label else BLUE
        axes.hist(chosen, bins=40, range=(0, 1), color=colour, alpha=0.25)
        axes.hist(chosen, bins=40, range=(0, 1), color=colour, histtype="step", linewidth=1.5, label=name)
    # Most images lie at 0 and 1, and the few between are the ones worth seeing.
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(0, 15 * axes.get_ylim()[1])
    axes.yaxis.set_major_formatter("{x:,.0f}")


def _line(rows: Sequence[object]) -> dict[str, Any]:
    # Single epochs and coverages are worth a dot while there are few; later the dots hide the line.
    return {"linewidth": 2, "marker": "o" if len(rows) <= 20 else "", "markersize": 4}


def _require_columns(rows: Sequence[Mapping[str, float]], names: Sequence[str]) -> None:
    require_some(rows)
    for position, row in enumerate(rows):
        missing = [name for name in names if name not in row]
        if missing:
            raise DataError(
                f"the columns {', '.join(names)}",
                f"no {' and no '.join(missing)}",
                f"row {position} of {len(rows)}",
                "Pass one row an epoch with these names.",
            )
