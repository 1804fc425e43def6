"""The promise of a recall in a threshold policy: what was counted, what follows from it, and its words.

`eval.use.recall` says why the promise holds and which images of val_calib are counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Self

import numpy as np
from pydantic import Field, FiniteFloat, model_validator

from streetvision_core.eval.decisions import ROUNDING, percent
from streetvision_core.eval.inputs import margin_vector
from streetvision_core.eval.use.recall import needed_units, recall_bound, roadwork_units
from streetvision_core.io.records import Record
from streetvision_core.policies.guarantee import tried

if TYPE_CHECKING:
    from streetvision_core.eval.decisions import LabelledLogits
    from streetvision_core.policies.config import RecordedThresholds

_Level = Annotated[FiniteFloat, Field(gt=0, lt=1)]
_Share = Annotated[FiniteFloat, Field(ge=0, le=1)]


class PromisedRecall(Record):
    """A recall that new images have with probability 1 - delta, and the count behind it.

    Of `units` roadwork images of val_calib, one drawn from each group that holds any, `missed` are not above
    the threshold. `lower_bound` is the Clopper-Pearson bound of the recall at 1 - delta, and `needed` is how
    many units the recall takes without a miss. `delta` is that of this one promise, `looks` the number of
    promises on the same images among which a larger one was divided, None where it was not. `groups_known`
    says whether the data names groups, None where that is not recorded; without them each image is a group.
    """

    recall: _Level
    delta: _Level
    looks: Annotated[int, Field(ge=1)] | None = None
    units: Annotated[int, Field(gt=0)]
    missed: Annotated[int, Field(ge=0)]
    lower_bound: _Share
    needed: Annotated[int, Field(gt=0)]
    groups_known: bool | None

    @model_validator(mode="after")
    def _follows_from_its_counts(self) -> Self:
        bound = recall_bound(self.missed, self.units, delta=self.delta)
        needed = needed_units(recall=self.recall, delta=self.delta)
        if abs(bound - self.lower_bound) > ROUNDING or needed != self.needed:
            raise ValueError(
                f"{self.missed} missed of {self.units} bound the recall by {bound:.6g} and it needs {needed},"
                f" but {self.lower_bound:.6g} and {self.needed} are recorded"
            )
        if self.feasible and bound < self.recall - ROUNDING:
            raise ValueError(f"a bound of {bound:.6g} proves no recall of {self.recall:g}")
        return self

    @property
    def feasible(self) -> bool:
        """True where the units are enough for the promise."""
        return self.units >= self.needed

    def shortfall(self) -> str:
        """Say what the promise would take, and what there is."""
        return (
            f"a recall of {percent(self.recall)} with probability {percent(1 - self.delta)} takes at least"
            f" {self.needed} {self._counted} of val_calib, and there are {self.units}, which allow"
            f" {percent(round(self.lower_bound - 5e-4, 3))}, so it calls every image roadwork"
        )

    def words(self) -> str:
        """Return the promise with its unit and its conditions, or why there is none."""
        if not self.feasible:
            return f"It answers every image, and promises nothing: {self.shortfall()}."
        return (
            f"It answers every image. With probability at least {percent(1 - self.delta * (self.looks or 1))}"
            f" over the calibration images, {self._unit} is called so with probability at least"
            f" {percent(self.recall)}; of {self.units} in val_calib it misses {self.missed}. Conditions: new"
            f" images come as those of val_calib did{self._independent}; weights, preprocessing and this file"
            f" are as they were fitted; {tried(self.looks, 'threshold')}. A change of camera, place, season"
            " or preprocessing voids it."
        )

    @property
    def _unit(self) -> str:
        if self.groups_known is False:
            return (
                "a roadwork image drawn at random (images taken as independent, because no groups are known)"
            )
        return "a roadwork image drawn from a randomly drawn group that holds any"

    @property
    def _counted(self) -> str:
        return "roadwork images (no groups known)" if self.groups_known is False else "groups with roadwork"

    @property
    def _independent(self) -> str:
        return "" if self.groups_known is False else ", the groups independent of each other"


def promised_recall(
    config: RecordedThresholds, calib: LabelledLogits, *, margin: float, groups_known: bool | None
) -> PromisedRecall | None:
    """Count val_calib at a threshold on the margin; None where the objective promises no recall."""
    objective = config.promised
    if objective is None:
        return None
    units = roadwork_units(np.asarray(calib.labels) == 1, calib.groups, seed=config.seed)
    missed = int(np.count_nonzero(margin_vector(calib.logits[units]) <= margin))
    recall, delta = objective
    return PromisedRecall(
        recall=recall,
        delta=delta,
        looks=None if config.share is None else config.share.budget,
        units=units.size,
        missed=missed,
        lower_bound=recall_bound(missed, units.size, delta=delta),
        needed=needed_units(recall=recall, delta=delta),
        groups_known=groups_known,
    )
