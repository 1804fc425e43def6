"""Figures of how well a score orders images: roadwork before none, and right answers before wrong ones.

Everything comes from one sort by falling score and two cumulative counts, in O(n log n). Equal scores are
one step: no threshold can part them, so there is one point a distinct score, and no figure depends on the
order in which equal images are listed. For AUROC and average precision this is scikit-learn's convention.

For the risk-coverage figures, where a score is a confidence and an image may be wrong:

- A point of the curve is what a threshold gives: coverage, the share of images accepted; selective risk,
  the share of wrong ones among the accepted. Nothing is accepted at coverage 0, so there is no point there.
- Between two points, equally confident images are taken to come in random order: the expected number of
  errors rises on a straight line. Every area is the mean over all those orders, so rounding a confidence
  cannot improve it.
- AURC is the mean selective risk over the coverages 1/n, 2/n, ..., 1 (Geifman and El-Yaniv's sum).
- E-AURC is AURC minus that of the best order of the same answers, every right one before every wrong one.
- AUGRC is the area under P(wrong and accepted) over coverage, from (0, 0) by straight lines. It equals
  (1 - AUROC_f) acc (1 - acc) + (1 - acc)^2 / 2 exactly, where AUROC_f is the AUROC of confidence for "the
  answer is right"; of the best order it is (1 - acc)^2 / 2.

Sources: Geifman and El-Yaniv, Selective Classification (arXiv 1705.08500); Geifman, Uziel and El-Yaniv,
Bias-Reduced Uncertainty Estimation (1805.08206, E-AURC); Traub et al., Overcoming Common Flaws in the
Evaluation of Selective Classification Systems (2407.01032, AUGRC).
"""

from __future__ import annotations

from dataclasses import dataclass
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
from streetvision_core.eval.intervals import LEVEL, Interval, student_quantile

if TYPE_CHECKING:
    import numpy.typing as npt

    from streetvision_core.eval.inputs import Bools, Floats, Values


@dataclass(frozen=True, eq=False)
class RiskCoverageCurve:
    """One point a distinct confidence, strict to loose; the last one accepts everything.

    Accepted is every image with a confidence of at least `thresholds` [K]; `accepted` and `errors` [K]
    count them and the wrong ones among them.
    """

    thresholds: Floats
    accepted: npt.NDArray[np.int64]
    errors: npt.NDArray[np.int64]

    @property
    def coverage(self) -> Floats:
        """Share of all images that is accepted, rising to 1, [K]."""
        return self.accepted / int(self.accepted[-1])

    @property
    def selective_risk(self) -> Floats:
        """Share of wrong ones among the accepted, [K]."""
        return self.errors / self.accepted

    @property
    def generalized_risk(self) -> Floats:
        """Share of all images that is accepted and wrong, [K]."""
        return self.errors / int(self.accepted[-1])

    @property
    def aurc(self) -> float:
        """Mean selective risk over the coverages 1/n, ..., 1, in [0, 1]."""
        ranks = np.arange(1, self.accepted[-1] + 1)
        expected = np.interp(ranks, np.append(0, self.accepted), np.append(0, self.errors))
        return float(np.mean(expected / ranks))

    @property
    def e_aurc(self) -> float:
        """AURC above that of the best order of the same answers."""
        total, wrong = int(self.accepted[-1]), int(self.errors[-1])
        best = np.arange(1, wrong + 1) / np.arange(total - wrong + 1, total + 1)
        return self.aurc - float(best.sum()) / total

    @property
    def augrc(self) -> float:
        """Area under the generalized risk over coverage, in [0, 1/2]."""
        return float(np.trapezoid(np.append(0.0, self.generalized_risk), np.append(0.0, self.coverage)))


def risk_coverage_curve(confidence: Values, wrong: Values) -> RiskCoverageCurve:
    """Return the number of accepted answers, and of wrong ones among them, at each threshold on confidence.

    Args:
        confidence: How sure each answer is, [N], finite, on any scale.
        wrong: Whether it is wrong, [N] of 0/1 or bool.

    Raises:
        DataError: shapes that do not fit, nothing, or a confidence that is not finite.
    """
    thresholds, errors, right = falling_steps(confidence, wrong, scores="confidence", flags="wrong")
    return RiskCoverageCurve(thresholds, errors + right, errors)


def auroc(scores: Values, labels: Values) -> float:
    """P(an image of roadwork has a larger score than one of none), ties counted half.

    Takes scores [N] on any scale (margins, which do not saturate, rather than probabilities) and labels
    [N] of 0/1 or bool.

    Raises:
        DataError: shapes that do not fit, nothing, scores that are not finite, or one class only.
    """
    false_alarms, recalls = roc_curve(scores, labels)
    return float(np.trapezoid(recalls, false_alarms))


def average_precision(scores: Values, labels: Values) -> float:
    """Precision at each threshold, averaged over the recall that the threshold adds.

    Takes scores [N] on any scale and labels [N] of 0/1 or bool.

    Raises:
        DataError: shapes that do not fit, nothing, scores that are not finite, or one class only.
    """
    recall, precision = precision_recall_curve(scores, labels)
    return float(np.sum(np.diff(recall, prepend=0) * precision))


