"""How the gate is fitted and compared, as configuration: the defaults stand here and nowhere else."""

from __future__ import annotations

import pydantic
from pydantic import Field

from streetvision_core.eval.bootstrap import RESAMPLES
from streetvision_core.eval.intervals import LEVEL

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
