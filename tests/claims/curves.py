"""Answers whose true risk is known, for every claim about selective risk.

Confidence u is uniform on [0, 1], and an answer of confidence u is wrong with probability curve(u): the risk
of accepting everything above t is the mean of the curve over [t, 1].
"""

import math

import numpy as np
from scipy.integrate import quad

ALPHA = 0.05
CURVES = {
    "steep": lambda u: 0.5 / (1 + np.exp(14 * (u - 0.35))),
    "hard": lambda u: 0.45 * (1 - u) ** 0.7,
    # A hair above alpha wherever one looks: only luck can certify it, and it is never right.
    "flat": lambda u: np.full_like(u, ALPHA * 1.02),
}


def draw(rng, curve, size):
    """Confidences of as many answers, and whether each is wrong."""
    sure = rng.random(size)
    return sure, rng.random(size) < curve(sure)


def true_risk(curve, threshold):
    """Share of wrong answers among all with a confidence above the threshold."""
    mass, _ = quad(lambda u: float(curve(np.array([u]))[0]), threshold, 1)
    return mass / (1 - threshold)


def allowed(rate, trials):
    """A rate that may be `rate` passes up to 3 standard errors above it."""
    return rate + 3 * math.sqrt(rate * (1 - rate) / trials)
