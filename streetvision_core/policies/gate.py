"""The gate policy: answer what the operating point says, but hand over the images it is least sure about.

The measure is either the margin, or a learned head that also looks at the network's features (`gate_head`).
Which of the two it is was decided on val_select (`gate_fit`), and the policy records why, in words and
numbers: a policy with a head that did not prove itself cannot be read.

Not promised: anything about new images, neither the share answered nor its errors; that is risk control.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, FiniteFloat, model_validator

from streetvision_core.eval.decisions import ROUNDING, OperatingPoint, decisions, read_policy
from streetvision_core.eval.inputs import margin_vector
from streetvision_core.eval.thresholds import positive_probability
from streetvision_core.io import Artifact
from streetvision_core.io.manifest import Sha256
from streetvision_core.io.records import Record, read_record
from streetvision_core.policies.config import LEAST_ERRORS, RecordedGate
from streetvision_core.policies.gate_head import FeatureReference, GateHead

if TYPE_CHECKING:
    from streetvision_core.eval.decisions import Decision, Extras
    from streetvision_core.eval.inputs import Floats, Values
    from streetvision_core.io import PublishedArtifact

GATE_NAME, MEASURED_NAME = "gate.json", "measured.json"
_Count = Annotated[int, Field(ge=0)]
_Area = Annotated[FiniteFloat, Field(ge=0, le=0.5)]


class GateFittedOn(Record):
    """The data version of what the policy was fitted on; val_select's logits are in the checkpoint."""

    phase1_checkpoint: Sha256


class AugrcComparison(Record):
    """AUGRC of margin and gate on the same `errors` out-of-fold errors, smaller is better.

    `difference` is gate minus margin; its interval [low, high] covers `level`.
    """

    errors: _Count
    margin: _Area
    gate: _Area
    difference: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat
    level: Annotated[FiniteFloat, Field(gt=0, lt=1)]

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if abs(self.difference - (self.gate - self.margin)) > ROUNDING or self.low > self.high:
            raise ValueError(f"the interval [{self.low}, {self.high}] is none of {self.gate} - {self.margin}")
        return self

    def in_words(self) -> str:
        """Say how the two compare, and whether that is enough."""
        return (
            f"AUGRC {self.gate:.5f} by the gate and {self.margin:.5f} by the margin on {self.errors}"
            f" out-of-fold errors; the {self.level:.0%} interval of the difference, [{self.low:.5f},"
            f" {self.high:.5f}], {'lies' if self.favours_gate else 'does not lie'} below 0"
        )

    @property
    def favours_gate(self) -> bool:
        """True if the whole interval lies below 0."""
        return self.high < 0


class GateSelect(Record):
    """The counts of the policy's answers to the `n` images of val_select.

    `errors` are the wrong answers if all were answered, `errors_answered` those among the answered;
    `roadwork` and `none` count the answers given.
    """

    n: _Count
    errors: _Count
    answered: _Count
    errors_answered: _Count
    roadwork: _Count
    none: _Count

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if self.roadwork + self.none != self.answered:
            raise ValueError(
                f"{self.answered} answers, of which {self.roadwork} + {self.none} are of a class"
            )
        if not (self.answered <= self.n and self.errors_answered <= min(self.errors, self.answered)):
            raise ValueError(f"more answers or errors than there are images: {self!r}")
        return self

    @property
    def coverage(self) -> float:
        """Share of the images that is answered."""
        return self.answered / self.n


