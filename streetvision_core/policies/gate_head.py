"""The learned half of the gate: how likely an answer is wrong, by what the logits do not hold.

Two inputs, each standardised, and a logistic regression: small enough to be read as JSON.

- margin: the distance of the logits from the operating point, after the temperature;
- distance: of the network's features from the training images of the nearer class, in standard deviations:
  sqrt(mean over the D features of ((feature - mean of the class) / deviation within the classes)^2). A
  feature that does not vary within the classes is left out.

Both come out of the one pass that gives the logits. Older versions also learned from how far the margin
moves when the image is mirrored, from sharpness and from brightness (`inference.extras`). Their heads are
still read and still decide.

Nothing of torch is known here; `inference.predict` takes the measurements.

The gate judged on images that had no part in it: cross-fitted errors and confidences.

Groups are dealt to folds, and none is split. For each fold

1. the decision threshold is fitted on the other folds, and answers the images of this one: their answers
   and errors are out-of-fold;
2. a head learns on the other folds from errors that are out-of-fold as well: those of fold j by a threshold
   that saw neither j nor this fold;
3. the head states its confidence in the answers of step 1.

So every image has a margin, an error and a confidence by fits that did not see its group, and the two
confidences are judged on the same errors. The head that is shipped learns from the errors of step 1, of all
folds. A temperature scales all margins alike and is standardised away, so one for all is no leak.

The heads of step 2 see fewer errors than the shipped one, which can only speak against the gate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from pydantic import FiniteFloat, model_validator

from streetvision_core.errors import DataError
from streetvision_core.eval.folds import TooThinError, deal_folds, out_of_fold
from streetvision_core.eval.inputs import binary_vector, finite_vector, require_both_classes
from streetvision_core.eval.thresholds import scan_margins
from streetvision_core.io.records import Record

if TYPE_CHECKING:
    import numpy.typing as npt

    from streetvision_core.eval.decisions import Extras
    from streetvision_core.eval.folds import Folds
    from streetvision_core.eval.inputs import Bools, Floats

INPUTS = ("margin", "distance")
# Those of a head that an older version wrote.
FIRST_INPUTS = (*INPUTS, "log_disagreement", "sharpness", "brightness")
# What each input but the margin is made of.
_EXTRAS = {"distance": "features", "log_disagreement": "disagreement"}
_ROWS_AT_ONCE = 4096
_Numbers = tuple[FiniteFloat, ...]


class FeatureReference(Record):
    """The place of the training images' features: a mean for each class and one deviation, [D] each.

    The deviation is that within the classes, and 0 for a feature that does not vary.
    """

    none: _Numbers
    roadwork: _Numbers
    deviation: _Numbers

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        if not len(self.none) == len(self.roadwork) == len(self.deviation) > 0 <= min(self.deviation):
            raise ValueError("two means and a deviation of at least 0 for each feature are needed")
        return self

    @classmethod
    def of(cls, features: npt.NDArray[Any], labels: npt.NDArray[Any]) -> Self:
        """Describe the features [M, D] of training images with labels [M].

        Raises:
            DataError: shapes that do not fit, features that are not finite, or one class only.
        """
        truth = binary_vector(labels, name="labels of the training features")
        require_both_classes(truth, purpose="describe the training features")
        _require_features(features, images=truth.size, width=None)
        means = [features[members].mean(axis=0, dtype=np.float64) for members in (~truth, truth)]
        squares = np.zeros(features.shape[1])
        for start in range(0, truth.size, _ROWS_AT_ONCE):
            some = slice(start, start + _ROWS_AT_ONCE)
            squares += np.sum((features[some] - np.where(truth[some, None], *reversed(means))) ** 2, axis=0)
        deviation = np.sqrt(squares / truth.size)
        # What only differs by rounding does not vary.
        deviation[deviation <= 1e-6 * np.maximum(*np.abs(means))] = 0
        return cls(
            none=tuple(means[0].tolist()),
            roadwork=tuple(means[1].tolist()),
            deviation=tuple(deviation.tolist()),
        )

    def distance(self, features: npt.NDArray[Any]) -> Floats:
        """Distance of features [N, D] from the nearer class, float64 [N], in deviations of one feature.

        Raises:
            DataError: another shape, or features that are not finite.
        """
        _require_features(features, images=len(features), width=len(self.deviation))
        deviation = np.array(self.deviation)
        scale = np.where(deviation > 0, deviation, np.inf)
        squared = [
            np.mean(((features - np.array(mean)) / scale) ** 2, axis=1) for mean in (self.none, self.roadwork)
        ]
        distance: Floats = np.sqrt(np.minimum(*squared))
        return distance


class ErrorOdds(Record):
    """A logistic regression of "the answer is wrong" on the standardised inputs, in the order of `inputs`."""

    inputs: tuple[str, ...] = INPUTS
    mean: _Numbers
    scale: _Numbers
    weights: _Numbers
    intercept: FiniteFloat

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        if self.inputs not in (INPUTS, FIRST_INPUTS):
            raise ValueError(f"the inputs must be {', '.join(INPUTS)}")
        if not len(self.mean) == len(self.scale) == len(self.weights) == len(self.inputs):
            raise ValueError("a mean, a scale and a weight for each input are needed")
        if min(self.scale) <= 0:
            raise ValueError("a scale must be above 0")
        return self

    @classmethod
    def fit(cls, design: Floats, wrong: Bools) -> Self:
        """Fit to inputs [N, 2] and whether the answers were wrong [N], both of which must occur."""
        from sklearn.linear_model import LogisticRegression

        mean, spread = design.mean(axis=0), design.std(axis=0)
        # An input that does not vary is 0 everywhere, and the penalty gives it no weight.
        scale = np.where(spread > 1e-9 * np.maximum(np.abs(mean), 1), spread, 1.0)
        # Newton's method converges to the last digits, so another machine finds the same numbers.
        regression = LogisticRegression(solver="newton-cholesky", tol=1e-10).fit(
            (design - mean) / scale, wrong
        )
        return cls(
            mean=tuple(mean.tolist()),
            scale=tuple(scale.tolist()),
            weights=tuple(regression.coef_[0].tolist()),
            intercept=float(regression.intercept_[0]),
        )

    def log_odds(self, design: Floats) -> Floats:
        """Log odds of an error, float64 [N], for inputs [N, I]."""
        standardised = (design - np.array(self.mean)) / np.array(self.scale)
        odds: Floats = standardised @ np.array(self.weights) + self.intercept
        return odds


class GateHead(Record):
    """The learned part of a gate: the reference features of the training images, and the odds of an error."""

    reference: FeatureReference
    odds: ErrorOdds

    @property
    def extras(self) -> tuple[str, ...]:
        """The inputs of the head besides the margin."""
        return tuple(_EXTRAS.get(name, name) for name in self.odds.inputs[1:])

    def confidence(self, margins: Floats, extras: Extras | None) -> Floats:
        """Minus the log odds of an error, float64 [N], for folded margins [N] and extras of these images.

        Raises:
            DataError: an extra is missing, is not of as many images, or not finite.
        """
        given = _require_extras(extras, self.extras, images=margins.size)
        columns = {"margin": np.abs(margins), "distance": self.reference.distance(given["features"])}
        for name in self.odds.inputs[2:]:
            values = finite_vector(given[_EXTRAS.get(name, name)], name=name)
            columns[name] = np.log1p(values) if name == "log_disagreement" else values
        return -self.odds.log_odds(np.column_stack([columns[name] for name in self.odds.inputs]))


def _require_extras(extras: Extras | None, names: tuple[str, ...], *, images: int) -> Extras:
    given = {} if extras is None else extras
    wrong = [name for name in names if name not in given or len(given[name]) != images]
    if wrong:
        raise DataError(
            f"the extras {', '.join(names)} of {images} images",
            f"none called {wrong[0]}" if wrong[0] not in given else f"{len(given[wrong[0]])} of {wrong[0]}",
            "the gate",
            "Measure the very images whose logits are given, with predict.measure_pixels(..., extras=...).",
        )
    return given


def _require_features(features: npt.NDArray[Any], *, images: int, width: int | None) -> None:
    shaped = features.ndim == 2 and len(features) == images and features.shape[1] > 0
    if not shaped or (width is not None and features.shape[1] != width) or not np.isfinite(features).all():
        raise DataError(
            f"finite features [{images}, {'D' if width is None else width}]",
            f"{features.dtype} {list(features.shape)}",
            "the features of the gate",
            "Measure them with the very model whose logits are used; look for one that diverged.",
        )


_PURPOSE = "val_select, the cross-fit of the gate"
_ADVICE = "Use a larger val_select; until then the margin decides what is deferred."


@dataclass(frozen=True, eq=False)
class CrossFit:
    """Both confidences in each answer and whether it is wrong, [N] each, and the head to be shipped."""

    by_margin: Floats
    by_gate: Floats
    wrong: Bools
    odds: ErrorOdds


def cross_fit(
    margins: Floats,
    truth: Bools,
    *,
    group: npt.NDArray[np.intp],
    distance: Floats,
    folds: int,
    seed: int,
    min_errors: int,
) -> CrossFit:
    """Cross-fit the gate to margins [N] after the temperature, labels, group numbers and feature distances.

    Raises:
        TooThinError: fewer than `min_errors` out-of-fold errors, or too few groups, images of a class or
            errors in some fold.
    """
    fold = deal_folds(truth, group, folds=folds, seed=seed, purpose=_PURPOSE)
    everything = np.ones(truth.size, dtype=bool)
    shifted = _out_of_fold(margins, truth, fold, within=everything)
    errors = int(np.count_nonzero((shifted > 0) != truth))
    if errors < min_errors:
        raise _too_thin(f"at least {min_errors} out-of-fold errors", f"{errors}")
    by_gate = np.empty(truth.size)
    for judged in (fold == number for number in range(folds)):
        within = _out_of_fold(margins, truth, fold, within=~judged)
        odds = _fit_odds(within, truth, distance, ~judged)
        by_gate[judged] = -odds.log_odds(_design(shifted, distance, judged))
    return CrossFit(
        by_margin=np.abs(shifted),
        by_gate=by_gate,
        wrong=(shifted > 0) != truth,
        odds=_fit_odds(shifted, truth, distance, everything),
    )


def _out_of_fold(margins: Floats, truth: Bools, fold: Folds, *, within: Bools) -> Floats:
    """Return margins minus the threshold of the other folds, of the images `within` alone: [N], else NaN."""
    return out_of_fold(
        margins,
        truth,
        fold,
        within=within,
        choose=lambda fitting: scan_margins(margins[fitting], truth[fitting]).threshold,
        purpose=_PURPOSE,
    )


def _fit_odds(shifted: Floats, truth: Bools, distance: Floats, members: Bools) -> ErrorOdds:
    wrong = ((shifted > 0) != truth)[members]
    if wrong.all() or not wrong.any():
        raise _too_thin("errors and right answers outside each fold", f"{np.count_nonzero(wrong)} errors")
    return ErrorOdds.fit(_design(shifted, distance, members), wrong)


def _design(shifted: Floats, distance: Floats, members: Bools) -> Floats:
    """Return the inputs of the head, float64 [M, 2], in the order of `gate_head.INPUTS`."""
    return np.column_stack([np.abs(shifted[members]), distance[members]])


def _too_thin(expected: str, found: str) -> TooThinError:
    return TooThinError(expected, found, _PURPOSE, _ADVICE)
