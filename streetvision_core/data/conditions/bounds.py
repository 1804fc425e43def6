"""The bounds of the constants of operations: smallest, largest, and whether two of them are a range."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

BOUNDS: Mapping[str, tuple[float, float, bool]] = MappingProxyType(
    {
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
)
