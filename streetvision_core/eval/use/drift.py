"""A two-sample test of new images against those that the promise was given for.

Compared are the margins of the classifier and random projections of its features, each by the test of
Kolmogorov and Smirnov; the least p-value is multiplied by how many were compared (Bonferroni), so that under
equal distributions it is below `level` with probability at most `level`. Nothing is fitted on either sample:
the directions follow from a seed alone. Images of one group resemble each other, so one of each group is
compared.

Sources: Rabanser, Guennemann and Lipton, Failing Loudly (arXiv 1810.11953), which compared such tests:
univariate ones on what the classifier says and on few dimensions of the features were the most sensitive.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from streetvision_core.errors import DataError
from streetvision_core.eval.risk_control import one_per_group
from streetvision_core.io.records import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from streetvision_core.eval.decisions import OperatingPoint
    from streetvision_core.eval.inputs import Floats, Values

DRIFT_NAME = "drift.json"
DIRECTIONS, LEVEL, SEED = 16, 0.05, 0
# Of fewer in both samples hardly any difference would be enough.
LEAST = 10
# More would hardly notice more, and a bundle ships them.
MOST = 1000
MARGIN = "margin"


# What float32 holds; their squares are finite in float64.
_Cell = Annotated[float, Field(ge=-3.5e38, le=3.5e38)]


class Reference(Record):
    """`drift.json`: what new images are compared with, of one image of each group of val_calib.

    `sample` is [units, 1 + k]: the margin of the checkpoint, then the projections of its features onto the
    `directions` of the seed; k is 0 where a model gives no features. It names no image, and holds at most
    `MOST` of them. `groups_known` tells whether the data named groups.
    """

    seed: Annotated[int, Field(ge=0)]
    groups_known: bool
    units: Annotated[int, Field(ge=1)]
    sample: tuple[Annotated[tuple[_Cell, ...], Field(min_length=1, max_length=1 + DIRECTIONS)], ...]

    @model_validator(mode="after")
    def _is_one_table(self) -> Self:
        if len(self.sample) != self.units or len({len(row) for row in self.sample}) != 1:
            raise ValueError(f"{self.units} rows of one length")
        return self

    @property
    def projections(self) -> int:
        """The number k of projections."""
        return len(self.sample[0]) - 1

    def folded(self, point: OperatingPoint) -> Floats:
        """Return the sample [units, 1 + k] with an operating point folded into the margins."""
        sample = np.array(self.sample, dtype=np.float64)
        sample[:, 0] = sample[:, 0] / point.temperature - point.shift
        return sample


@dataclass(frozen=True)
class Drift:
    """The comparison of a sample with the reference.

    `p_value` is corrected for how many statistics were compared; `statistic` is the name of the one that
    differs most and `distance` the largest distance of its two distribution functions, in [0, 1]. `reference`
    and `new` are the images compared, one of a group.
    """

    p_value: float
    statistic: str
    distance: float
    reference: int
    new: int
    level: float = LEVEL

    @property
    def void(self) -> bool:
        """True where the new images are not like those of the promise."""
        return self.p_value <= self.level


def directions(width: int, *, seed: int, count: int = DIRECTIONS) -> npt.NDArray[np.float32]:
    """Return random directions, float32 [width, count] of unit length, that follow from the seed alone."""
    # The bit generator's stream is promised, that of `Generator` is not: Box and Muller by hand.
    raw = np.random.PCG64(seed).random_raw(2 * width * count).reshape(2, width, count)
    first, second = (raw >> np.uint64(11)) * 2.0**-53
    normal = np.sqrt(-2 * np.log1p(-first)) * np.cos(2 * np.pi * second)
    axes: npt.NDArray[np.float32] = (normal / np.linalg.norm(normal, axis=0)).astype(np.float32)
    return axes


def project(
    features: npt.NDArray[np.float32], *, seed: int, count: int = DIRECTIONS
) -> npt.NDArray[np.float32]:
    """Return projections float32 [N, count] of features float32 [N, D] onto the directions of a seed."""
    return features @ directions(features.shape[1], seed=seed, count=count)


def sample_of(margins: Values, projections: Values, positions: npt.NDArray[np.intp]) -> Floats:
    """Return what is compared, float64 [units, 1 + k]: margins [N] and projections [N, k] of some images."""
    return np.column_stack([margins, projections])[positions].astype(np.float64)


def reference_of(
    margins: Values, projections: Values, groups: Sequence[str], *, groups_known: bool, seed: int = SEED
) -> Reference:
    """Return the reference of val_calib: margins [N], projections [N, k] and the group of each image."""
    chosen = one_per_group(groups, seed=seed)
    if len(chosen) > MOST:
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, MOST, replace=False))
    rows = sample_of(margins, projections, chosen).astype(np.float32)
    # The shortest text of a float32 reads back as the same float32; that of its float64 is twice as long.
    sample = tuple(tuple(float(str(cell)) for cell in row) for row in rows)
    return Reference(seed=seed, groups_known=groups_known, units=len(sample), sample=sample)


def compare_samples(reference: Floats, new: Floats, *, level: float = LEVEL) -> Drift:
    """Compare two samples, [n, 1 + k] and [m, 1 + k]: the margin first, then the projections.

    Raises:
        DataError: fewer than `LEAST` images in either.
    """
    from scipy.stats import ks_2samp

    if min(len(reference), len(new)) < LEAST:
        few = "images of more groups" if len(new) < LEAST else "a bundle whose val_calib has more groups"
        raise DataError(
            f"at least {LEAST} images of different groups in the reference and among the new ones",
            f"{len(reference)} and {len(new)}",
            "drift",
            f"Give {few}: of so few no test can tell.",
        )
    tests = [ks_2samp(old, other) for old, other in zip(reference.T, new.T, strict=True)]
    least = min(range(len(tests)), key=lambda column: tests[column].pvalue)
    return Drift(
        p_value=min(1.0, float(tests[least].pvalue) * len(tests)),
        statistic=MARGIN if least == 0 else f"features, direction {least}",
        distance=float(tests[least].statistic),
        reference=len(reference),
        new=len(new),
        level=level,
    )


def farthest(reference: Floats, new: Floats, count: int) -> npt.NDArray[np.intp]:
    """Return the positions of the `count` new images that are farthest from the reference, farthest first.

    Takes reference [n, 1 + k] and new images [m, 1 + k]. Distances are in standard deviations of the
    reference along its principal axes.
    """
    centre, spread = reference.mean(axis=0), np.cov(reference, rowvar=False)
    inverse = np.linalg.pinv(np.atleast_2d(spread), hermitian=True)
    away = new - centre
    return np.argsort(-np.einsum("ij,jk,ik->i", away, inverse, away), kind="stable")[:count]
