"""The vocabulary, the operating point and the interface that all policies share.

A policy answers images with roadwork or none, or defers: it hands the image to a person. What it is
asked about are logits with its operating point folded in, as the weights of a bundle give them, so that an
answer is roadwork exactly where logit(Roadwork) - logit(None) is above 0, in this library and in any other.
Whether an image is answered at all may depend on more than its logits; that is what the extras are.

An operating point is a temperature T and a threshold t on the probability: with logits (a, b) of the
checkpoint the folded ones are (a / T + s / 2, b / T - s / 2), where s = logit(t).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, TypeAlias, TypeVar

import numpy as np
from pydantic import AfterValidator, Field, FiniteFloat, ValidationError

from streetvision_core.errors import DataError, SchemaError, field_faults
from streetvision_core.eval.calibration import fit_temperature_scaling
from streetvision_core.eval.inputs import margin_vector
from streetvision_core.eval.metrics import METRICS_OF_FIRST_SCHEMA
from streetvision_core.eval.risk_control import MIDDLE
from streetvision_core.eval.thresholds import positive_probability, scan_margins
from streetvision_core.io import json_bytes
from streetvision_core.io.records import Record
from streetvision_core.recorded import reworded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streetvision_core.eval.inputs import Bools, Floats, Values

Answer: TypeAlias = Literal["none", "roadwork"]
Decision: TypeAlias = Literal["none", "roadwork", "defer"]
ANSWERS: tuple[Answer, ...] = ("none", "roadwork")
DECISIONS: tuple[Decision, ...] = (*ANSWERS, "defer")
# The metrics of which every version records intervals as well.
_OF_EVERY_VERSION = ("mcc", "accuracy", "fnr", "fpr")
# What another machine's rounding may change in a number that is computed from the same numbers.
ROUNDING = 1e-9
# What a policy can be told of images besides their logits, each an array [N] or [N, D].
Extras: TypeAlias = "Mapping[str, Floats]"


_R = TypeVar("_R", bound=Record)


def _require_first_schema(metrics: dict[str, int | float]) -> dict[str, int | float]:
    if missing := [name for name in METRICS_OF_FIRST_SCHEMA if name not in metrics]:
        raise ValueError(f"no {', '.join(missing)}")
    return metrics


# Metrics by name: at least those of the first schema, and whatever the version that wrote them knew besides.
Metrics = Annotated[dict[str, int | FiniteFloat], AfterValidator(_require_first_schema)]


class LabelledLogits(Protocol):
    """Logits [N, 2] with the labels and groups [N] of the same images."""

    @property
    def logits(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Logits of None and Roadwork, float32 [N, 2]."""

    @property
    def labels(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Labels 0 or 1, int64 [N]."""

    @property
    def groups(self) -> Sequence[str]:
        """The group of each image, [N]; images of one group are not independent."""


class OperatingPoint(Record):
    """A temperature and a threshold on the probability after it, above which the answer is roadwork."""

    temperature: Annotated[FiniteFloat, Field(gt=0)]
    threshold: Annotated[FiniteFloat, Field(gt=0, lt=1)]

    @property
    def shift(self) -> float:
        """The logit of the threshold."""
        return math.log(self.threshold) - math.log1p(-self.threshold)

    def fold(self, logits: Values) -> Floats:
        """Fold the point into the checkpoint's logits: float64 [N, 2], roadwork where the second is larger.

        Raises:
            DataError: logits that are not [N, 2] or not finite.
        """
        return _pairs(logits) / self.temperature + self._halves

    @property
    def _halves(self) -> Floats:
        return np.array([self.shift / 2, -self.shift / 2])


class Policy(Protocol):
    """A rule that answers images or defers them; a bundle holds exactly one policy."""

    @property
    def type(self) -> str:
        """The name of its kind."""

    @property
    def point(self) -> OperatingPoint:
        """The operating point that is folded into the logits it is asked about."""

    @property
    def extras(self) -> tuple[str, ...]:
        """The extras it needs; none where the logits are enough."""

    @property
    def defers(self) -> bool:
        """True if the policy may leave an image unanswered."""

    @property
    def fitted_on(self) -> Record:
        """The data versions of the artifacts it was fitted on, by step."""

    def decide(self, logits: Values, extras: Extras | None = None, /) -> tuple[Decision, ...]:
        """Decide for images with folded logits [N, 2] or margins [N], and extras of the same images."""

    def confidence(self, logits: Values, extras: Extras | None = None, /) -> Floats:
        """Return the confidence of each answer, float64 [N]; the lowest are deferred first."""

    def probabilities(self, logits: Values) -> Floats:
        """Probability of roadwork as a frequency, float64 [N], of folded logits [N, 2] or margins [N]."""

    def degeneracies(self) -> list[str]:
        """Say why this policy decides nothing: one sentence a reason, none for a useful policy."""

    def promise(self) -> str:
        """Say in words what it promises, and on what conditions."""


def answers(logits: Values) -> Bools:
    """Tell where folded logits [N, 2] or margins [N] say roadwork, bool [N]."""
    return margin_vector(logits) > 0


def decisions(logits: Values, *, accepted: Values | None = None) -> tuple[Decision, ...]:
    """Answer each image by its folded logits [N, 2] or margins [N]; defer it where it is not accepted."""
    roadwork = answers(logits)
    taken = np.ones(roadwork.size, dtype=bool) if accepted is None else np.asarray(accepted)
    return tuple(DECISIONS[code] for code in np.where(taken, roadwork.astype(int), 2).tolist())


def freeze_operating_point(select: LabelledLogits, *, between: float = MIDDLE) -> OperatingPoint:
    """Fit the temperature by NLL, then the threshold by MCC, on val_select alone.

    It is for policies whose promise needs val_calib untouched. `between` places the threshold on the best
    plateau, from its lower end.

    Raises:
        DataError: logits that are not finite, one class only, or no threshold that answers both classes.
    """
    temperature = fit_temperature_scaling(select.logits, select.labels).temperature
    choice = scan_margins(select.logits, select.labels)
    margin = choice.threshold
    if between != MIDDLE:
        margin = choice.plateau_low + between * (choice.plateau_high - choice.plateau_low)
    threshold = threshold_between(margin / temperature, mcc=choice.mcc, role="val_select")
    return OperatingPoint(temperature=temperature, threshold=threshold)


def threshold_between(margin: float, *, mcc: float, role: str) -> float:
    """Return the probability of a margin after the temperature, which must lie between 0 and 1.

    Raises:
        DataError: it is 0 or 1 in float64.
    """
    threshold = float(positive_probability([margin])[0])
    if not 0 < threshold < 1:
        raise DataError(
            "a threshold between 0 and 1 that tells roadwork from none",
            f"{threshold:g}, with an MCC of {mcc:.3f}",
            f"the logits of {role}",
            "The model separates nothing; look at its training curve and its labels before going on."
            if mcc <= 0
            else "The logits are so large that every probability is 0 or 1; train with label smoothing or"
            " weight decay, or check the head.",
        )
    return threshold


def read_policy(kind: type[_R], content: Any, *, where: str) -> _R:
    """Read the decoded content of a policy's JSON strictly.

    Raises:
        SchemaError: an unknown or missing field, a wrong type, or another schema version.
    """
    try:
        # As JSON, where a list may be read as a tuple however strictly.
        return kind.model_validate_json(json_bytes(content))
    except ValueError as error:  # pydantic's, or that of a number which JSON does not know
        faults = field_faults(error) if isinstance(error, ValidationError) else str(error)
        raise SchemaError(
            f"a {kind.__name__} of this schema version",
            faults,
            where,
            "Materialize the policy again with this version, or update this installation.",
        ) from error


def percent(share: float) -> str:
    """Write a share as a percentage with all its digits: a promise is not rounded."""
    return f"{100 * share:.12g}%"


def same_numbers(recorded: Any, fitted: Any, *, tolerance: float = ROUNDING) -> bool:
    """Compare JSON values: words as today's version writes them, floats within a tolerance.

    The tolerance is relative; a tenth of it is absolute.

    Of two dictionaries of metrics or their intervals, what both hold is compared: a metric that only one of
    them has was not recorded then, or is not known any more, and that is no difference.
    """
    if isinstance(recorded, dict) and isinstance(fitted, dict):
        shared = recorded.keys() & fitted.keys()
        complete = recorded.keys() == fitted.keys() or shared.issuperset(_OF_EVERY_VERSION)
        return complete and all(
            same_numbers(recorded[key], fitted[key], tolerance=tolerance) for key in shared
        )
    if isinstance(recorded, (list, tuple)) and isinstance(fitted, (list, tuple)):
        return len(recorded) == len(fitted) and all(
            same_numbers(was, now, tolerance=tolerance) for was, now in zip(recorded, fitted, strict=True)
        )
    if isinstance(recorded, float) and isinstance(fitted, float):
        # As np.isclose, which takes fifty times as long for two numbers.
        return recorded == fitted or abs(recorded - fitted) <= tolerance * (abs(fitted) + 0.1)
    if isinstance(recorded, str) and isinstance(fitted, str):
        return reworded(recorded) == reworded(fitted)
    return bool(recorded == fitted)


def differences(recorded: Record, fitted: Record, *, tolerance: float = ROUNDING) -> list[str]:
    """Return which fields of a policy come out otherwise when it is fitted again; one sentence each."""
    was, is_now = recorded.model_dump(mode="json"), fitted.model_dump(mode="json")
    return [
        f"{name} is recorded as {_brief(was[name])}, but is {_brief(is_now[name])} when fitted again"
        for name in was
        if not same_numbers(was[name], is_now[name], tolerance=tolerance)
    ]


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _pairs(logits: Values) -> Floats:
    margin_vector(logits)  # refuses what is not finite
    pairs = np.asarray(logits, dtype=np.float64)
    if pairs.ndim != 2:
        raise DataError(
            "logits of None and Roadwork, [N, 2]",
            f"shape {pairs.shape}",
            "an operating point",
            "Pass both logits of each image.",
        )
    return pairs
