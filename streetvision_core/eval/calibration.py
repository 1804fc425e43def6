"""How sure the model may be: calibration of its logits on held-out pictures.

With two classes everything depends on the margin m = logit(Roadwork) - logit(None), so a calibration
method is a rising function of m, fitted by minimising the negative log-likelihood of the labels.
Temperature scaling is m / T with one parameter; it changes no ranking and no exact MCC threshold's
decisions. Other methods (Platt, beta, isotonic) are further functions of `margin_vector`, measured by
the same `negative_log_likelihood` on what they return as logits [N].

Source: Guo, Pleiss, Sun, Weinberger, On Calibration of Modern Neural Networks (arXiv 1706.04599).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from streetvision_core.errors import ConfigError
from streetvision_core.eval.inputs import (
    binary_vector,
    margin_vector,
    require_both_classes,
    require_equal_length,
)

if TYPE_CHECKING:
    from streetvision_core.eval.inputs import Floats, Values

TEMPERATURE_BOUNDS = (0.05, 20.0)


def negative_log_likelihood(logits: Values, labels: Values, temperature: float = 1.0) -> float:
    """Mean NLL in nats of labels [N] under softmax(logits / temperature), logits [N, 2] or [N].

    Raises:
        DataError: shapes that do not fit, nothing, or logits that are not finite.
        ConfigError: a temperature that is not a positive finite number.
    """
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ConfigError(
            "a positive finite temperature",
            f"{temperature}",
            "softmax(logits / T)",
            "Use 1 to change nothing.",
        )
    return float(np.logaddexp(0.0, -_signed_margins(logits, labels) / temperature).mean())


def fit_temperature(logits: Values, labels: Values) -> float:
    """Fit the temperature T that minimises the NLL of softmax(logits / T), logits [N, 2] or [N].

    NLL is convex in 1 / T, so the root of its derivative is the minimum. T is sought in
    `TEMPERATURE_BOUNDS`; a value on a bound says that the data do not determine one: perfectly
    separated pictures end at the lower bound, a model no better than chance at the upper.

    Raises:
        DataError: shapes that do not fit, nothing, logits that are not finite, or one class only.
    """
    from scipy.optimize import brentq

    require_both_classes(binary_vector(labels, name="labels"), purpose="fit a temperature")
    margins = _signed_margins(logits, labels)
    low, high = (1 / bound for bound in reversed(TEMPERATURE_BOUNDS))
    if _slope(low, margins) >= 0:
        return TEMPERATURE_BOUNDS[1]
    if _slope(high, margins) <= 0:
        return TEMPERATURE_BOUNDS[0]
    return 1 / float(brentq(_slope, low, high, args=(margins,), xtol=1e-12))


def _signed_margins(logits: Values, labels: Values) -> Floats:
    """Margins towards the true class, float64 [N]: positive where the likelier class is right."""
    margins = margin_vector(logits)
    truth = binary_vector(labels, name="labels")
    require_equal_length(logits=margins, labels=truth)
    return np.where(truth, margins, -margins)


def _slope(inverse: float, margins: Floats) -> float:
    """Compute d NLL / d(1 / T) at `inverse` = 1 / T, which rises with it."""
    # 1 / (1 + exp(x)) as tanh, which cannot overflow.
    return float(np.mean(-margins * 0.5 * (1 - np.tanh(inverse * margins / 2))))
