"""Five ways to turn margins into probabilities: small frozen records that JSON can hold.

A calibrator is a rising function of the margin m = logit(Roadwork) - logit(None), and `apply` gives the
probability of roadwork. From the simplest to the most flexible:

temperature  sigmoid(m / T)                                        one number
platt        sigmoid(slope m + intercept)                          two
beta         sigmoid(a ln p - b ln(1 - p) + c), p = sigmoid(m)     three
isotonic     a rising line through points                          as many as the pictures call for
venn_abers   p1 / (1 - p0 + p1), two rising staircases             as many as the pictures call for

All of them keep the ranking of the margins, the last two up to ties. `calibration` fits them, and
`calibrator_choice` chooses among them. `calibrator_from_json(to_json(c), where=...) == c`, and content
that no calibrator could have written is refused.

Sources: Guo et al. (arXiv 1706.04599); J. Platt, Probabilistic Outputs for Support Vector Machines (1999);
M. Kull, T. Silva Filho, P. Flach, Beta Calibration (AISTATS 2017); B. Zadrozny, C. Elkan (KDD 2002);
V. Vovk, I. Petej, V. Fedorova, Large-scale probabilistic predictors (arXiv 1511.00213).

The two staircases of the inductive Venn-Abers predictor, in O(n log n).

For a new score s and each label it might have, isotonic regression on the calibration pictures together
with (s, label) would give s a value. Doing that for every s would be one regression a score. Instead, the
isotonic fit is the slope of the greatest convex minorant of the cumulative sums, and moving the added
picture one score to the right changes one point of the diagram: the corners right of it are kept on a
stack, and each point is pushed and popped at most once.

Sums are Python integers and corners are compared by cross products, so nothing is rounded before the
division that gives a probability.

Source: V. Vovk, I. Petej, V. Fedorova, Large-scale probabilistic predictors with and without guarantees of
validity (arXiv 1511.00213), algorithms 1 to 4.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from streetvision_core.errors import ConfigError, SchemaError
from streetvision_core.eval.inputs import margin_vector
from streetvision_core.eval.thresholds import positive_probability

if TYPE_CHECKING:
    from typing import TypeAlias

    from streetvision_core.eval.inputs import Bools, Floats, Values

    Point: TypeAlias = tuple[int, int]


class Calibrator(Protocol):
    """What all of them have."""

    method: ClassVar[str]

    def apply(self, margins: Values) -> Floats:
        """Probability of roadwork, float64 [N], of margins [N] or logits [N, 2]."""

    def to_json(self) -> dict[str, Any]:
        """Return the method and its parameters, ready for JSON."""


class _Parameters:
    """The JSON of a record whose fields are finite numbers and lists of them."""

    method: ClassVar[str]

    def to_json(self) -> dict[str, Any]:
        """Return the method and its parameters, ready for JSON."""
        assert isinstance(self, Temperature | Platt | Beta | Isotonic | VennAbers)
        listed = {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()
        }
        return {"method": self.method, **listed}


@dataclass(frozen=True)
class Temperature(_Parameters):
    """sigmoid(m / temperature)."""

    temperature: float
    method: ClassVar[str] = "temperature"

    def __post_init__(self) -> None:
        _require(self, self.temperature > 0, "a positive temperature")

    def apply(self, margins: Values) -> Floats:
        """Probability of roadwork, float64 [N]."""
        return positive_probability(margin_vector(margins) / self.temperature)


@dataclass(frozen=True)
class Platt(_Parameters):
    """sigmoid(slope m + intercept)."""

    slope: float
    intercept: float
    method: ClassVar[str] = "platt"

    def __post_init__(self) -> None:
        _require(self, self.slope >= 0, "a slope of at least 0")

    def apply(self, margins: Values) -> Floats:
        """Probability of roadwork, float64 [N]."""
        return positive_probability(self.slope * margin_vector(margins) + self.intercept)


@dataclass(frozen=True)
class Beta(_Parameters):
    """sigmoid(a ln p - b ln(1 - p) + c) with p = sigmoid(m): a bends the low end, b the high end."""

    a: float
    b: float
    c: float
    method: ClassVar[str] = "beta"

    def __post_init__(self) -> None:
        _require(self, self.a >= 0 and self.b >= 0, "a and b of at least 0")

    def apply(self, margins: Values) -> Floats:
        """Probability of roadwork, float64 [N]."""
        log_p, minus_log_q = beta_inputs(margin_vector(margins))
        return positive_probability(self.a * log_p + self.b * minus_log_q + self.c)


@dataclass(frozen=True)
class Isotonic(_Parameters):
    """Straight lines between the points (margins[i], probabilities[i]); level beyond the first and last."""

    margins: tuple[float, ...]
    probabilities: tuple[float, ...]
    method: ClassVar[str] = "isotonic"

    def __post_init__(self) -> None:
        _require(self, len(self.margins) > 0, "at least one point")
        _require(self, len(self.margins) == len(self.probabilities), "a probability for each margin")
        _require_rising(self, self.margins, strictly=True)
        _require_probabilities(self, self.probabilities)
        _require(self, self.probabilities[0] > 0 and self.probabilities[-1] < 1, "neither 0 nor 1 itself")

    def apply(self, margins: Values) -> Floats:
        """Probability of roadwork, float64 [N]."""
        return np.interp(margin_vector(margins), self.margins, self.probabilities)


@dataclass(frozen=True)
class VennAbers(_Parameters):
    """The inductive Venn-Abers predictor as two staircases.

    Were the new picture none, an isotonic fit with it would give it p0: lower[i] from lower_from[i] on,
    which counts as inside, and 0 below the first. Were it roadwork, the fit would give it p1: upper[i] up
    to upper_to[i], which counts as inside, and 1 above the last. The probability is the one of the
    smallest worst regret between the two in log loss.
    """

    lower_from: tuple[float, ...]
    lower: tuple[float, ...]
    upper_to: tuple[float, ...]
    upper: tuple[float, ...]
    method: ClassVar[str] = "venn_abers"

    def __post_init__(self) -> None:
        for margins, steps in ((self.lower_from, self.lower), (self.upper_to, self.upper)):
            _require(self, len(margins) == len(steps) > 0, "a probability for each step, and a step at least")
            _require_rising(self, margins, strictly=True)
            _require_probabilities(self, steps)
        _require(self, self.lower[-1] < 1 and self.upper[0] > 0, "p0 below 1 and p1 above 0")

    def interval(self, margins: Values) -> tuple[Floats, Floats]:
        """Return (p0, p1), float64 [N] each: one of the two is calibrated, whatever the distribution."""
        new = margin_vector(margins)
        p0 = np.append(0.0, self.lower)[np.searchsorted(self.lower_from, new, side="right")]
        p1 = np.append(self.upper, 1.0)[np.searchsorted(self.upper_to, new, side="left")]
        return p0, p1

    def apply(self, margins: Values) -> Floats:
        """Probability of roadwork, float64 [N]."""
        p0, p1 = self.interval(margins)
        return np.asarray(p1 / (1 - p0 + p1))


_KINDS: dict[str, type[Temperature | Platt | Beta | Isotonic | VennAbers]] = {
    kind.method: kind for kind in (Temperature, Platt, Beta, Isotonic, VennAbers)
}
METHODS = tuple(_KINDS)


def calibrator_from_json(content: Any, *, where: str) -> Calibrator:
    """Read what `to_json` gave, strictly.

    Raises:
        SchemaError: another method, a missing or unknown parameter, or a value it cannot have.
    """
    if not isinstance(content, dict) or content.get("method") not in METHODS:
        raise _schema_error(f"a calibrator of a method among {', '.join(METHODS)}", repr(content)[:80], where)
    kind = _KINDS[content["method"]]
    wanted = {field.name: str(field.type).startswith("tuple") for field in fields(kind)}
    if content.keys() != {"method", *wanted}:
        raise _schema_error(
            f"exactly the parameters {', '.join(wanted)}", ", ".join(map(str, content)), where
        )
    try:
        return kind(**{name: _parameter(content[name], listed=listed) for name, listed in wanted.items()})
    except (ConfigError, TypeError) as error:
        raise _schema_error(f"parameters of {kind.method} calibration", str(error), where) from error


def beta_inputs(margins: Floats) -> tuple[Floats, Floats]:
    """Return ln p and -ln(1 - p) of p = sigmoid(margin), float64 [N] each, without forming p."""
    return -np.logaddexp(0.0, -margins), np.logaddexp(0.0, margins)


def _parameter(value: Any, *, listed: bool) -> Any:
    if listed:
        if not isinstance(value, list):
            raise TypeError(f"{value!r:.40} is not a list")
        return tuple(_parameter(one, listed=False) for one in value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"{value!r:.40} is not a finite number")
    return float(value)


def _require_rising(record: _Parameters, values: tuple[float, ...], *, strictly: bool) -> None:
    steps = np.diff(values)
    _require(record, bool((steps > 0).all() if strictly else (steps >= 0).all()), "values that rise")


def _require_probabilities(record: _Parameters, values: tuple[float, ...]) -> None:
    _require(record, min(values) >= 0 and max(values) <= 1, "probabilities in [0, 1]")
    _require_rising(record, values, strictly=False)


def _require(record: _Parameters, holds: bool, expected: str) -> None:
    if not holds:
        raise ConfigError(
            expected,
            f"{record!r:.120}",
            f"{record.method} calibration",
            "Fit it again; do not write it by hand.",
        )


def _schema_error(expected: str, found: str, where: str) -> SchemaError:
    return SchemaError(expected, found, where, "Fit the calibrator again with this version.")


def upper_staircase(scores: Floats, labels: Bools) -> tuple[Floats, Floats]:
    """Return the value of an added roadwork: values[i] for scores up to edges[i], above the last 1.

    Takes finite scores [N] and labels [N]; edges rise strictly, values rise strictly and lie in (0, 1].
    """
    distinct, place = np.unique(scores, return_inverse=True)
    pictures = np.bincount(place)
    roadwork = np.bincount(place[labels], minlength=distinct.size)
    values = np.array(_added_roadwork(pictures.tolist(), roadwork.tolist()))
    last = np.flatnonzero(np.append(values[1:] != values[:-1], [True]))
    return distinct[last], values[last]


def lower_staircase(scores: Floats, labels: Bools) -> tuple[Floats, Floats]:
    """Return the value of an added none: values[i] for scores from edges[i] on, below the first 0.

    It is the upper staircase seen in the mirror: scores and labels turned round.
    """
    edges, values = upper_staircase(-scores, ~labels)
    return -edges[::-1], 1 - values[::-1]


def _added_roadwork(pictures: list[int], roadwork: list[int]) -> list[float]:
    """Value that isotonic regression gives a roadwork added at each distinct score, from left to right."""
    points: list[Point] = [(-1, -1), (0, 0)]
    for count, positive in zip(pictures, roadwork, strict=True):
        points.append((points[-1][0] + count, points[-1][1] + positive))
    corners = _corners(points)[::-1]  # the leftmost corner is on top
    values = []
    moved = points[0]
    for i in range(1, len(points) - 1):
        top, second = corners[-1], corners[-2]
        values.append((second[1] - top[1]) / (second[0] - top[0]))
        # The added picture moves behind this score: the point before it is shifted by what it passes.
        x, y = points[i + 1]
        moved = (moved[0] + x - points[i][0], moved[1] + y - points[i][1])
        if _cross(top, second, moved) >= 0:
            continue
        corners.pop()
        while len(corners) > 1 and _cross(moved, corners[-1], corners[-2]) <= 0:
            corners.pop()
        corners.append(moved)
    return values


def _corners(points: list[Point]) -> list[Point]:
    """Corners of the greatest convex minorant of points from left to right."""
    corners: list[Point] = []
    for point in points:
        while len(corners) > 1 and _cross(corners[-2], corners[-1], point) <= 0:
            corners.pop()
        corners.append(point)
    return corners


def _cross(a: Point, b: Point, c: Point) -> int:
    """Positive where a, b, c turn left, that is, c lies above the line from a to b."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
