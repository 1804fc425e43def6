"""Selective conformal risk control: a policy that defers what it cannot answer within a promise.

1. Frozen on val_select: the calibrator (chosen by cross-validated NLL), the operating point, and the sequence
   of thresholds on the confidence. Confidence is the calibrated probability that the answer is right.
2. val_calib is looked at once, at most one image of a group: the loosest threshold that holds is certified.
3. Accepted is what has at least that confidence; everything else is deferred. Where nothing can be
   certified, everything is deferred.

Three promises, which must not be confused (`risk_control` proves them):

error      With probability 1 - delta over the calibration images, an image that is answered is answered
           wrongly with probability at most alpha.
two_sided  With probability 1 - delta, an image answered none is roadwork with probability at most `miss`,
           and one answered roadwork is none with probability at most `alarm`. Each answer has its own
           threshold and delta / 2.
expected   On average over calibration sets, an image is answered wrongly with probability at most alpha,
           deferred ones counted as right. It is conformal risk control, and about this calibration set it
           promises nothing.

What "an image" is, `unit` says: one drawn from a randomly drawn group, or any image, where no group counts
as more than `cap` of them. What is counted on val_calib is drawn the same way, by groups and seed alone.

`scrc_fit` freezes and certifies. A policy that is read is held against itself: its digests against what was
frozen, each bound against its own counts, and what is certified against what was chosen to be promised.

Sources: Xu, Guo, Wei, Selective Conformal Risk Control (arXiv 2512.12844), and those of `risk_control`.
"""

from __future__ import annotations

import math
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
from streetvision_core.io import Artifact, bytes_digest, json_digest
from streetvision_core.io.ledger import Share
from streetvision_core.io.manifest import Sha256
from streetvision_core.io.records import Record
from streetvision_core.policies.config import EveryImage, GroupUnit, ImageUnit, RecordedScrc, ScrcConfig
from streetvision_core.policies.guarantee import FIRST_SCHEMA, Schema, words_of
from streetvision_core.policies.threshold import FittedOn
from streetvision_core.recorded import reworded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streetvision_core.eval.decisions import Decision, Extras
    from streetvision_core.eval.inputs import Bools, Floats, Values
    from streetvision_core.io import PublishedArtifact


SCRC_NAME = "scrcparams.json"
FOLLOWING = ("upper_bound", "coverage_low", "coverage_high", "needed")  # from the counts of a certificate
RISING = 0.05  # the largest p-value that is reported
Units: TypeAlias = Literal["groups", "images", "pictures"]
UNITS: Mapping[str, Units] = {"group": "groups", "image": "images", "every_image": "pictures"}
Promise: TypeAlias = Literal["error", "two_sided", "expected"]
_Share = Annotated[FiniteFloat, Field(ge=0, le=1)]
_Level = Annotated[FiniteFloat, Field(gt=0, lt=1)]


class Judged(Record):
    """A method of calibration and its cross-validated NLL in nats on val_select; see `eval.calibration`."""

    method: str
    nll: FiniteFloat
    excess: FiniteFloat
    standard_error: FiniteFloat


class SelectFreeze(Record):
    """The size of val_select and the choice of the calibration; `judged` is empty where there are too few."""

    n: int
    nll_before: FiniteFloat
    judged: tuple[Judged, ...]


class CalibUnits(Record):
    """The units of val_calib: one image of each of `units` groups, which are left of `groups`.

    `roadwork` of them show roadwork. `rising` is the p-value against errors that do not rise with confidence.
    """

    groups: Annotated[int, Field(ge=1)]
    units: Annotated[int, Field(ge=0)]
    roadwork: Annotated[int, Field(ge=0)]
    rising: _Share

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if not self.roadwork <= self.units <= self.groups:
            raise ValueError(
                f"roadwork {self.roadwork}, units {self.units} and groups {self.groups} do not rise"
            )
        return self


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
        """Return what so many tests can certify: the threshold before the last tested, or the last of all."""
        if self.delta is None:
            return self.thresholds
        ends = self.thresholds[: self.tested][-2:]
        return ends if self.tested == self.K else ends[:1] if self.tested > 1 else ()

    def _follows_from_counts(self) -> None:
        again = certificate_of(
            self.threshold,
            self.m,
            self.k,
            images=self.n,
            alpha=self.alpha,
            delta=self.delta,
            tested=self.tested,
        )
        for name in FOLLOWING:
            recorded, counted = getattr(self, name), getattr(again, name)
            if abs(recorded - counted) > ROUNDING:
                raise ValueError(
                    f"{self.k} errors in {self.m} accepted of {self.n} units give {name} {counted:.6g}, not"
                    f" {recorded:.6g}"
                )
        if again.feasible and again.upper_bound > self.alpha + ROUNDING:
            raise ValueError(
                f"{self.k} errors in {self.m} accepted units bound the risk by {again.upper_bound:.6g}, which"
                f" is not at most alpha, {self.alpha:g}"
            )


