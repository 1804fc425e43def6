"""Parts of the tested images with figures of their own: values of an attribute, levels of the conditions.

A level is every image of val_test as it arrives under one of the conditions, so levels are paired: they
differ in nothing but what happened to the images. The first one is the images as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, TypeAlias

import numpy as np
from pydantic import Field, model_validator

from streetvision_core.data.conditions.profile import AS_IT_IS
from streetvision_core.eval.intervals import FEW_GROUPS
from streetvision_core.eval.metrics import BRIEF, Confusion
from streetvision_core.io.records import Record
from streetvision_core.report.figures import Figures, Groups, Range, intervals_of, require_metrics

if TYPE_CHECKING:
    import numpy.typing as npt

    from streetvision_core.eval.inputs import Bools
    from streetvision_core.eval.metrics import Integers

    # The number of each image's group, [N].
    Units: TypeAlias = npt.NDArray[np.intp]

SMALLEST_SLICE = 30


class Slice(Figures, extra="allow"):
    """The images with one value of one attribute; metrics are of the answered among its n images.

    `accuracy`, `mcc`, `fnr` and `fpr` are intervals over the `groups` that hold an answered one, None where
    none is answered; of a metric that became brief since then, the interval is an extra. Without `groups` an
    older version wrote it: `accuracy` takes images as independent.
    """

    __pydantic_extra__: dict[str, Range | None] = Field(init=False)
    attribute: str
    value: str
    n: int
    answered: int
    too_small: bool
    accuracy: Range | None
    mcc: Range | None = None
    fnr: Range | None = None
    fpr: Range | None = None
    groups: Groups | None = None

    @model_validator(mode="after")
    def _extras_are_of_metrics(self) -> Self:
        require_metrics(self.model_extra, self.metrics)
        return self

    def interval(self, name: str) -> Range | None:
        """Return the interval over groups of a metric; None where none was recorded."""
        interval: Range | None = getattr(self, name, None) if self.groups else None
        return interval

    @property
    def reading(self) -> str:
        """The warning for whoever reads its figures; empty where there is none."""
        if self.too_small:
            return "too small to read"
        if self.groups is None or not self.groups.few:
            return ""
        groups = self.groups
        few = {"": groups.n, " with roadwork": groups.roadwork, " without": groups.none}
        return next(f"few groups{kind}: {n}" for kind, n in few.items() if n < FEW_GROUPS)


class LevelsReport(Record):
    """The figures of each policy at every level of a profile of conditions, the images as they are first.

    `profile` names the profile and its date. `tuned` is true where the policies were fitted under it, and
    their figures elsewhere in the report are of images drawn from all of its levels.
    """

    profile: str
    tuned: bool
    policies: dict[str, tuple[Slice, ...]]

    @model_validator(mode="after")
    def _begins_as_it_is(self) -> Self:
        names = {tuple(level.value for level in levels) for levels in self.policies.values()}
        if len(names) != 1 or next(iter(names))[:1] != (AS_IT_IS,):
            raise ValueError(f"the same levels for every policy, {AS_IT_IS!r} first, not {sorted(names)}")
        return self

    @property
    def tuned_in_words(self) -> str:
        """The conditions that the operating point was tuned under, and those of the other figures."""
        if self.tuned:
            return (
                f"Policies and certificates were fitted under {self.profile} and hold there: every other"
                " figure of this report is of images at levels drawn by their weights."
            )
        return (
            "Policies and certificates were fitted on images as they are, and promise nothing at the other"
            " levels: every other figure of this report is of images as they are."
        )

    def reading(self, kind: str) -> str:
        """Name the worst level of a policy beside the images as they are, and those where it answers none."""
        levels = self.policies[kind]
        plain, answered = levels[0], [level for level in levels if level.answered]
        worst = min(answered, key=lambda level: level.metrics["mcc"], default=None)
        if worst is None:
            return "No image is answered at any level."
        silent = ", ".join(level.value for level in levels if not level.answered)
        apart = f"No image is answered at {silent}. " if silent else ""
        if worst is plain:
            return f"{apart}No {'other ' if silent else ''}level is worse than the images as they are."
        return (
            f"{apart}Worst is {worst.value}: MCC {worst.text('mcc')}, where the images as they are give"
            f" {plain.text('mcc')}."
        )


def slice_of(counts: Integers, *, attribute: str, value: str, n: int) -> Slice:
    """Return the figures of n images of which `counts` [G, 4] were answered, by group (`group_counts`)."""
    known, answered = intervals_of(counts) if counts.any() else None, int(counts.sum())
    return Slice(
        attribute=attribute,
        value=value,
        n=n,
        answered=answered,
        too_small=answered < SMALLEST_SLICE,
        metrics=Confusion(*counts.sum(axis=0).tolist()).metrics(),
        **{name: getattr(known, name, None) for name in (*(metric.name for metric in BRIEF), "groups")},
    )


def group_counts(labels: Bools, answers: Bools, taken: Bools, unit: Units) -> Integers:
    """Count tp, tn, fp and fn of the taken images in each of all groups, int64 [G, 4].

    Labels and answers, bool [N], are true for roadwork; `taken` [N] flags the images that are counted.
    """
    cell = np.where(answers == labels, ~labels, np.where(answers, 2, 3))
    size = 4 * (int(unit.max()) + 1)
    return np.bincount((unit * 4 + cell)[taken], minlength=size).reshape(-1, 4)
