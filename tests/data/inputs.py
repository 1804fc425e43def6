"""The failing inputs that people handed in: they lie beside the repository, and no test needs them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


def shared_input(name: str) -> Path:
    """The folder of one input; the test is skipped where it is not there."""
    shared = Path(os.environ.get("STREETVISION_SHARED", REPOSITORY.parent / "shared"))
    folder = shared / "data/inputs" / name
    if not folder.is_dir():
        pytest.skip(f"the input is not here: {folder}")
    return folder
