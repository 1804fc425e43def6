"""The inputs that users met, where they are: folders outside of the repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def shared_input(name: str) -> Path:
    """Return the folder of one shared input; skips the test, and says so, where it is not there."""
    shared = os.environ.get("STREETVISION_SHARED") or Path(__file__).parents[3] / "shared"
    folder = Path(shared, "data", "inputs", name)
    if not folder.is_dir():
        pytest.skip(f"the shared input {name} is not here: {folder}")
    return folder
