"""The decision curve: what a classifier is worth to whoever would act on it, in roadwork detected.

Whoever acts above a probability t holds a missed roadwork for (1 - t) / t times as bad as a false alarm. The
net benefit of acting on n images is

    TP / n - FP / n * t / (1 - t),

in units of roadwork detected for each image. To act on everything and on nothing, with net benefit 0, are the
two answers that need no classifier; one is worth its use at those t where it is above both. Probabilities
that are not frequencies make a curve worse than the ranking deserves.

The net benefit is of the images at hand: it has no interval here, and changes with the share of roadwork.

Source: Vickers and Elkin, Medical Decision Making 26 (2006), 565-574.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streetvision_core.eval.inputs import binary_vector, probability_vector, require_equal_length

if TYPE_CHECKING:
    from streetvision_core.eval.inputs import Floats, Values

THRESHOLDS = tuple(number / 100 for number in range(1, 100))


def net_benefit(hits: Floats, alarms: Floats, thresholds: Floats) -> Floats:
    """Return the net benefit for shares of all images that are hits and false alarms, elementwise.

    Each of the thresholds is in (0, 1).
    """
    benefit: Floats = hits - alarms * thresholds / (1 - thresholds)
    return benefit


def decision_curve(probabilities: Values, labels: Values) -> list[dict[str, object]]:
    """Return a row for each of `THRESHOLDS`: the net benefit of acting above it, and that of acting always.

    Takes probabilities of roadwork [N], meant to be frequencies, and labels [N] of 0/1.

    Raises:
        DataError: shapes that do not fit, nothing, or no probabilities.
    """
    p = probability_vector(probabilities, name="probabilities")
    truth = binary_vector(labels, name="labels")
    require_equal_length(probabilities=p, labels=truth)
    thresholds = np.array(THRESHOLDS)
    hits, alarms = (_share_above(p[chosen], thresholds, of=p.size) for chosen in (truth, ~truth))
    share = float(truth.mean())
    always = net_benefit(np.full_like(thresholds, share), np.full_like(thresholds, 1 - share), thresholds)
    columns = (thresholds, net_benefit(hits, alarms, thresholds), always)
    names = ("threshold", "net_benefit", "act_always")
    return [
        dict(zip(names, row, strict=True))
        for row in zip(*(column.tolist() for column in columns), strict=True)
    ]


def _share_above(p: Floats, thresholds: Floats, *, of: int) -> Floats:
    above: Floats = (p.size - np.searchsorted(np.sort(p), thresholds, side="right")) / of
    return above
