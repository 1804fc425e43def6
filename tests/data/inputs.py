"""Inputs that people brought, in the shared folder beside the repository; tests never need them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

_SHARED = Path(__file__).parents[3] / "shared"


def shared_input(name: str, copy_to: Path | None = None) -> Path:
    """Return the input `name`, or a copy of it in a new folder; skips the test where there is none."""
    shared = Path(os.environ.get("STREETVISION_SHARED", _SHARED)) / "data" / "inputs" / name
    if not shared.exists():
        pytest.skip(f"the shared inputs are not at {shared}; STREETVISION_SHARED says where")
    return shutil.copytree(shared, copy_to) if copy_to else shared
