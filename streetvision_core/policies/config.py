"""The settings of the policies: the defaults stand here and nowhere else.

A `...Config` holds what a person chooses. Its `Recorded...` adds the constants of the recipe, which every
policy records beside it: a policy of a version where they were settings is fitted again by its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

import pydantic
from pydantic import Field

from streetvision_core.errors import ConfigError
from streetvision_core.eval.bootstrap import RESAMPLES
from streetvision_core.eval.intervals import LEVEL
from streetvision_core.eval.objectives import AtPrevalence, Cost, FBeta, Mcc, RecallAtLeast
from streetvision_core.io.ledger import Share
from streetvision_core.models.config import Settings
from streetvision_core.recorded import from_recorded

if TYPE_CHECKING:
    from streetvision_core.eval.objectives import Objective

Recorded = TypeVar("Recorded", bound=pydantic.BaseModel)


class _AtPrevalence(Settings):
    """The share of roadwork that an objective is meant for."""

    prevalence: float | None = Field(
        None, gt=0, lt=1, description="share of roadwork in use; null: as many as on val_calib"
    )

    def _there(self, objective: Objective) -> Objective:
        return objective if self.prevalence is None else AtPrevalence(objective, self.prevalence)


class BestMcc(_AtPrevalence):
    """Matthews' correlation coefficient."""

    kind: Literal["mcc"] = "mcc"

    def chosen(self) -> Objective:
        """Return the objective."""
        return self._there(Mcc())


class BestFBeta(_AtPrevalence):
    """The F-measure."""

    kind: Literal["f_beta"] = "f_beta"
    beta: float = Field(1.0, gt=0, description="recall counts beta times as much as precision")

    def chosen(self) -> Objective:
        """Return the objective."""
        return self._there(FBeta(self.beta))


class LeastCost(_AtPrevalence):
    """The price of all errors; only the ratio of the two prices decides."""

    kind: Literal["cost"] = "cost"
    miss: float = Field(1.0, gt=0, description="the price of a missed roadwork, in false alarms")

    def chosen(self) -> Objective:
        """Return the objective."""
        return self._there(Cost(miss=self.miss))


class RecordedCost(LeastCost):
    """Both prices, as any version recorded them."""

    false_alarm: float = Field(1.0, gt=0, description="the price of a false alarm")

    def chosen(self) -> Objective:
        """Return the objective."""
        return self._there(Cost(miss=self.miss, false_alarm=self.false_alarm))


_LOOKS = (
    "promises that may share images of val_calib, each at delta / looks; null: as many as you like, each at"
    " delta, so that together they may fail more often"
)


class EnoughRecall(Settings):
    """The precision, where the recall of new images is promised."""

    kind: Literal["recall_at_least"] = "recall_at_least"
    recall: float = Field(0.95, ge=0.01, le=1, description="the recall to be reached")
    delta: float | None = Field(
        0.10,
        gt=0,
        lt=1,
        description="probability with which new images may have less recall; null: the recall of val_calib"
        " itself, which promises nothing",
    )
    looks: int | None = Field(None, ge=1, description=_LOOKS)

    @pydantic.model_validator(mode="after")
    def _can_be_promised(self) -> Self:
        if self.looks is not None and self.delta is None:
            raise ValueError("looks divide a delta; give one, or leave looks out")
        if self.delta is not None and self.recall == 1:
            raise ValueError("no number of images proves a recall of 1; give a recall such as 0.99")
        return self

    def chosen(self) -> Objective:
        """Return the objective."""
        return RecallAtLeast(self.recall, None if self.delta is None else self.delta / (self.looks or 1))


class ThresholdsConfig(Settings):
    """The objective of the threshold."""

    objective: BestMcc | BestFBeta | LeastCost | EnoughRecall = Field(
        BestMcc(),
        discriminator="kind",
        description="what the threshold is best at: mcc, f_beta, cost or recall_at_least",
    )

    @pydantic.model_validator(mode="before")
    @classmethod
    def _read_older(cls, given: Any) -> Any:
        """Take what older versions recorded in a policy, flat."""
        return from_recorded("thresholds", given) if isinstance(given, dict) else given

    @property
    def objective_in_words(self) -> str:
        """The objective in words."""
        prevalence = self.objective.prevalence if isinstance(self.objective, _AtPrevalence) else None
        there = "" if prevalence is None else f" where {100 * prevalence:.12g}% of the images show roadwork"
        return f"{self.objective.kind}{there}"

    @property
    def improves_a_score(self) -> bool:
        """True where the objective is a score, which 0.5 has too; False for a recall, which 0.5 may miss."""
        return not isinstance(self.objective, EnoughRecall)

    @property
    def promised(self) -> tuple[float, float] | None:
        """Recall and the delta of one look, where the objective promises a recall of new images."""
        chosen, share = self.objective, self.share
        return (chosen.recall, share.takes) if isinstance(chosen, EnoughRecall) and share else None

    @property
    def share(self) -> Share | None:
        """The share of delta that a promised recall takes; None where nothing is promised."""
        chosen = self.objective
        if not isinstance(chosen, EnoughRecall) or chosen.delta is None:
            return None
        return Share(delta=chosen.delta, budget=chosen.looks)


