"""The two staircases of the inductive Venn-Abers predictor, in O(n log n).

For a new score s and each label it might have, isotonic regression on the calibration pictures together
with (s, label) would give s a value. Doing that for every s would be one regression a score. Instead, the
isotonic fit is the slope of the greatest convex minorant of the cumulative sums, and moving the added
picture one score to the right changes one point of the diagram: the corners right of it are kept on a
stack, and each point is pushed and popped at most once.

Sums are Python integers and corners are compared by cross products, so nothing is rounded before the
division that gives a probability.

Source: V. Vovk, I. Petej, V. Fedorova, Large-scale probabilistic predictors with and without guarantees of
validity (arXiv 1511.00213), algorithms 1 to 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from typing import TypeAlias

    from streetvision_core.eval.inputs import Bools, Floats

    Point: TypeAlias = tuple[int, int]


def upper_staircase(scores: Floats, labels: Bools) -> tuple[Floats, Floats]:
    """Return the value of an added roadwork: values[i] for scores up to edges[i], above the last 1.

    Takes finite scores [N] and labels [N]; edges rise strictly, values rise strictly and lie in (0, 1].
    """
    distinct, place = np.unique(scores, return_inverse=True)
    pictures = np.bincount(place)
    roadwork = np.bincount(place[labels], minlength=distinct.size)
    values = np.array(_added_roadwork(pictures.tolist(), roadwork.tolist()))
    last = np.flatnonzero(np.append(values[1:] != values[:-1], [True]))
    return distinct[last], values[last]


def lower_staircase(scores: Floats, labels: Bools) -> tuple[Floats, Floats]:
    """Return the value of an added none: values[i] for scores from edges[i] on, below the first 0.

    It is the upper staircase seen in the mirror: scores and labels turned round.
    """
    edges, values = upper_staircase(-scores, ~labels)
    return -edges[::-1], 1 - values[::-1]


def _added_roadwork(pictures: list[int], roadwork: list[int]) -> list[float]:
    """Value that isotonic regression gives a roadwork added at each distinct score, from left to right."""
    points: list[Point] = [(-1, -1), (0, 0)]
    for count, positive in zip(pictures, roadwork, strict=True):
        points.append((points[-1][0] + count, points[-1][1] + positive))
    corners = _corners(points)[::-1]  # the leftmost corner is on top
    values = []
    moved = points[0]
    for i in range(1, len(points) - 1):
        top, second = corners[-1], corners[-2]
        values.append((second[1] - top[1]) / (second[0] - top[0]))
        # The added picture moves behind this score: the point before it is shifted by what it passes.
        x, y = points[i + 1]
        moved = (moved[0] + x - points[i][0], moved[1] + y - points[i][1])
        if _cross(top, second, moved) >= 0:
            continue
        corners.pop()
        while len(corners) > 1 and _cross(moved, corners[-1], corners[-2]) <= 0:
            corners.pop()
        corners.append(moved)
    return values


def _corners(points: list[Point]) -> list[Point]:
    """Corners of the greatest convex minorant of points from left to right."""
    corners: list[Point] = []
    for point in points:
        while len(corners) > 1 and _cross(corners[-2], corners[-1], point) <= 0:
            corners.pop()
        corners.append(point)
    return corners


def _cross(a: Point, b: Point, c: Point) -> int:
    """Positive where a, b, c turn left, that is, c lies above the line from a to b."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