class ScrcPolicy(Record):
    """The content of `scrcparams.json`: what decides, what was frozen, what was certified, and its words.

    `units` says what was counted: one image of each group, one of some groups by their size, or (in the first
    schema) every image. `groups_known` says whether the data names groups, None where an older version did
    not record it. The first schema has no `val_calib`, certified unfolded logits, and names its unit among
    the conditions.
    """

    schema_version: Schema
    type: Literal["scrc"] = "scrc"
    promised: Promise
    point: OperatingPoint
    calibrator: dict[str, Any]
    certificates: Annotated[tuple[Certified, ...], Field(min_length=1)]
    units: Units
    frozen: Frozen
    chosen_by: RecordedScrc
    fitted_on: FittedOn
    val_select: SelectFreeze
    val_calib: CalibUnits | None = None
    groups_known: bool | None = None
    guarantee: str

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        chosen = self.chosen_by
        if (self.promised, self.units) != (chosen.promise.kind, UNITS[chosen.unit.kind]):
            raise ValueError(
                f"it promises {self.promised} of {self.units}, but {chosen.promise.kind} was chosen"
            )
        certified = tuple(
            Side(certificate.answers, certificate.alpha, certificate.delta)
            for certificate in self.certificates
        )
        if certified != sides_of(chosen):
            raise ValueError(f"it was chosen to certify {sides_of(chosen)}, but it certifies {certified}")
        self._counts_its_units()
        words = words_of(chosen, self.groups_known, schema=self.schema_version)
        if reworded(self.guarantee) != reworded(words):
            raise ValueError("the words of the guarantee are not those of its numbers")
        if self.frozen != digests(self.point, self.calibrator, self.certificates):
            raise ValueError("point, calibrator or thresholds are not those that were frozen")
        calibrator_from_json(self.calibrator, where=SCRC_NAME)
        return self

    def _counts_its_units(self) -> None:
        first, counted, unit = self.schema_version == FIRST_SCHEMA, self.val_calib, self.chosen_by.unit
        if first != (counted is None) or (isinstance(unit, EveryImage) and not first):
            raise ValueError(f"schema {self.schema_version} does not count {unit.kind} like this")
        if counted is None:
            return
        certified = sum(certificate.n for certificate in self.certificates)
        if certified != counted.units or (isinstance(unit, GroupUnit) and counted.units != counted.groups):
            raise ValueError(
                f"{certified} units are certified, but {counted.units} of {counted.groups} groups were drawn"
            )

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
        for certificate in self.certificates:
            if certificate.threshold is not None:
                accepted |= has_answer(roadwork, certificate.answers) & (sure >= certificate.threshold)
        return decisions(margins, accepted=accepted)

    def confidence(self, logits: Values, _extras: Extras | None = None, /) -> Floats:
        """Calibrated probability that the answer is right, float64 [N], of folded logits or margins."""
        margins = margin_vector(logits)
        p = self.probabilities(margins)
        return np.where(answers(margins), p, 1 - p)

    def probabilities(self, logits: Values) -> Floats:
        """Calibrated probability of roadwork, float64 [N], of folded logits [N, 2] or margins [N]."""
        calibrator = calibrator_from_json(self.calibrator, where=SCRC_NAME)
        return calibrator.apply(unfold(self.point, margin_vector(logits)))

    @property
    def _counted(self) -> str:
        if self.groups_known is False:
            return "images (no groups known)"
        return "groups" if self.val_calib else self.units

    def degeneracies(self) -> list[str]:
        """Say why this policy decides nothing, or promises nothing: one sentence a reason."""
        if any(certificate.threshold is not None for certificate in self.certificates):
            return self.empty()
        return [f"it defers every image: {self._shortfall(self.certificates[0])}"]

    def infeasible(self) -> list[str]:
        """Say which answers are always deferred, and what a certificate would take."""
        return [
            f"What would be answered {' or '.join(certificate.answers)} is always deferred, because it cannot"
            f" be certified: {self._shortfall(certificate)}."
            for certificate in self.certificates
            if certificate.threshold is None
        ]

    def empty(self) -> list[str]:
        """Say which parts of the promise one constant answer would keep, and what to promise instead."""
        if self.val_calib is None or not self.val_calib.units:
            return []
        units, roadwork = self.val_calib.units, self.val_calib.roadwork
        wrong: dict[Answer, tuple[int, str]] = {
            "none": (roadwork, "show roadwork"),
            "roadwork": (units - roadwork, "show none"),
        }
        return [
            f"its promise is empty: always answering {answer} would keep it, because only {few} of {units}"
            f" {self._counted} of val_calib {shown} ({few / units:.2%}), and {percent(certificate.alpha)} may"
            f" be wrong{_instead(self.promised, few)}"
            for certificate in self.certificates
            for answer, (few, shown) in wrong.items()
            if answer in certificate.answers and few <= certificate.alpha * units
        ]

    def misordered(self) -> list[str]:
        """Say that the surest answers are wrong more often, where an isotonic test over units finds it."""
        if self.val_calib is None or self.val_calib.rising > RISING:
            return []
        units = f"{self.val_calib.units} {self._counted}"
        sentence = (
            "Confidence is ordered wrongly: the surer an answer is, the more often it is wrong (isotonic test"
            f" over {units} of val_calib, p = {self.val_calib.rising:.3f})."
        )
        return [sentence]

    def remarks(self) -> list[str]:
        """Say what is to be known before its promise is believed, in whole sentences."""
        return [
            *self.infeasible(),
            *(f"{reason[0].upper()}{reason[1:]}." for reason in self.empty()),
            *self.misordered(),
        ]

    def drawn(self) -> str:
        """Say how many units of val_calib are left, and how many a certificate takes at the least."""
        if self.val_calib is None:
            return f"{sum(certificate.n for certificate in self.certificates)} {self._counted}"
        left, groups = self.val_calib.units, self.val_calib.groups
        needed = max(certificate.needed for certificate in self.certificates)
        return (
            f"{left} of {groups} {self._counted} of val_calib are counted; a certificate takes at least"
            f" {needed} without an error{self._groups_for(needed)}"
        )

    def _groups_for(self, needed: int) -> str:
        """Say how many groups must be there for so many to be left, where some are thinned out."""
        if self.val_calib is None or not 0 < self.val_calib.units < self.val_calib.groups:
            return ""
        groups = math.ceil(needed * self.val_calib.groups / self.val_calib.units)
        return f"; about {groups} groups of such sizes would leave {needed}"

    def _thinned(self) -> str:
        """Say that the cap left nothing, where it did."""
        unit, counts = self.chosen_by.unit, self.val_calib
        if not isinstance(unit, ImageUnit) or counts is None or counts.units:
            return ""
        return f"; of {counts.groups} groups the cap {unit.cap} left none: lower it"

    def _shortfall(self, certificate: Certified) -> str:
        """Say what was missing for a certificate."""
        wanted = (
            "without a wrong answer among them" if certificate.delta is None else "accepted without an error"
        )
        least = f"at least {certificate.needed} {self._counted} of val_calib {wanted}, more with each error"
        takes = f"{percent(certificate.alpha)} takes {least}"
        if certificate.n < certificate.needed:
            known = f"{self._groups_for(certificate.needed)}{self._thinned()}"
            return f"{takes}, and there are only {certificate.n}{known}"
        return (
            f"{takes}; there are {certificate.n}, but too few of them are as sure as on val_select, or too"
            " many wrong"
        )

    def promise(self) -> str:
        """Say in words what it promises, on what conditions, and what it defers altogether."""
        return " ".join([*self.remarks(), self.guarantee])

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