class GatePolicy(Record):
    """Answer where confidence >= bound, else defer.

    Confidence is the distance of the folded margin from 0, or minus the log odds of an error by `head`.
    `compared` is absent where there was nothing to compare; `reason` says why.
    """

    schema_version: Literal[1] = 1
    type: Literal["gate"] = "gate"
    point: OperatingPoint
    confidence_by: Literal["margin", "gate"]
    reason: str
    head: GateHead | None
    compared: AugrcComparison | None
    bound: FiniteFloat
    chosen_by: RecordedGate
    fitted_on: GateFittedOn
    val_select: GateSelect
    note: str = (
        "The share answered and its errors are those of val_select; they promise nothing about others."
    )

    @model_validator(mode="after")
    def _check_adoption(self) -> Self:
        adopted = self.confidence_by == "gate"
        proven = self.compared is not None and self.compared.favours_gate
        if adopted != (self.head is not None) or adopted != proven:
            raise ValueError("a head is adopted exactly where its interval lies below 0")
        if self.compared is not None and (
            self.compared.errors < self.chosen_by.min_errors or self.compared.level != self.chosen_by.level
        ):
            raise ValueError("the comparison is not the one that was chosen")
        if self.compared is not None and self.reason != self.compared.in_words():
            raise ValueError("the reason is not what the comparison says")
        if adopted and self.val_select.errors < LEAST_ERRORS:
            raise ValueError(f"no head is trained on fewer than {LEAST_ERRORS} errors")
        return self

    @property
    def errors(self) -> int:
        """Wrong answers on val_select if all were answered."""
        return self.val_select.errors

    @property
    def defers(self) -> bool:
        """It may leave images to a person."""
        return True

    @property
    def extras(self) -> tuple[str, ...]:
        """The inputs of the head besides the logits; empty where the margin decides."""
        return self.head.extras if self.head is not None else ()

    def decide(self, logits: Values, extras: Extras | None = None, /) -> tuple[Decision, ...]:
        """Answer by folded logits [N, 2] or margins [N] where confidence is at least the bound.

        Raises:
            DataError: logits that are not finite, or an extra that is missing or does not fit.
        """
        return decisions(logits, accepted=self.confidence(logits, extras) >= self.bound)

    def confidence(self, logits: Values, extras: Extras | None = None, /) -> Floats:
        """Return each answer's confidence, float64 [N], in logits, from folded logits [N, 2] or margins [N].

        Raises:
            DataError: as `decide`.
        """
        margins = margin_vector(logits)
        return np.abs(margins) if self.head is None else self.head.confidence(margins, extras)

    def probabilities(self, logits: Values) -> Floats:
        """Probability of roadwork after the temperature alone, float64 [N], of folded logits or margins."""
        return positive_probability(margin_vector(logits) + self.point.shift)

    def degeneracies(self) -> list[str]:
        """Say why this policy decides nothing: one sentence a reason, none for a useful policy."""
        given = self.val_select
        if given.answered == 0:
            return ["it answers no image of val_select"]
        words = {"roadwork": given.roadwork, "none": given.none}
        return [
            f"it answers no image of val_select with {word}" for word, count in words.items() if not count
        ]

    def promise(self) -> str:
        """Say what it answers, and that it promises nothing about new images."""
        given = self.val_select
        return (
            f"It answers the images it is surest about, by the {self.confidence_by} ({self.reason}):"
            f" {given.answered} of {given.n} on val_select, which chose its threshold too,"
            f" {given.errors_answered} of them wrongly. About"
            " new images it promises neither the share answered nor its errors; val_test says what to"
            " expect."
        )

    @classmethod
    def from_json(cls, content: Any, *, where: str) -> Self:
        """Read the decoded content of a `gate.json` strictly.

        Raises:
            SchemaError: an unknown or missing field, a wrong type, another schema version, or a head that was
                adopted without proof.
        """
        return read_policy(cls, content, where=where)


class GateMeasured(Record):
    """The measurements that a head was fitted on, so that it can be fitted again without a network.

    `reference` is where the features of train lie, `distance` [N] how far from it those of val_select.
    """

    reference: FeatureReference
    distance: tuple[FiniteFloat, ...]


@dataclass(frozen=True)
class Gate:
    """The policy as an artifact, with what was measured for it.

    `measured` is absent where there were too few errors to learn from, and in what older versions wrote.

    Round trip: `Gate.from_artifact(published)` equals what was published by `to_artifact`.
    """

    policy: GatePolicy
    measured: GateMeasured | None = None

    def to_artifact(self) -> Artifact:
        """Return `gate.json`, and `measured.json` where anything was measured."""
        policy = self.policy
        metrics = {
            "adopted": int(policy.confidence_by == "gate"),
            "errors": policy.errors,
            "bound": policy.bound,
            "coverage": policy.val_select.coverage,
        }
        if policy.compared is not None:
            metrics["augrc_difference"] = policy.compared.difference
        records = {GATE_NAME: policy, MEASURED_NAME: self.measured}
        files = {name: record.to_bytes() for name, record in records.items() if record}
        return Artifact(files, metrics)

    @classmethod
    def from_artifact(cls, published: PublishedArtifact) -> Self:
        """Read back what `to_artifact` gave."""
        policy = GatePolicy.from_json(published.read_json(GATE_NAME), where=str(published.path(GATE_NAME)))
        if MEASURED_NAME not in published.content:
            return cls(policy)
        where = str(published.path(MEASURED_NAME))
        return cls(policy, read_record(GateMeasured, published.read_bytes(MEASURED_NAME), where=where))