class RecordedThresholds(ThresholdsConfig):
    """The objective and the constants of the fit, as any version recorded them."""

    objective: BestMcc | BestFBeta | RecordedCost | EnoughRecall = Field(BestMcc(), discriminator="kind")
    at: Literal["midpoint", "bootstrap_median"] = Field(
        "midpoint", description="midpoint of the best plateau, or the median of the midpoints of resamples"
    )
    # 200 tell the optimism of an MCC to about .002.
    resamples: int = Field(
        200, ge=10, le=100_000, description="of the bootstrap that places the median and rates the optimism"
    )
    # A seed that can be turned lets a promise be drawn until it is kept.
    seed: int = Field(
        0,
        ge=0,
        description="seed of the resamples, of the folds that hold the threshold against 0.5, and of the"
        " image of each group that a promise counts",
    )

    @pydantic.model_validator(mode="after")
    def _keeps_its_promise(self) -> Self:
        if self.at == "bootstrap_median" and self.promised is not None:
            raise ValueError(
                "a promised recall holds at its own threshold, not at the median of others;"
                " write at: midpoint, or delta: null for a recall without a promise"
            )
        return self


class ErrorPromise(Settings):
    """A bound of the share of wrong answers among the answered."""

    kind: Literal["error"] = "error"
    alpha: float = Field(0.05, gt=0, lt=1, description="largest share of wrong answers among the answered")


class TwoSidedPromise(Settings):
    """A bound for each answer."""

    kind: Literal["two_sided"] = "two_sided"
    miss: float = Field(0.05, gt=0, lt=1, description="largest share of roadwork among those answered none")
    alarm: float = Field(0.05, gt=0, lt=1, description="largest share of none among those answered roadwork")


class ExpectedPromise(Settings):
    """A bound on average over calibration sets."""

    kind: Literal["expected"] = "expected"
    alpha: float = Field(0.05, gt=0, lt=1, description="largest share of wrong answers among all images")


class GroupUnit(Settings):
    """An image drawn from a randomly drawn group: a long video counts as much as a single image."""

    kind: Literal["group"] = "group"


class ImageUnit(Settings):
    """An image drawn at random, where no group counts as more than `cap` images."""

    kind: Literal["image"] = "image"
    cap: int = Field(
        20,
        ge=1,
        le=1_000_000,
        description="images that a longer group counts as; a group is kept with probability min(size, cap) /"
        " cap, so a cap far above the usual size leaves few",
    )


class EveryImage(Settings):
    """Every image, as if none belonged together: an older version's choice, read but not offered."""

    kind: Literal["every_image"] = "every_image"


_UNIT = (
    "what the promise is about: group, an image of a randomly drawn group; or image, any image, a group"
    " counting as at most cap of them"
)


class _Scrc(Settings):
    promise: ErrorPromise | TwoSidedPromise | ExpectedPromise = Field(
        ErrorPromise(), discriminator="kind", description="what is promised: error, two_sided or expected"
    )
    delta: float = Field(0.10, gt=0, lt=1, description="probability with which the promise may fail")
    looks: int | None = Field(None, ge=1, description=_LOOKS)

    @property
    def delta_of_a_look(self) -> float:
        """The probability with which one certificate may fail: its share of delta (Bonferroni)."""
        return self.delta / (self.looks or 1)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _read_older(cls, given: Any) -> Any:
        """Take what older versions recorded in a policy, flat."""
        return from_recorded("scrc", given) if isinstance(given, dict) else given

    @pydantic.model_validator(mode="after")
    def _require_delta(self) -> Self:
        if self.looks is not None and self.promise.kind == "expected":
            raise ConfigError(
                "a promise with a delta, which a number of looks divides",
                f"looks: {self.looks} beside the promise expected, which has none",
                "looks of scrc",
                "Leave looks out, or promise error or two_sided.",
            )
        return self


class ScrcConfig(_Scrc):
    """The promise about the answered images, and its unit."""

    unit: GroupUnit | ImageUnit = Field(GroupUnit(), discriminator="kind", description=_UNIT)


class RecordedScrc(_Scrc):
    """The promise, its unit and the constants of the certificate, as any version recorded them."""

    unit: GroupUnit | ImageUnit | EveryImage = Field(GroupUnit(), discriminator="kind", description=_UNIT)
    steps: int = Field(15, ge=1, le=1000, description="thresholds in the fixed sequence, strict to loose")
    folds: int = Field(5, ge=2, le=20, description="of the cross-validation that chooses the calibrator")
    # Fixed, as is that of the thresholds: a certificate is not drawn until it is given.
    seed: int = Field(0, ge=0, description="seed of the folds, and of the image that is drawn of a group")


LEAST_ERRORS = 30


class GateConfig(pydantic.BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """The share of images to answer."""

    coverage: float = Field(0.9, gt=0, le=1, description="share of the images of val_select to answer")


class RecordedGate(GateConfig):
    """The share to answer and the bar for a learned gate, as any version recorded them."""

    folds: int = Field(5, ge=3, le=100, description="of the cross-fit; no group is in two folds")
    seed: int = Field(0, ge=0, description="seed of the folds and of the resamples")
    resamples: int = Field(
        RESAMPLES, ge=100, le=100_000, description="of the bootstrap that compares the gate with the margin"
    )
    min_errors: int = Field(
        LEAST_ERRORS, ge=LEAST_ERRORS, description="fewer errors on val_select than this train no gate"
    )
    level: float = Field(LEVEL, ge=0.9, lt=1, description="of the interval that must exclude 0")


def as_recorded(kind: type[Recorded], config: pydantic.BaseModel) -> Recorded:
    """Return the settings of a step with the constants of the recipe, as a policy records them."""
    return kind(**config.model_dump(include=set(kind.model_fields)))
