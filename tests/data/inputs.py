"""The inputs on which users met faults, beside the repository; tests skip loudly without them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("STREETVISION_SHARED", Path(__file__).parents[3] / "shared"))


def shared_input(name: str) -> Path:
    """The folder or file `name` of the shared data, "inputs/..." or "streets"."""
    path = SHARED / "data" / name
    if not path.exists():
        pytest.skip(f"the shared inputs are not here: {path}; STREETVISION_SHARED names their folder")
    return path
