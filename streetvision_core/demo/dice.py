"""Random choices by name.

A thin reading aid over `numpy.random.Generator`: every draw of the demo goes through it, so the
samplers read as sentences. One `Dice` belongs to one sequence, seeded by (seed, sequence number).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")
Colour = tuple[int, int, int]
Grain = np.ndarray[tuple[int, ...], np.dtype[np.int16]]


def colours(text: str) -> tuple[Colour, ...]:
    """Return colours that are written in hex, "c8102e f0f0f0" for instance."""
    return tuple((red, green, blue) for red, green, blue in map(bytes.fromhex, text.split()))


class Dice:
    """Draws numbers, members and colours from one generator, in the order it is asked."""

    def __init__(self, *seed: int) -> None:
        self._generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))

    def between(self, low: float, high: float) -> float:
        """A uniform number in [low, high)."""
        return low + (high - low) * float(self._generator.random())

    def whole(self, low: int, high: int) -> int:
        """A uniform integer from low to high, both included."""
        return int(self._generator.integers(low, high + 1))

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return float(self._generator.random()) < probability

    def side(self) -> int:
        """Left (-1) or right (+1)."""
        return 1 if self.chance(0.5) else -1

    def pick(self, members: Sequence[T]) -> T:
        """One member, all equally likely."""
        return members[self.whole(0, len(members) - 1)]

    def tint(self, colour: Colour, spread: int = 14) -> Colour:
        """The colour, moved by at most spread levels in each channel."""
        red, green, blue = (
            min(255, max(0, level + step))
            for level, step in zip(colour, self._generator.integers(-spread, spread + 1, 3), strict=True)
        )
        return int(red), int(green), int(blue)

    def grain(self, height: int, width: int) -> Grain:
        """Sensor noise before scaling: int16 [height, width], the sum of two uniform bytes, mean 0."""
        noise = self._generator.integers(0, 256, (2, height, width), dtype=np.uint8)
        centred: Grain = noise.sum(axis=0, dtype=np.int16) - np.int16(255)
        return centred
