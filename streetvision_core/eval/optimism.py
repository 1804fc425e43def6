"""The threshold that is used, and by how much its score flatters it: both from one bootstrap.

Images, or whole groups where images come in groups, are drawn again with replacement, and the exact
scan chooses a threshold on each resample. That takes one sort for all resamples; a resample is weights on
the steps of `thresholds`, so B of them cost O(B n), in slices of bounded memory.

`at` says which threshold is used: `midpoint`, the middle of the best plateau of the images themselves,
or `bootstrap_median`, the median of the middles that the resamples chose, which varies less from one set
of images to another.

Optimism is the mean, over resamples, of the score that a threshold has on the resample which chose it
minus the score that the same threshold has on all images (B. Efron, JASA 78 (1983), 316-331). It
estimates by how much the score of a chosen threshold exceeds its true score, whichever of the two places
it is. It tends to be too small for MCC: in simulation (prevalence 0.1, 200 and 2,000 images) it was 0.77
and 0.63 of the truth for the midpoint, 1.02 and 0.73 of it for the median.

A resample without both classes is left out. The same seed gives the same numbers with the same NumPy;
NumPy promises no more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streetvision_core.errors import DataError
from streetvision_core.eval.inputs import require_equal_length
from streetvision_core.eval.thresholds import (
    MCC,
    ThresholdChoice,
    choice_at,
    count_steps,
    middles,
    ordered_margins,
    scan,
    step_of,
    widest_plateaus,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from streetvision_core.eval.inputs import Floats, Values
    from streetvision_core.eval.objectives import Objective
    from streetvision_core.eval.thresholds import Order

# Cells of a slice of resamples, so that a slice stays in a processor's cache.
_CELLS = 1 << 16


@dataclass(frozen=True)
class Resamples:
    """Thresholds [B] that resamples chose, their scores [B] there, and their scores [B] on all images."""

    thresholds: Floats
    scores: Floats
    scores_on_all: Floats

    @property
    def optimism(self) -> float:
        """Mean of what a threshold's score loses from its resample to all images."""
        return float(np.mean(self.scores - self.scores_on_all))


@dataclass(frozen=True)
class ChosenMargin:
    """The threshold that is used, on the margins, and the estimated optimism of its score.

    `choice.score - optimism` estimates the score on images that did not choose the threshold.
    `resamples` counts those that held both classes.
    """

    choice: ThresholdChoice
    optimism: float
    resamples: int


def choose_margin(
    logits: Values,
    labels: Values,
    *,
    objective: Objective = MCC,
    at: str = "midpoint",
    resamples: int = 200,
    seed: int = 0,
    groups: Sequence[str] | None = None,
) -> ChosenMargin:
    """Choose the threshold on the margins of logits [N, 2] or [N] for labels [N], and rate its optimism.

    Args:
        logits: Logits of the images that choose.
        labels: Their labels, 0 or 1.
        objective: What the threshold is best at.
        at: `midpoint` or `bootstrap_median`.
        resamples: How many resamples are drawn.
        seed: Seed of the draws.
        groups: The group of each image, [N]; groups are drawn whole. None: every image by itself.

    Raises:
        DataError: as `scan_margins`, or groups of another length, or resamples of one class only.
    """
    order = ordered_margins(logits, labels)
    drawn = resample_thresholds(order, objective=objective, resamples=resamples, seed=seed, groups=groups)
    if at == "midpoint":
        choice = scan(order, objective=objective)
    else:
        choice = choice_of(order, float(np.median(drawn.thresholds)), objective=objective)
    return ChosenMargin(choice=choice, optimism=drawn.optimism, resamples=drawn.thresholds.size)


def choice_of(order: Order, threshold: float, *, objective: Objective) -> ThresholdChoice:
    """Return what any threshold reaches, best or not; its plateau is the step that it lies in."""
    # Below every edge all images are roadwork, as in the first step.
    index = max(0, int(step_of(order, threshold)))
    return choice_at(
        count_steps(order),
        index,
        threshold=threshold,
        plateau=(min(threshold, float(order.edges[index])), max(threshold, float(order.highs[index]))),
        objective=objective,
    )


def resample_thresholds(
    order: Order, *, objective: Objective, resamples: int, seed: int, groups: Sequence[str] | None = None
) -> Resamples:
    """Choose a threshold on each resample of ordered images.

    Raises:
        DataError: groups of another length, or no resample with both classes.
    """
    score_on_all = objective.score(**count_steps(order).counts())
    parts = [
        _scan_resamples(order, weights, score_on_all, objective=objective)
        for weights in _draw_weights(order, resamples=resamples, seed=seed, groups=groups)
    ]
    thresholds, scores, scores_on_all = (np.concatenate(column) for column in zip(*parts, strict=True))
    if not thresholds.size:
        raise DataError(
            "resamples that hold both classes",
            f"none in {resamples}",
            "the bootstrap of the threshold",
            "Use more images or groups of the rarer class, or draw more resamples.",
        )
    return Resamples(thresholds, scores, scores_on_all)


def _draw_weights(
    order: Order, *, resamples: int, seed: int, groups: Sequence[str] | None
) -> Iterator[npt.NDArray[np.integer]]:
    """Yield how often each image was drawn, [R, N] in the order of `order`, a slice at a time."""
    random = np.random.default_rng(seed)
    images = order.labels.size
    group = np.arange(images) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    require_equal_length(images=order.order, groups=group)
    units = int(group.max()) + 1
    rows = max(1, _CELLS // images)
    for begin in range(0, resamples, rows):
        count = min(rows, resamples - begin)
        drawn = random.integers(0, units, (count, units)) + units * np.arange(count)[:, None]
        times = np.bincount(drawn.ravel(), minlength=count * units).reshape(count, units)
        # Where no group binds them, images are alike before they are drawn, in whatever order.
        yield times if groups is None else times[:, group[order.order]]


def _scan_resamples(
    order: Order, weights: npt.NDArray[np.integer], score_on_all: Floats, *, objective: Objective
) -> tuple[Floats, Floats, Floats]:
    """Scan each row of weights [R, N]: thresholds, their scores there, and their scores on all images."""
    counts = count_steps(order, weights)
    both = (counts.positives[:, 0] > 0) & (counts.negatives[:, 0] > 0)
    counts = counts.rows(both)
    preference = objective.preference(**counts.counts())
    first, last = widest_plateaus(preference, lows=order.edges, highs=order.highs)
    thresholds = middles(order.edges[first], order.highs[last])
    at = step_of(order, thresholds)
    scores = objective.score(**counts.of_each_row(at).counts())
    return thresholds, scores, score_on_all[at]