def roc_curve(scores: Values, labels: Values) -> tuple[Floats, Floats]:
    """Return the false-positive rate and the recall at each threshold, from (0, 0) to (1, 1), both [K + 1].

    Takes scores [N] on any scale, with K distinct values, and labels [N] of 0/1 or bool. AUROC is the area
    below straight lines through these points.

    Raises:
        DataError: shapes that do not fit, nothing, scores that are not finite, or one class only.
    """
    _, hits, alarms = class_steps(scores, labels)
    return np.append(0, alarms) / alarms[-1], np.append(0, hits) / hits[-1]


def precision_recall_curve(scores: Values, labels: Values) -> tuple[Floats, Floats]:
    """Return recall and precision at each threshold, recall rising to 1, both [K].

    Takes scores [N] on any scale, with K distinct values, and labels [N] of 0/1 or bool. No point is made up
    at recall 0. Average precision is the area below steps: each precision holds back to the recall before.

    Raises:
        DataError: shapes that do not fit, nothing, scores that are not finite, or one class only.
    """
    _, hits, alarms = class_steps(scores, labels)
    return hits / hits[-1], hits / (hits + alarms)


RISING_STEPS, SHUFFLES = 20, 199


def rising_p_value(confidence: Values, wrong: Values, *, seed: int = 0) -> float:
    """Return the p-value against errors [N] that do not rise with confidence [N]; 1 where nothing can tell.

    It is exact for independent images: how much of the variance the best rising line through the error shares
    of `RISING_STEPS` steps of confidence explains, against `SHUFFLES` shuffles of the errors.

    Source: Barlow, Bartholomew, Bremner and Brunk, Statistical Inference under Order Restrictions (1972).
    """
    sure, mistaken = np.asarray(confidence, dtype=np.float64), np.asarray(wrong, dtype=bool)
    if not mistaken.any() or mistaken.all():
        return 1.0
    edges = np.unique(np.quantile(sure, np.linspace(0, 1, RISING_STEPS + 1)[1:-1]))
    step = np.unique(np.searchsorted(edges, sure, side="right"), return_inverse=True)[1]
    sizes = np.bincount(step)
    errors = np.bincount(step[mistaken], minlength=sizes.size)
    shuffled = np.random.default_rng(seed).multivariate_hypergeometric(sizes, errors.sum(), size=SHUFFLES)
    explained = _explained_by_rising(np.vstack([errors, shuffled]), sizes)
    return float(np.mean(explained >= explained[0] - 1e-9))


def _explained_by_rising(errors: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]) -> Floats:
    """Return what the rising line of least squares explains of each row of error counts [R, S], [R].

    At step i it is the maximum over j <= i of the minimum over k >= i of the mean of steps j to k.
    """
    upto, counted = (
        np.pad(values.cumsum(axis=-1), (*[(0, 0)] * (values.ndim - 1), (1, 0))) for values in (errors, sizes)
    )
    before = np.arange(sizes.size)[:, None] > np.arange(sizes.size)
    lengths = np.where(before, 1, counted[None, 1:] - counted[:-1, None])
    means = np.where(before, np.inf, (upto[:, None, 1:] - upto[:, :-1, None]) / lengths)
    least = np.minimum.accumulate(means[..., ::-1], axis=-1)[..., ::-1]
    fitted = np.where(before, -np.inf, least).max(axis=1)
    explained: Floats = ((fitted - errors[0].sum() / sizes.sum()) ** 2) @ sizes
    return explained


def class_steps(
    scores: Values, labels: Values
) -> tuple[Floats, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return `falling_steps` of scores [N] and labels [N] of both classes: scores, hits and false alarms.

    Raises:
        DataError: what `falling_steps` refuses, or one class only.
    """
    require_both_classes(binary_vector(labels, name="labels"), purpose="measure how scores rank them")
    return falling_steps(scores, labels, scores="scores", flags="labels")


def falling_steps(
    values: Values, flagged: Values, *, scores: str, flags: str
) -> tuple[Floats, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Distinct scores, falling, and how many with and without the flag have at least each of them, all [K].

    `scores` and `flags` name the two in errors.

    Raises:
        DataError: shapes that do not fit, nothing, or scores that are not finite.
    """
    score, flag = finite_vector(values, name=scores), binary_vector(flagged, name=flags)
    require_equal_length(**{scores: score, flags: flag})
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], [True]))
    with_flag = np.cumsum(flag[order], dtype=np.int64)[last]
    return ranked[last], with_flag, last + 1 - with_flag


def auroc_interval(
    scores: Values, labels: Values, groups: npt.NDArray[np.intp], *, level: float = LEVEL
) -> Interval:
    """Two-sided interval of AUROC over groups of images that belong together; it holds the AUROC itself.

    Each image has a placement: the share of the other class that its score lies on the right side of, ties
    counted half. AUROC is the mean placement of either class. Deviations are summed within a group before
    they are squared, so images of one video count as what they are (Obuchowski, Biometrics 53 (1997),
    567-578); with a group for each image this is DeLong's interval (Biometrics 44 (1988), 837-845). The
    quantile is Student's, with one degree of freedom less than the groups of the rarer class. One more image
    of each class, tied with all, is added before: perfect scores have a deviation too.

    Args:
        scores: Scores [N] on any scale.
        labels: Labels [N] of 0/1 or bool.
        groups: The number of each image's group, [N].
        level: What the interval aims to cover.

    Raises:
        DataError: shapes that do not fit, scores that are not finite, or a class in fewer than two groups.
    """
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
    half = student_quantile(units, level) * deviation
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
