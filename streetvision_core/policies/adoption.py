"""The tuned threshold in a threshold policy beside 0.5: which of them decides, and what speaks for it.

The best threshold on val_calib is adopted only where it proves better than 0.5 on images that did not
choose it (`eval.use.adoption`); else 0.5 decides. That is so for objectives that are a score to be improved.
A recall that is asked for is no such thing: 0.5 does not keep it, so its threshold is taken as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Self

import numpy as np
from pydantic import Field, FiniteFloat, model_validator

from streetvision_core.eval.folds import TooThinError
from streetvision_core.eval.optimism import choice_of, choose_margin
from streetvision_core.eval.thresholds import ordered_margins, scan_margins
from streetvision_core.eval.use.adoption import cross_fitted_gain
from streetvision_core.eval.use.recall import roadwork_units
from streetvision_core.io.records import Record

if TYPE_CHECKING:
    from streetvision_core.eval.decisions import LabelledLogits
    from streetvision_core.eval.inputs import Bools
    from streetvision_core.eval.optimism import ChosenMargin
    from streetvision_core.eval.thresholds import ThresholdChoice
    from streetvision_core.policies.config import RecordedThresholds


class CrossFitted(Record):
    """The gain over 0.5 of thresholds chosen on the other folds, and its interval over groups at `level`."""

    gain: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat
    level: Annotated[FiniteFloat, Field(gt=0, lt=1)]
    folds: Annotated[int, Field(ge=2)]


class Adoption(Record):
    """The tuned threshold, as a probability and a margin, and whether it decides; else 0.5 does.

    `score` and `score_at_default` are the objective's on val_calib, at the tuned threshold and at 0.5;
    `optimism` is that of the tuned one. `cross_fitted` is what decides between them, and `too_thin` says why
    there is none.
    """

    adopted: bool
    threshold: Annotated[FiniteFloat, Field(gt=0, lt=1)]
    margin: FiniteFloat
    score: FiniteFloat
    optimism: FiniteFloat
    score_at_default: FiniteFloat
    cross_fitted: CrossFitted | None
    too_thin: str | None

    @model_validator(mode="after")
    def _follows_from_its_interval(self) -> Self:
        if (self.cross_fitted is None) == (self.too_thin is None):
            raise ValueError("there is either a cross-fitted gain or a reason why there is none")
        if self.adopted != (self.cross_fitted is not None and self.cross_fitted.low > 0):
            raise ValueError(f"adopted: {self.adopted} does not follow from {self.cross_fitted}")
        return self

    def words(self, *, objective: str, images: int) -> str:
        """Say which threshold decides and why.

        Args:
            objective: The objective, in words.
            images: The number of images of val_calib.
        """
        best = f"the best by {objective} on {images} calibration images, {self.threshold:.4g}"
        if self.cross_fitted is None:
            return f"The threshold is 0.5; {best}, could not be held against it: {self.too_thin}"
        estimate = self.cross_fitted
        gain = (
            f"on images that did not choose it, its gain over 0.5 is {estimate.gain:+.3f}"
            f" ({100 * estimate.level:g}% interval over groups {estimate.low:+.3f} to {estimate.high:+.3f})"
        )
        if self.adopted:
            return f"The threshold is {best}: {gain}"
        return f"The threshold is 0.5; {best}, is not proven better: {gain}"


def choose_threshold(calib: LabelledLogits, config: RecordedThresholds) -> ChosenMargin:
    """Choose the threshold on the margins of val_calib.

    A promised recall is counted over one roadwork image of each group, drawn by the seed; images without
    roadwork are all kept.

    Raises:
        DataError: logits that are not finite, or labels of one class only.
    """
    truth = np.asarray(calib.labels) == 1
    counted = np.arange(truth.size)
    if config.promised:
        counted = np.union1d(np.flatnonzero(~truth), roadwork_units(truth, calib.groups, seed=config.seed))
    return choose_margin(
        calib.logits[counted],
        calib.labels[counted],
        objective=config.objective.chosen(),
        at=config.at,
        resamples=config.resamples,
        seed=config.seed,
        groups=[calib.groups[image] for image in counted.tolist()],
    )


def hold_against_default(
    calib: LabelledLogits, tuned: ChosenMargin, *, threshold: float, config: RecordedThresholds
) -> Adoption:
    """Cross-fit the way the tuned threshold was chosen, and decide.

    Args:
        calib: Logits of val_calib.
        tuned: What was chosen on all of it.
        threshold: The same as a probability after the temperature.
        config: How it was chosen.
    """
    cross_fitted, too_thin = None, None
    try:
        gain = cross_fitted_gain(
            calib.logits,
            calib.labels,
            calib.groups,
            objective=config.objective.chosen(),
            choose=lambda fitting: _margin(calib, fitting, config),
            seed=config.seed,
        )
        ends = gain.interval
        cross_fitted = CrossFitted(
            gain=gain.difference, low=ends.low, high=ends.high, level=ends.level, folds=gain.folds
        )
    except TooThinError as error:
        too_thin = f"it takes {error.expected}, and there are {error.found}"
    return Adoption(
        adopted=cross_fitted is not None and cross_fitted.low > 0,
        threshold=threshold,
        margin=tuned.choice.threshold,
        score=tuned.choice.score,
        optimism=tuned.optimism,
        score_at_default=at_default(calib, config).score,
        cross_fitted=cross_fitted,
        too_thin=too_thin,
    )


def at_default(calib: LabelledLogits, config: RecordedThresholds) -> ThresholdChoice:
    """Return what 0.5 reaches on val_calib: a probability that is a margin of 0, whatever the temperature."""
    order = ordered_margins(calib.logits, calib.labels)
    return choice_of(order, 0.0, objective=config.objective.chosen())


def _margin(calib: LabelledLogits, fitting: Bools, config: RecordedThresholds) -> float:
    """Choose the threshold on the images with these flags, as it is chosen on all of them."""
    logits, labels, objective = calib.logits[fitting], calib.labels[fitting], config.objective.chosen()
    if config.at == "midpoint":
        return scan_margins(logits, labels, objective=objective).threshold
    chosen = choose_margin(
        logits,
        labels,
        objective=objective,
        at=config.at,
        resamples=config.resamples,
        seed=config.seed,
        groups=[calib.groups[image] for image in np.flatnonzero(fitting).tolist()],
    )
    return chosen.choice.threshold
