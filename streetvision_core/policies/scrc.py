"""Selective conformal risk control: a policy that defers what it cannot answer within a promise.

1. Frozen on val_select: the calibrator (chosen by cross-validated NLL), the operating point, and the sequence
   of thresholds on the confidence. Confidence is the calibrated probability that the answer is right.
2. val_calib is looked at once, one image of each group: the loosest threshold that holds is certified.
3. Accepted is what has at least that confidence; everything else is deferred. Where nothing can be
   certified, everything is deferred.

Three promises, which must not be confused (`risk_control` proves them):

error      With probability 1 - delta over the calibration images, at most alpha of the answered images
           are answered wrongly.
two_sided  With probability 1 - delta, at most `miss` of the images answered none are roadwork, and at
           most `alarm` of those answered roadwork are none. Each answer has its own threshold and
           delta / 2.
expected   On average over calibration sets, at most alpha of all images are answered wrongly. It is
           conformal risk control, and about this calibration set it promises nothing.

`scrc_fit` freezes and certifies. A policy that is read is held against itself: its digests against what was
frozen, each bound against its own counts, and what is certified against what was chosen to be promised.

Sources: Xu, Guo, Wei, Selective Conformal Risk Control (arXiv 2512.12844), and those of `risk_control`.

The guarantee of a certificate in words: what is promised, of what, and what voids it.

The words follow from the configuration, and from whether groups are known, alone, so that whoever reads a
policy can hold them against its numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias

import numpy as np
from pydantic import Field, FiniteFloat, model_validator

from streetvision_core.eval.calibrators import calibrator_from_json, require_known_method
from streetvision_core.eval.curves import read_curves
from streetvision_core.eval.decisions import (
    ANSWERS,
    ROUNDING,
    Answer,
    OperatingPoint,
    answers,
    decisions,
    percent,
    read_policy,
)
from streetvision_core.eval.inputs import margin_vector
from streetvision_core.eval.risk_control import certificate_of
from streetvision_core.io import Artifact, json_bytes, json_digest
from streetvision_core.io.ledger import Share
from streetvision_core.io.manifest import Sha256
from streetvision_core.io.records import Record
from streetvision_core.policies.config import ScrcConfig
from streetvision_core.policies.threshold import FittedOn
from streetvision_core.recorded import reworded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streetvision_core.eval.decisions import Decision, Extras
    from streetvision_core.eval.inputs import Bools, Floats, Values
    from streetvision_core.io import PublishedArtifact


def words_of(config: ScrcConfig, groups_known: bool | None = None) -> str:
    """Return the guarantee and its conditions in words; older ones did not know `groups_known`."""
    likely = f"With probability at least {percent(1 - config.delta)} over the calibration images, at most"
    promise = config.promise
    if promise.kind == "two_sided":
        promised = (
            f"{likely} {percent(promise.miss)} of the images answered none show roadwork, and at"
            f" most {percent(promise.alarm)} of those answered roadwork show none."
        )
    elif promise.kind == "error":
        promised = f"{likely} {percent(promise.alpha)} of the answered images are answered wrongly."
    else:
        promised = (
            f"On average over calibration sets and new images, at most {percent(promise.alpha)} of all"
            " images are answered wrongly; about this very calibration set nothing is promised."
        )
    drawn = (
        "one image drawn from each group, the groups independent of each other"
        if config.one_per_group
        else "one by one, independently of each other, whatever group they belong to"
    )
    if groups_known is False:
        drawn = "images taken as independent, because no groups are known"
    return (
        f"{promised} Conditions: new images come as those of val_calib did, {drawn};"
        f" weights, preprocessing and this file are as they were certified;"
        f" {_tried(config.looks)}. A change of camera, place, season, share of roadwork or"
        " preprocessing voids it."
    )


def _tried(looks: int | None) -> str:
    """Return the condition on other certificates of the same images."""
    if looks is None:
        return "no other certificate was tried on the same images before this one"
    return (
        f"at most {looks} certificates share images of val_calib, each at 1/{looks} of that probability of"
        " failing, and what is certified follows from no earlier look"
    )


SCRC_NAME = "scrcparams.json"
Promise: TypeAlias = Literal["error", "two_sided", "expected"]
_Share = Annotated[FiniteFloat, Field(ge=0, le=1)]
_Level = Annotated[FiniteFloat, Field(gt=0, lt=1)]


class Judged(Record):
    """A method of calibration and its cross-validated NLL in nats on val_select; see `calibrator_choice`."""

    method: str
    nll: FiniteFloat
    excess: FiniteFloat
    standard_error: FiniteFloat


class SelectFreeze(Record):
    """The size of val_select and the choice of the calibration; `judged` is empty where there are too few."""

    n: int
    nll_before: FiniteFloat
    judged: tuple[Judged, ...]


class Frozen(Record):
    """SHA-256 of the canonical JSON of what was frozen before val_calib was looked at."""

    point: Sha256
    calibrator: Sha256
    sequences: Sha256


class Certified(Record):
    """The certificate for the images with these answers; `threshold` None defers all of them.

    `thresholds` is the frozen sequence of `K` confidences, strict to loose, and `start` the share of these
    images of val_select that its first accepts. Of `n` units of val_calib with these answers `m` are
    accepted at `threshold`, and `k` of them answered wrongly. `upper_bound` is what is at most alpha: the
    Clopper-Pearson bound at 1 - delta, or in expectation (delta None) the corrected mean (k + 1) / (n + 1).
    The coverage interval (95 %) is that of the share of these images which will be answered. `needed`
    is how many accepted units without an error the promise would take, `tested` how many thresholds were
    looked at.
    """

    answers: tuple[Answer, ...]
    alpha: _Level
    delta: _Level | None
    K: Annotated[int, Field(ge=1)]
    start: _Share
    thresholds: tuple[_Share, ...]
    threshold: _Share | None
    n: Annotated[int, Field(ge=0)]
    m: Annotated[int, Field(ge=0)]
    k: Annotated[int, Field(ge=0)]
    upper_bound: _Share
    coverage_low: _Share
    coverage_high: _Share
    tested: Annotated[int, Field(ge=0)]
    needed: Annotated[int, Field(ge=1)]

    @model_validator(mode="after")
    def _holds(self) -> Self:
        if len(self.thresholds) != self.K:
            raise ValueError(f"K is {self.K}, but there are {len(self.thresholds)} thresholds")
        if list(self.thresholds) != sorted(set(self.thresholds), reverse=True):
            raise ValueError("the thresholds do not fall")
        if not self.k <= self.m <= self.n:
            raise ValueError(f"k = {self.k}, m = {self.m} and n = {self.n} do not rise")
        if self.threshold is None and self.m:
            raise ValueError(f"{self.m} units are accepted without a threshold")
        if self.threshold is not None and self.threshold not in self._possible_ends():
            raise ValueError(f"the threshold {self.threshold} is not where {self.tested} tests would end")
        self._follows_from_counts()
        return self

    def _possible_ends(self) -> tuple[float, ...]:
        """Return what so many tests can certify: the threshold before the last, or of all the last."""
        if self.delta is None:
            return self.thresholds
        ends = self.thresholds[: self.tested][-2:]
        return ends if self.tested == self.K else ends[:1] if self.tested > 1 else ()

    def _follows_from_counts(self) -> None:
        again = certificate_of(
            self.threshold,
            self.m,
            self.k,
            pictures=self.n,
            alpha=self.alpha,
            delta=self.delta,
            tested=self.tested,
        )
        for name in ("upper_bound", "coverage_low", "coverage_high", "needed"):
            recorded, found = getattr(self, name), getattr(again, name)
            if abs(recorded - found) > ROUNDING:
                raise ValueError(
                    f"{self.k} errors in {self.m} accepted of {self.n} units give {name} {found:.6g}, not"
                    f" {recorded:.6g}"
                )
        if again.feasible and again.upper_bound > self.alpha + ROUNDING:
            raise ValueError(
                f"{self.k} errors in {self.m} accepted units bound the risk by {again.upper_bound:.6g}, which"
                f" is not at most alpha, {self.alpha:g}"
            )


class ScrcPolicy(Record):
    """The content of `scrcparams.json`: what decides, what was frozen, what was certified, and its words.

    `units` says what was counted: one image of each group, or every image. `groups_known` says whether
    the data names groups, None where an older version did not record it.
    """

    schema_version: Literal[1] = 1
    type: Literal["scrc"] = "scrc"
    promised: Promise
    point: OperatingPoint
    calibrator: dict[str, Any]
    certificates: Annotated[tuple[Certified, ...], Field(min_length=1)]
    units: Literal["groups", "pictures"]
    frozen: Frozen
    chosen_by: ScrcConfig
    fitted_on: FittedOn
    val_select: SelectFreeze
    groups_known: bool | None = None
    guarantee: str

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        chosen = self.chosen_by
        units = "groups" if chosen.one_per_group else "pictures"
        if (self.promised, self.units) != (chosen.promise.kind, units):
            raise ValueError(
                f"it promises {self.promised} of {self.units}, but {chosen.promise.kind} was chosen"
            )
        certified = tuple(Side(one.answers, one.alpha, one.delta) for one in self.certificates)
        if certified != sides_of(chosen):
            raise ValueError(f"it was chosen to certify {sides_of(chosen)}, but it certifies {certified}")
        if reworded(self.guarantee) != reworded(words_of(chosen, self.groups_known)):
            raise ValueError("the words of the guarantee are not those of its numbers")
        if self.frozen != digests(self.point, self.calibrator, self.certificates):
            raise ValueError("point, calibrator or thresholds are not those that were frozen")
        calibrator_from_json(self.calibrator, where=SCRC_NAME)
        return self

    @property
    def defers(self) -> bool:
        """It may leave images to a person."""
        return True

    @property
    def extras(self) -> tuple[str, ...]:
        """None: the logits are enough."""
        return ()

    def decide(self, logits: Values, _extras: Extras | None = None, /) -> tuple[Decision, ...]:
        """Answer folded logits [N, 2] or margins [N] where their confidence is certified, else defer."""
        margins = margin_vector(logits)
        roadwork, sure = answers(margins), self.confidence(margins)
        accepted = np.zeros(margins.size, dtype=bool)
        for one in self.certificates:
            if one.threshold is not None:
                accepted |= has_answer(roadwork, one.answers) & (sure >= one.threshold)
        return decisions(margins, accepted=accepted)

    def confidence(self, logits: Values, _extras: Extras | None = None, /) -> Floats:
        """Calibrated probability that the answer is right, float64 [N], of folded logits or margins."""
        margins = margin_vector(logits)
        p = self.probabilities(margins)
        return np.where(answers(margins), p, 1 - p)

    def probabilities(self, logits: Values) -> Floats:
        """Calibrated probability of roadwork, float64 [N], of folded logits [N, 2] or margins [N]."""
        unfolded = (margin_vector(logits) + self.point.shift) * self.point.temperature
        return calibrator_from_json(self.calibrator, where=SCRC_NAME).apply(unfolded)

    @property
    def _counted(self) -> str:
        return "images (no groups known)" if self.groups_known is False else self.units

    def degeneracies(self) -> list[str]:
        """Say why this policy decides nothing: one sentence a reason, none for a useful policy."""
        if any(one.threshold is not None for one in self.certificates):
            return []
        return [f"it defers every image: {_shortfall(self.certificates[0], self._counted)}"]

    def infeasible(self) -> list[str]:
        """Say which answers are always deferred, and what a certificate would take."""
        return [
            f"What would be answered {' or '.join(one.answers)} is always deferred, because it cannot be"
            f" certified: {_shortfall(one, self._counted)}."
            for one in self.certificates
            if one.threshold is None
        ]

    def promise(self) -> str:
        """Say in words what it promises, on what conditions, and what it defers altogether."""
        return " ".join([*self.infeasible(), self.guarantee])

    @classmethod
    def from_json(cls, content: Any, *, where: str) -> Self:
        """Read the decoded content of a `scrcparams.json` strictly.

        Raises:
            SchemaError: an unknown or missing field, a wrong type, another schema version, or a
                certificate that does not follow from its own counts.
        """
        if isinstance(content, dict):
            require_known_method(content.get("calibrator"), where=where)
        return read_policy(cls, content, where=where)


def _shortfall(one: Certified, units: str) -> str:
    """Say what was missing for a certificate."""
    wanted = "without a wrong answer among them" if one.delta is None else "accepted without an error"
    least = f"at least {one.needed} {units} of val_calib {wanted}, more with each error"
    takes = f"{percent(one.alpha)} takes {least}"
    if one.n < one.needed:
        return f"{takes}, and there are only {one.n}"
    return f"{takes}; there are {one.n}, but too many of the surest answers are wrong"


@dataclass(frozen=True)
class Side:
    """One certificate that a promise takes: about the images with some answers; see `Certified`."""

    answers: tuple[Answer, ...]
    alpha: float
    delta: float | None


def share_of(config: ScrcConfig) -> Share | None:
    """Return the share of delta that a certificate takes; a promise in expectation has no delta."""
    return None if config.promise.kind == "expected" else Share(delta=config.delta, budget=config.looks)


def sides_of(config: ScrcConfig) -> tuple[Side, ...]:
    """Return what has to be certified; the two sides of two_sided share delta, so that both hold together."""
    promise = config.promise
    if promise.kind == "two_sided":
        return (
            Side(("none",), promise.miss, config.delta_of_a_look / 2),
            Side(("roadwork",), promise.alarm, config.delta_of_a_look / 2),
        )
    return (Side(ANSWERS, promise.alpha, None if promise.kind == "expected" else config.delta_of_a_look),)


@dataclass(frozen=True)
class Scrc:
    """The policy as an artifact; `curves` are files by name, none in what was published before them.

    Round trip: `Scrc.from_artifact(published)` equals what was published by `to_artifact`.
    """

    policy: ScrcPolicy
    curves: Mapping[str, bytes] = field(default_factory=dict)

    def to_artifact(self) -> Artifact:
        """Return `scrcparams.json` and the curves."""
        parts = self.policy.certificates
        units = sum(one.n for one in parts)
        return Artifact(
            files={SCRC_NAME: json_bytes(self.policy.model_dump(mode="json")), **self.curves},
            metrics={
                "certified": int(not self.policy.infeasible()),
                "units": units,
                "accepted": sum(one.m for one in parts),
                "errors": sum(one.k for one in parts),
                "coverage": sum(one.m for one in parts) / max(units, 1),
                "upper_bound": max(one.upper_bound for one in parts),
            },
        )

    @classmethod
    def from_artifact(cls, published: PublishedArtifact) -> Self:
        """Read back what `to_artifact` gave."""
        content = published.read_json(SCRC_NAME)
        policy = ScrcPolicy.from_json(content, where=str(published.path(SCRC_NAME)))
        return cls(policy, read_curves(published))


def digests(point: OperatingPoint, calibrator: dict[str, Any], certificates: tuple[Certified, ...]) -> Frozen:
    """Return the digests of what is frozen before val_calib is looked at."""
    return Frozen(
        point=json_digest(point.model_dump(mode="json")),
        calibrator=json_digest(calibrator),
        sequences=json_digest([list(one.thresholds) for one in certificates]),
    )


def has_answer(roadwork: Bools, among: tuple[Answer, ...]) -> Bools:
    """Tell which of the answers, bool [N] with true for roadwork, are among these."""
    return (roadwork & ("roadwork" in among)) | (~roadwork & ("none" in among))
