"""Three ways to turn margins into probabilities: small frozen records that JSON can hold.

A calibrator is a rising function of the margin m = logit(Roadwork) - logit(None), and `apply` gives the
probability of roadwork. From the simplest to the most flexible:

temperature  sigmoid(m / T)                     one number
platt        sigmoid(slope m + intercept)       two
isotonic     a rising line through points       as many as the images call for

All of them keep the ranking of the margins, the last one up to ties. `calibration` fits them, and
`calibrator_choice` chooses among them. `calibrator_from_json(to_json(c), where=...) == c`, and content
that no calibrator could have written is refused. Earlier versions also knew beta and Venn-Abers calibration;
`require_known_method` says of a record with one of them what to do.

Sources: Guo et al. (arXiv 1706.04599); J. Platt, Probabilistic Outputs for Support Vector Machines (1999);
B. Zadrozny, C. Elkan (KDD 2002).
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
    from streetvision_core.eval.inputs import Floats, Values


class Calibrator(Protocol):
    """The interface of all calibrators."""

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
        assert isinstance(self, Temperature | Platt | Isotonic)
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


_KINDS: dict[str, type[Temperature | Platt | Isotonic]] = {
    kind.method: kind for kind in (Temperature, Platt, Isotonic)
}
METHODS = tuple(_KINDS)
# What earlier versions knew besides, and recorded.
RETIRED = frozenset({"beta", "venn_abers"})


def require_known_method(content: Any, *, where: str) -> None:
    """Refuse a recorded calibrator of a method that only earlier versions compute.

    Raises:
        SchemaError: the method is one of `RETIRED`.
    """
    method = content.get("method") if isinstance(content, dict) else None
    if method in RETIRED:
        raise SchemaError(
            f"a calibrator of a method that this version computes ({', '.join(METHODS)})",
            f"{method}, which only earlier versions do",
            where,
            "Materialize scrc again, or use the version that wrote it; its manifest names the commit.",
        )


def calibrator_from_json(content: Any, *, where: str) -> Calibrator:
    """Read what `to_json` gave, strictly.

    Raises:
        SchemaError: another method, a missing or unknown parameter, or a value it cannot have.
    """
    require_known_method(content, where=where)
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
