"""A profile of conditions: named, dated levels, each a list of operations with their constants.

An image is first shrunk until its shorter side has `size` pixels, never enlarged, unless an operation of the
level crops, which gives `size` x `size` pixels. Then the operations change it one after the other, and it is
encoded as a JPEG of `quality` and decoded again. A profile without levels leaves every image as it is.

A profile is bounded: sizes, numbers of levels and operations, and every constant, so that a configuration of
somebody else's costs no more than a few milliseconds an image.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Self

import pydantic
from pydantic import Field

from streetvision_core.errors import ConfigError

# The level of the images as they are: no profile may call one of its own so.
AS_IT_IS = "as_is"
MOST_LEVELS, MOST_OPERATIONS, MOST_STRENGTHS = 24, 12, 16
_NAME = r"^[a-z0-9][a-z0-9_.-]{0,39}$"
# Of the constants of each operation: smallest, largest, and whether two of them are a range.
BOUNDS = {
    "rotate": (-180.0, 180.0, True),
    "crop": (0.01, 1.0, True),
    "gain": (0.0, 4.0, False),
    "chroma": (0.0, 4.0, False),
    "fog": (0.0, 8.0, False),
    "rain": (0.0, 10.0, False),
    "dirt": (0.0, 64.0, False),
    "motion": (0.0, 0.25, False),
    "blur": (0.0, 5.0, False),
    "resample": (1.0, 16.0, False),
    "noise": (0.0, 64.0, False),
    "jpeg": (1.0, 95.0, False),
}
_DATE = r"^\d{4}-\d{2}-\d{2}$"


class Settings(pydantic.BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """Settings of conditions: none unknown, every number finite."""


class Operation(Settings):
    """One operation, named by the only field that is given: the strengths of which one is drawn.

    `rotate` and `crop` are ranges instead, [smallest, largest].
    """

    rotate: list[float] | None = Field(None, description="range of degrees; corners become black")
    crop: list[float] | None = Field(
        None, description="range of the share of the area that a square crop keeps; [1, 1] is the centre"
    )
    gain: list[float] | None = Field(None, description="factor of every value")
    chroma: list[float] | None = Field(None, description="factor of the distance to grey")
    fog: list[float] | None = Field(None, description="optical depth at the horizon")
    rain: list[float] | None = Field(None, description="drops per 1,000 pixels")
    dirt: list[float] | None = Field(None, description="spots on the lens")
    motion: list[float] | None = Field(None, description="length of the blur as share of the shorter side")
    blur: list[float] | None = Field(None, description="sigma of a Gaussian blur in pixels; 0 for none")
    resample: list[float] | None = Field(None, description="factor by which it is shrunk and enlarged again")
    noise: list[float] | None = Field(None, description="sigma of noise in luma and chroma, in grey levels")
    jpeg: list[float] | None = Field(None, description="quality of a JPEG, 1 to 95")

    @property
    def name(self) -> str:
        """The name of the operation."""
        return self._named()[0]

    @property
    def strengths(self) -> tuple[float, ...]:
        """The strengths of which one is drawn, or the two ends of a range."""
        return tuple(getattr(self, self.name))

    @property
    def is_range(self) -> bool:
        """True if the strengths are the two ends of a range."""
        return BOUNDS[self.name][2]

    def __str__(self) -> str:
        joint = " to " if self.is_range else ", "
        return f"{self.name} {joint.join(f'{value:.4g}' for value in self.strengths)}"

    def _named(self) -> list[str]:
        return [name for name in type(self).model_fields if getattr(self, name) is not None]

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        named = self._named()
        if len(named) != 1:
            expected = f"exactly one operation out of {', '.join(BOUNDS)}"
            action = "Write each as an entry of its own: [{gain: [0.3]}, {jpeg: [20, 30]}]."
            raise ConfigError(expected, " and ".join(named) or "none", "operations of a level", action)
        low, high, ranged = BOUNDS[named[0]]
        given = self.strengths
        count = len(given) == 2 and given[0] <= given[1] if ranged else 1 <= len(given) <= MOST_STRENGTHS
        if not count or not all(low <= value <= high for value in given):
            wanted = "two numbers in order" if ranged else f"1 to {MOST_STRENGTHS} numbers"
            found, action = f"{list(given)[: MOST_STRENGTHS + 1]}", "Correct the strengths of this operation."
            raise ConfigError(f"{wanted} from {low:g} to {high:g}", found, f"{named[0]} of a level", action)
        return self

    @pydantic.model_serializer
    def _only_what_is_named(self) -> dict[str, list[float]]:
        return {self.name: list(self.strengths)}


class Level(Settings):
    """One of the conditions: how often it is met, and what it does to an image, in this order."""

    name: str = Field(pattern=_NAME, description="lower case, at most 40 characters")
    weight: float = Field(1.0, ge=0, le=1_000_000, description="how often it is met, beside the others")
    operations: list[Operation] = Field([], max_length=MOST_OPERATIONS, description="one after the other")


class Profile(Settings):
    """A named, dated profile of conditions; without levels every image is as it is."""

    name: str = Field("own", pattern=_NAME, description="lower case, at most 40 characters")
    dated: str = Field(
        "2026-11-28", pattern=_DATE, description="the day from which on it is meant, YYYY-MM-DD"
    )
    size: int = Field(256, ge=32, le=1024, description="shorter side in pixels that the model gets to see")
    quality: int = Field(0, ge=0, le=95, description="of the JPEG in which it arrives; 0 for none")
    levels: list[Level] = Field([], max_length=MOST_LEVELS, description="the conditions and their weights")

    @property
    def is_as_is(self) -> bool:
        """True if every image is left as it is."""
        return not self.levels

    @property
    def source_side(self) -> int:
        """The shorter side in pixels that an image needs, so that no crop of it is enlarged; 0 as it is."""
        operations = [operation for level in self.levels for operation in level.operations]
        crops = [operation.strengths[0] for operation in operations if operation.name == "crop"]
        return math.ceil(self.size / math.sqrt(min(crops, default=1.0))) if self.levels else 0

    @property
    def title(self) -> str:
        """The name, its date, and its levels in words."""
        levels = ", ".join(self.names)
        return f"{self.name} of {self.dated}" + (f": {levels}" if levels else "")

    def table(self) -> list[dict[str, object]]:
        """Return a row for each level: how often it is met, and its operations with their constants."""
        total = sum(level.weight for level in self.levels)
        return [
            {
                "level": level.name,
                "share": level.weight / total,
                "operations": "; ".join(map(str, level.operations)) or "none",
            }
            for level in self.levels
        ]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the levels, in order."""
        return tuple(level.name for level in self.levels)

    def level(self, name: str) -> Level:
        """Return a level by its name."""
        return next(level for level in self.levels if level.name == name)

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        counts = Counter((AS_IT_IS, *self.names))
        repeated = [name for name, count in counts.items() if count > 1]
        if repeated or (self.levels and not sum(level.weight for level in self.levels)):
            expected = "levels with names of their own, one of them at least with a weight above 0"
            found = f"{repeated[0]!r} twice, the name as_is counted" if repeated else "no weight above 0"
            action = "Rename one of them." if repeated else "Give one a weight."
            raise ConfigError(expected, found, f"levels of the conditions {self.name}", action)
        return self
