"""The settings of the policies: the defaults stand here and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pydantic
from pydantic import Field

from streetvision_core.errors import check_choice
from streetvision_core.eval.bootstrap import RESAMPLES
from streetvision_core.eval.intervals import LEVEL
from streetvision_core.eval.objectives import Cost, FBeta, Mcc, RecallAtLeast
from streetvision_core.eval.optimism import PLACES

if TYPE_CHECKING:
    from streetvision_core.eval.objectives import Objective

OBJECTIVES = ("mcc", "f_beta", "cost", "recall_at_least")
PROMISES = ("error", "two_sided", "expected")


class ThresholdsConfig(pydantic.BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """What the threshold is best at, and where on its plateau it lies.

    It is flat, because Dagster takes no nested pydantic models as configuration; a parameter of another
    objective is not looked at.
    """

    objective: str = Field("mcc", description=f"what the threshold is best at: {', '.join(OBJECTIVES)}")
    beta: float = Field(1.0, gt=0, description="of f_beta: recall counts beta times as much as precision")
    miss_cost: float = Field(1.0, gt=0, description="of cost: the price of a missed roadwork")
    false_alarm_cost: float = Field(1.0, gt=0, description="of cost: the price of a false alarm")
    min_recall: float = Field(0.95, gt=0, le=1, description="of recall_at_least: the recall to be reached")
    at: str = Field(
        "midpoint",
        description="'midpoint' of the best plateau, or 'bootstrap_median' of the midpoints of resamples",
    )
    resamples: int = Field(
        200, ge=10, le=100_000, description="of the bootstrap that places the median and rates the optimism"
    )
    seed: int = Field(0, ge=0, description="seed of the resamples")

    @pydantic.field_validator("objective")
    @classmethod
    def _check_objective(cls, value: str) -> str:
        return check_choice(value, choices=OBJECTIVES, where="objective of the threshold")

    @pydantic.field_validator("at")
    @classmethod
    def _check_at(cls, value: str) -> str:
        return check_choice(value, choices=PLACES, where="at of the threshold")

    def chosen_objective(self) -> Objective:
        """Return the objective with its parameters."""
        objectives: dict[str, Objective] = {
            "mcc": Mcc(),
            "f_beta": FBeta(self.beta),
            "cost": Cost(miss=self.miss_cost, false_alarm=self.false_alarm_cost),
            "recall_at_least": RecallAtLeast(self.min_recall),
        }
        return objectives[self.objective]


class ScrcConfig(pydantic.BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """What is promised about the answered pictures, and how the promise is certified.

    `alpha` is of the promises error and expected, `alpha_miss` and `alpha_alarm` are of two_sided.
    """

    promise: str = Field("error", description=f"what is promised: {', '.join(PROMISES)}")
    alpha: float = Field(0.05, gt=0, lt=1, description="largest share of wrong answers among the answered")
    alpha_miss: float = Field(
        0.05, gt=0, lt=1, description="of two_sided: largest share of roadwork among those answered none"
    )
    alpha_alarm: float = Field(
        0.05, gt=0, lt=1, description="of two_sided: largest share of none among those answered roadwork"
    )
    delta: float = Field(0.10, gt=0, lt=1, description="probability with which the promise may fail")
    steps: int = Field(
        15,
        ge=1,
        le=1000,
        description="thresholds in the fixed sequence, strict to loose; 1: the strictest alone",
    )
    one_per_group: bool = Field(
        True, description="count one picture of a group; false takes pictures of a group as independent"
    )
    folds: int = Field(5, ge=2, le=20, description="of the cross-validation that chooses the calibrator")
    seed: int = Field(0, ge=0, description="seed of the folds, and of the picture that is drawn of a group")

    @pydantic.field_validator("promise")
    @classmethod
    def _check_promise(cls, value: str) -> str:
        return check_choice(value, choices=PROMISES, where="promise of scrc")


LEAST_ERRORS = 30


class GateConfig(pydantic.BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """How many pictures are answered, and when a learned gate may take the margin's place."""

    coverage: float = Field(0.9, gt=0, le=1, description="share of the pictures of val_select to answer")
    folds: int = Field(5, ge=3, le=100, description="of the cross-fit; no group is in two folds")
    seed: int = Field(0, ge=0, description="seed of the folds and of the resamples")
    resamples: int = Field(
        RESAMPLES, ge=100, le=100_000, description="of the bootstrap that compares the gate with the margin"
    )
    min_errors: int = Field(
        LEAST_ERRORS, ge=LEAST_ERRORS, description="fewer errors on val_select than this train no gate"
    )
    level: float = Field(LEVEL, ge=0.9, lt=1, description="of the interval that must exclude 0")
