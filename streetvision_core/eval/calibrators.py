"""Three ways to turn margins into probabilities: small frozen records that JSON can hold.

A calibrator is a rising function of the margin m = logit(Roadwork) - logit(None), and `apply` gives the
probability of roadwork. From the simplest to the most flexible:

temperature  sigmoid(m / T)                     one number
platt        sigmoid(slope m + intercept)       two
isotonic     a rising line through points       as many as the images call for

All of them keep the ranking of the margins, the last one up to ties. `calibration` fits them and
chooses among them. `calibrator_from_json(to_json(c), where=...) == c`, and content
that no calibrator could have written is refused. Earlier versions also knew beta and Venn-Abers calibration;
`require_known_method` says of a record with one of them what to do.

Sources: Guo et al. (arXiv 1706.04599); J. Platt, Probabilistic Outputs for Support Vector Machines (1999);
B. Zadrozny, C. Elkan (KDD 2002).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, Self

import numpy as np
from pydantic import ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from streetvision_core.errors import SchemaError, field_faults
from streetvision_core.eval.inputs import margin_vector
from streetvision_core.eval.thresholds import positive_probability
from streetvision_core.io import json_bytes

if TYPE_CHECKING:
    from streetvision_core.eval.inputs import Floats, Values

_STRICT = ConfigDict(extra="forbid", strict=True)
_Inside = Annotated[FiniteFloat, Field(gt=0, lt=1)]


class Calibrator(Protocol):
    """The interface of all calibrators."""

    @property
    def method(self) -> str:
        """The name of its kind."""

    def apply(self, margins: Values) -> Floats:
        """Probability of roadwork, float64 [N], of margins [N] or logits [N, 2]."""

    def to_json(self) -> dict[str, Any]:
        """Return the method and its parameters, ready for JSON."""


class _Parameters:
    def to_json(self) -> dict[str, Any]:
        """Return the method and its parameters, ready for JSON."""
        content: dict[str, Any] = TypeAdapter(type(self)).dump_python(self, mode="json")
        return content


@dataclass(frozen=True, config=_STRICT)
class Temperature(_Parameters):
    """sigmoid(m / temperature)."""

    temperature: Annotated[FiniteFloat, Field(gt=0)]
    method: Literal["temperature"] = "temperature"

    def apply(self, margins: Values) -> Floats:
        """Probability of roadwork, float64 [N]."""
        return positive_probability(margin_vector(margins) / self.temperature)


@dataclass(frozen=True, config=_STRICT)
class Platt(_Parameters):
    """sigmoid(slope m + intercept)."""

    slope: Annotated[FiniteFloat, Field(ge=0)]
    intercept: FiniteFloat
    method: Literal["platt"] = "platt"

    def apply(self, margins: Values) -> Floats:
        """Probability of roadwork, float64 [N]."""
        return positive_probability(self.slope * margin_vector(margins) + self.intercept)


@dataclass(frozen=True, config=_STRICT)
class Isotonic(_Parameters):
    """Straight lines between the points (margins[i], probabilities[i]); level beyond the first and last."""

    margins: Annotated[tuple[FiniteFloat, ...], Field(min_length=1)]
    probabilities: tuple[_Inside, ...]
    method: Literal["isotonic"] = "isotonic"

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if len(self.margins) != len(self.probabilities):
            raise ValueError("a probability for each margin is needed")
        if (np.diff(self.margins) <= 0).any() or (np.diff(self.probabilities) < 0).any():
            raise ValueError("the values do not rise")
        return self

    def apply(self, margins: Values) -> Floats:
        """Probability of roadwork, float64 [N]."""
        return np.interp(margin_vector(margins), self.margins, self.probabilities)


_ANY: TypeAdapter[Temperature | Platt | Isotonic] = TypeAdapter(
    Annotated[Temperature | Platt | Isotonic, Field(discriminator="method")]
)
METHODS = ("temperature", "platt", "isotonic")
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
    try:
        # As JSON, where a list may be read as a tuple however strictly.
        return _ANY.validate_json(json_bytes(content))
    except ValueError as error:  # pydantic's, or that of a number which JSON does not know
        faults = field_faults(error) if isinstance(error, ValidationError) else str(error)
        raise SchemaError(
            f"a calibrator of a method among {', '.join(METHODS)}, with its parameters",
            faults,
            where,
            "Fit the calibrator again with this version.",
        ) from error