def _instead(promised: Promise, few: int) -> str:
    """Say which promise would not be empty."""
    if not few:
        return "; add such images to val_calib, without which no promise about them says anything"
    if promised == "two_sided":
        return "; promise less than that share"
    return "; choose promise: two_sided, with less than that share for it"


def unfold(point: OperatingPoint, margins: Floats) -> Floats:
    """Return the checkpoint's margins, float64 [N], of folded ones."""
    return (margins + point.shift) * point.temperature


@dataclass(frozen=True)
class Side:
    """One certificate that a promise takes: about the images with some answers; see `Certified`."""

    answers: tuple[Answer, ...]
    alpha: float
    delta: float | None


def share_of(config: ScrcConfig | RecordedScrc) -> Share | None:
    """Return the share of delta that a certificate takes; a promise in expectation has no delta."""
    return None if config.promise.kind == "expected" else Share(delta=config.delta, budget=config.looks)


def sides_of(config: RecordedScrc) -> tuple[Side, ...]:
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
        certificates = self.policy.certificates
        units = sum(certificate.n for certificate in certificates)
        return Artifact(
            files={SCRC_NAME: self.policy.to_bytes(), **self.curves},
            metrics={
                "certified": int(not self.policy.infeasible()),
                "units": units,
                "accepted": sum(certificate.m for certificate in certificates),
                "errors": sum(certificate.k for certificate in certificates),
                "coverage": sum(certificate.m for certificate in certificates) / max(units, 1),
                "upper_bound": max(certificate.upper_bound for certificate in certificates),
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
        point=bytes_digest(point.to_bytes()),
        calibrator=json_digest(calibrator),
        sequences=json_digest([list(certificate.thresholds) for certificate in certificates]),
    )


def has_answer(roadwork: Bools, among: tuple[Answer, ...]) -> Bools:
    """Tell which of the answers, bool [N] with true for roadwork, are among these."""
    return (roadwork & ("roadwork" in among)) | (~roadwork & ("none" in among))
