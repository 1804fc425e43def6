"""Many views of one image: the whole of it, and a grid of overlapping crops.

What a network sees of a frame of 1280 x 720 at 224 pixels is a sixth of its width: a cone 12 pixels wide
is two. Each crop of the grid goes through the same preprocessing and the same network as the whole, and
the logits of all views are pooled to one pair (`models.pooling`).

The cells of a grid are of one size, neighbours share a given part of a cell's side, and together they cover
the image exactly to its edges: `boxes`. Where the numbers do not divide, a cell is larger by less than a
pixel's rounding, never smaller, so neighbours share a pixel more rather than less.

Round trip: `Views.from_config(views.to_config()) == views`. Only what `to_config` writes is read; importing
this module loads no torch.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Annotated, Any, Self

import pydantic
from pydantic import Field, FiniteFloat, model_validator

from streetvision_core.errors import ConfigError, field_faults

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streetvision_core.models.config import Grid, Whole

Box = tuple[int, int, int, int]

KEY = "views"
MEAN, TOP_K, MAX, ATTENTION = "mean", "top_k", "max", "attention"
# Roadwork fills one or two of ten views, and the maximum alone believes any single false alarm.
LOUDEST = 2
POOLINGS = (MEAN, TOP_K, MAX, ATTENTION)
LARGEST_GRID, LARGEST_OVERLAP = 6, 0.9
# The part of a side that neighbouring crops share: a barrier or a sign of that size is whole in one of them.
OVERLAP = 0.15
_ROUNDING = 1e-9  # a quotient that is whole but for float64's rounding is whole

# Beyond this float32 could overflow on the way to the softmax.
_Parameter = Annotated[FiniteFloat, Field(ge=-1e9, le=1e9)]


class Views(pydantic.BaseModel, frozen=True, extra="forbid", strict=True):
    """Geometry and pooling of a grid of views.

    `top_k` is there for the pooling "top_k" alone. `attention` is there for "attention" alone: the D weights
    of a linear score of the features, and behind them its bias.
    """

    grid: int = Field(ge=1, le=LARGEST_GRID)
    overlap: FiniteFloat = Field(ge=0, le=LARGEST_OVERLAP)
    pooling: str
    top_k: int | None = Field(default=None, ge=1)
    attention: tuple[_Parameter, ...] | None = Field(default=None, min_length=2)

    @model_validator(mode="after")
    def _check_pooling(self) -> Self:
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling is none of {', '.join(POOLINGS)}")
        if (self.top_k is not None) != (self.pooling == TOP_K):
            raise ValueError("top_k belongs to the pooling top_k")
        if (self.attention is not None) != (self.pooling == ATTENTION):
            raise ValueError("attention belongs to the pooling attention")
        if self.top_k is not None and self.top_k > self.count:
            raise ValueError(f"top_k is more than the {self.count} views")
        return self

    @property
    def count(self) -> int:
        """The number of views of an image: the whole, and the cells."""
        return 1 + self.grid**2

    def describe(self) -> str:
        """Say in words what is looked at and how it becomes one answer."""
        pooled = {
            MEAN: "their mean",
            TOP_K: f"the mean of the {self.top_k} that say roadwork the loudest",
            MAX: "the one that says roadwork the loudest",
            ATTENTION: "their mean, weighed by what was learned of their features",
        }[self.pooling]
        return (
            f"the whole image and {self.grid} x {self.grid} crops of it that overlap by {self.overlap:.0%},"
            f" and answers by {pooled}"
        )

    def boxes(self, width: int, height: int) -> list[Box]:
        """Return the cells of an image of this size; see `grid_boxes`."""
        return grid_boxes(width, height, grid=self.grid, overlap=self.overlap)

    def to_config(self) -> dict[str, Any]:
        """Return what stands in config.json under "views"; only what applies."""
        return self.model_dump(mode="json", exclude_none=True)

    @classmethod
    def from_config(cls, settings: Any, *, where: str = "views in config.json") -> Self:
        """Read what `to_config` gave, and nothing else.

        Raises:
            ConfigError: an unknown or missing setting, one of another type or out of range.
        """
        try:
            views = cls.model_validate_json(json.dumps(settings))
        except pydantic.ValidationError as error:
            raise _not_ours(field_faults(error), where) from error
        if views.to_config() != settings:
            raise _not_ours("other settings", where)
        return views


def make_views(config: Whole | Grid, *, attention: tuple[float, ...] | None = None) -> Views | None:
    """Return the configured views, or None where the whole image is the only one.

    Args:
        config: The configuration.
        attention: The learned parameters, for the pooling "attention", which only a probe may have.
    """
    if config.kind == "whole":
        return None
    pooling = config.pooling
    return Views(
        grid=config.size,
        overlap=OVERLAP,
        pooling=pooling.kind,
        top_k=LOUDEST if pooling.kind == TOP_K else None,
        attention=attention if pooling.kind == ATTENTION else None,
    )


def find_views(config: Mapping[str, Any]) -> Views | None:
    """Return the views that a hub's config.json asks for, or None where it names none.

    Raises:
        ConfigError: it asks for views in a way that `Views.to_config` does not write.
    """
    return Views.from_config(config[KEY]) if KEY in config else None


def grid_boxes(width: int, height: int, *, grid: int, overlap: float) -> list[Box]:
    """Divide an image into `grid` x `grid` cells of one size that overlap and reach exactly to its edges.

    Args:
        width: Of the image, in pixels, at least 1.
        height: Of the image, in pixels, at least 1.
        grid: Cells a side, at least 1.
        overlap: The part of a cell's side that it shares with its neighbour, in [0, 1).

    Returns:
        Boxes (left, top, right, bottom) in pixels as Pillow takes them, row by row from the top left.
    """
    columns, rows = (_spans(side, grid=grid, overlap=overlap) for side in (width, height))
    return [(left, top, right, bottom) for top, bottom in rows for left, right in columns]


def _spans(side: int, *, grid: int, overlap: float) -> list[tuple[int, int]]:
    """Divide a side; the last span ends where the side does, and between them nothing is left out.

    Two starts are apart by at most a cell: (side - cell) / (grid - 1) <= cell, because grid cells are at
    least as long as the side, and rounding down whole numbers keeps that.
    """
    cell = min(side, max(1, math.ceil(side / (grid - (grid - 1) * overlap) - _ROUNDING)))
    starts = [index * (side - cell) // max(1, grid - 1) for index in range(grid)]
    return [(start, start + cell) for start in starts]


def _not_ours(found: str, where: str) -> ConfigError:
    return ConfigError(
        "views as StreetVision writes them", found, where, "Take the whole file again, or train again."
    )
