"""The metrics of a binary classifier, from four counts.

Labels and decisions are validated and counted once into a `Confusion`; roadwork (1) is the positive class.
`METRICS` is the one table of what is computed of that record, and of what people read: records, the report,
the card, the hub and the tables of the UI go through it. The formula of MCC stands in `mcc_from_counts` and
nowhere else: thresholds, plots and reports all come here.

Where a denominator is zero the value is 0, as in scikit-learn with `zero_division=0`: precision without
a positive decision, recall and FNR without a positive label, FPR without a negative label, F1 without
either, and MCC as soon as labels or decisions are of one class. So without a positive label recall and
FNR are both 0 and do not add up to 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streetvision_core.eval.inputs import binary_vector, require_equal_length

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, TypeAlias

    import numpy.typing as npt

    from streetvision_core.eval.inputs import Floats, Values

    # Effective counts need not be whole.
    Counts: TypeAlias = int | np.integer[Any] | npt.NDArray[np.integer[Any]] | Floats
    Integers: TypeAlias = npt.NDArray[np.integer[Any]]
    Groups: TypeAlias = Sequence[str] | npt.NDArray[Any]


COUNTS = ("tp", "tn", "fp", "fn")


@dataclass(frozen=True)
class Metric:
    """A metric of decisions: its name in records, and the label that people read.

    A share of images counts the cells `events` among the cells `trials`; its value and its interval follow.
    Any other metric is the property of `Confusion` of its name, and has an interval where
    `eval/intervals.py` knows one. A `brief` metric stands in the tables of policies, slices and levels too,
    which hold a few.
    """

    name: str
    label: str
    events: tuple[str, ...] = ()
    trials: tuple[str, ...] = ()
    brief: bool = False


METRICS = (
    Metric("mcc", "MCC", brief=True),
    Metric("accuracy", "accuracy", ("tp", "tn"), COUNTS, brief=True),
    Metric("precision", "precision", ("tp",), ("tp", "fp")),
    Metric("recall", "recall", ("tp",), ("tp", "fn")),
    Metric("f1", "F1"),
    Metric("fnr", "missed (FNR)", ("fn",), ("tp", "fn"), brief=True),
    Metric("fpr", "false alarms (FPR)", ("fp",), ("fp", "tn"), brief=True),
)
BRIEF = tuple(metric for metric in METRICS if metric.brief)
LABELS = {metric.name: metric.label for metric in METRICS}
# What stands in place of any metric where no image was answered.
NO_ANSWERS = "no answers"
# What every record of metrics holds, whichever version wrote it. It is frozen: a metric that is added later
# goes into `METRICS` alone, or every record that lacks it would count as damaged.
METRICS_OF_FIRST_SCHEMA = (
    "mcc", "accuracy", "precision", "recall", "f1", "fnr", "fpr", "tp", "tn", "fp", "fn"
)  # fmt: skip


def mcc_from_counts(*, tp: Counts, tn: Counts, fp: Counts, fn: Counts) -> Floats:
    """Matthews correlation of counts, elementwise, float64 in [-1, 1]; 0 where the denominator is 0.

    The denominator is the root of a product of four counts, which overflows int64 above about 110,000
    samples; in float64 it does not. Up to 1.9e8 samples both products of two counts below are exact
    integers, and because sqrt(x * x) == x in IEEE 754 the result never leaves [-1, 1] by rounding and
    is exactly 1 for a perfect classifier.

    Source: B. W. Matthews, Biochimica et Biophysica Acta 405 (1975), 442-451.
    """
    labelled = np.add(tp, fn, dtype=np.float64) * np.add(tn, fp, dtype=np.float64)
    decided = np.add(tp, fp, dtype=np.float64) * np.add(tn, fn, dtype=np.float64)
    covariance = np.multiply(tp, tn, dtype=np.float64) - np.multiply(fp, fn, dtype=np.float64)
    squared = np.asarray(labelled * decided)
    mcc: Floats = np.divide(covariance, np.sqrt(squared), out=np.zeros_like(squared), where=squared > 0)
    return mcc


@dataclass(frozen=True, order=True)
class Confusion:
    """The counts of each decision for each label; roadwork is positive."""

    tp: int
    tn: int
    fp: int
    fn: int

    @property
    def total(self) -> int:
        """All images counted."""
        return self.tp + self.tn + self.fp + self.fn

    @property
    def mcc(self) -> float:
        """Matthews correlation coefficient, in [-1, 1]."""
        return float(mcc_from_counts(tp=self.tp, tn=self.tn, fp=self.fp, fn=self.fn))

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        whole = 2 * self.tp + self.fp + self.fn
        return 2 * self.tp / whole if whole else 0.0

    def metrics(self) -> dict[str, float | int]:
        """Return every metric of `METRICS`, float, and the four counts, int, by name."""
        return {metric.name: self._value(metric) for metric in METRICS} | vars(self)

    def _value(self, metric: Metric) -> float:
        if not metric.trials:
            value: float = getattr(self, metric.name)
            return value
        events, trials = (sum(vars(self)[cell] for cell in cells) for cells in (metric.events, metric.trials))
        return events / trials if trials else 0.0


def count_confusion(y_true: Values, y_pred: Values) -> Confusion:
    """Count decisions against labels, both [N] of 0/1 or bool: NumPy, torch on any device, or lists.

    Raises:
        DataError: shapes differ, are not [N], are empty, or hold anything but 0 and 1.
    """
    truth = binary_vector(y_true, name="y_true")
    decided = binary_vector(y_pred, name="y_pred")
    require_equal_length(y_true=truth, y_pred=decided)
    tp = int(np.count_nonzero(truth & decided))
    positives, called = int(np.count_nonzero(truth)), int(np.count_nonzero(decided))
    return Confusion(tp=tp, tn=truth.size - positives - called + tp, fp=called - tp, fn=positives - tp)


def compute_mcc(y_true: Values, y_pred: Values) -> float:
    """Matthews correlation of decisions with labels, both [N] of 0/1 or bool; 0 where it is undefined.

    Raises:
        DataError: as `count_confusion`.
    """
    return count_confusion(y_true, y_pred).mcc


def compute_all_metrics(y_true: Values, y_pred: Values) -> dict[str, float | int]:
    """Compute the metrics of `METRICS` (float), and tp, tn, fp, fn (int), by name.

    Takes labels and decisions, [N] of 0/1 or bool each. Zero denominators give 0 (see the module).

    Raises:
        DataError: as `count_confusion`.
    """
    return count_confusion(y_true, y_pred).metrics()


def confusion_by_group(labels: Values, decisions: Values, groups: Groups | None = None) -> Integers:
    """Count tp, tn, fp and fn of each group, int64 [G, 4], in the order of the groups' names.

    Labels and decisions are [N] of 0/1 or bool; without groups each image is one of its own.

    Raises:
        DataError: what `count_confusion` refuses, or groups that are not one an image.
    """
    truth, decided = binary_vector(labels, name="labels"), binary_vector(decisions, name="decisions")
    require_equal_length(labels=truth, decisions=decided)
    right = truth == decided
    return cells_by_group(np.where(right, np.where(truth, 0, 1), np.where(decided, 2, 3)), 4, groups)


def cells_by_group(cell: Integers, cells: int, groups: Groups | None = None) -> Integers:
    """Count how often each group falls into each cell, int64 [G, cells], in the order of the groups' names.

    `cell` [N] counts from 0; without groups each image is one of its own.

    Raises:
        DataError: groups that are not one an image.
    """
    unit, count = _units(groups, cell.size)
    return np.bincount(unit * cells + cell, minlength=cells * count).reshape(count, cells)


def mcc_of_counts(counts: Integers) -> Floats:
    """MCC of tp, tn, fp, fn in the last axis, elementwise."""
    tp, tn, fp, fn = np.moveaxis(counts, -1, 0)
    return mcc_from_counts(tp=tp, tn=tn, fp=fp, fn=fn)


def _units(groups: Groups | None, images: int) -> tuple[npt.NDArray[np.intp], int]:
    """Number the unit of each image from 0, and count the units."""
    if groups is None:
        return np.arange(images), images
    names, unit = np.unique(np.asarray(groups), return_inverse=True)
    require_equal_length(images=np.empty(images, np.bool_), groups=unit)
    return unit, names.size
