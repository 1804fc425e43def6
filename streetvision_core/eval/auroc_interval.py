"""An interval of AUROC over groups of images that belong together, in closed form.

Each image has a placement: the share of the other class that its score lies on the right side of, ties
counted half. AUROC is the mean placement of either class. Deviations are summed within a group before they
are squared, so images of one video count as what they are (Obuchowski); with a group for each image this is
DeLong's interval. The quantile is Student's, with one degree of freedom less than the groups of the rarer
class. One more image of each class, tied with all, is added before: perfect scores have a deviation too.

Sources: DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988), 837-845; Obuchowski, Biometrics 53 (1997),
567-578.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streetvision_core.errors import DataError
from streetvision_core.eval.folds import units_of_classes
from streetvision_core.eval.inputs import (
    binary_vector,
    finite_vector,
    require_both_classes,
    require_equal_length,
)
from streetvision_core.eval.intervals import LEVEL, Interval, require_level
from streetvision_core.eval.ranking import auroc

if TYPE_CHECKING:
    import numpy.typing as npt

    from streetvision_core.eval.inputs import Bools, Floats, Values


def auroc_interval(
    scores: Values, labels: Values, groups: npt.NDArray[np.intp], *, level: float = LEVEL
) -> Interval:
    """Two-sided interval of AUROC; it always holds the AUROC itself.

    Args:
        scores: Scores [N] on any scale.
        labels: Labels [N] of 0/1 or bool.
        groups: The number of each image's group, [N].
        level: What the interval aims to cover.

    Raises:
        DataError: shapes that do not fit, scores that are not finite, or a class in fewer than two groups.
        ConfigError: a level outside (0, 1).
    """
    from scipy.stats import t

    score, truth = finite_vector(scores, name="scores"), binary_vector(labels, name="labels")
    require_equal_length(scores=score, labels=truth, groups=groups)
    require_both_classes(truth, purpose="measure an AUROC")
    units = min(units_of_classes(truth, groups).values())
    if units < 2:
        raise DataError(
            "at least two groups of each class",
            f"{units}",
            "the interval of an AUROC",
            "Add images of other places.",
        )
    area = auroc(score, truth)
    centre, deviation = _padded(_placements(score, truth), truth, groups)
    half = float(t.ppf((1 + require_level(level)) / 2, units - 1)) * deviation
    return Interval(
        max(0.0, min(centre - half, area)), min(1.0, max(centre + half, area)), level, "obuchowski"
    )


def _placements(score: Floats, truth: Bools) -> Floats:
    """Return the share of the other class on the right side of each image, [N]."""
    from scipy.stats import rankdata

    everywhere, own = rankdata(score), np.empty(score.size)
    for members in (truth, ~truth):
        own[members] = rankdata(score[members])
    below: Floats = (everywhere - own) / np.where(truth, (~truth).sum(), truth.sum())
    below[~truth] = 1 - below[~truth]
    return below


def _padded(placements: Floats, truth: Bools, groups: npt.NDArray[np.intp]) -> tuple[float, float]:
    """Return mean and standard error of the AUROC with one more image of each class, tied with all."""
    sums = np.zeros(int(groups.max()) + 1)
    means, extra = [], 0.0
    for members in (truth, ~truth):
        count = int(members.sum()) + 1
        mean = (placements[members].sum() + 0.5) / count
        sums += np.bincount(groups[members], (placements[members] - mean) / count, minlength=sums.size)
        extra += ((0.5 - mean) / count) ** 2
        means.append(mean)
    units = np.unique(groups).size
    return float(np.mean(means)), float(np.sqrt((sums @ sums + extra) * units / max(1, units - 1)))
