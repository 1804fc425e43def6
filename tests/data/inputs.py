"""Inputs and photographs in the shared folder beside the repository; tests never need them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

_SHARED = Path(__file__).parents[3] / "shared"


def shared_input(name: str, copy_to: Path | None = None) -> Path:
    """Return the input `name`, or a copy of it in a new folder; skips the test where there is none."""
    folder = shared_data("inputs", name)
    return shutil.copytree(folder, copy_to) if copy_to else folder


def shared_data(*parts: str) -> Path:
    """Return what lies below the shared `data`; skips the test where there is none."""
    path = Path(os.environ.get("STREETVISION_SHARED", _SHARED)).joinpath("data", *parts)
    if not path.exists():
        pytest.skip(f"the shared data are not at {path}; STREETVISION_SHARED says where")
    return path
