"""The failing inputs and real photographs that lie beside the repository, for tests that read them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def shared_input(name: str) -> Path:
    """Return a folder of `data/inputs`, or skip the test."""
    return shared_data("inputs", name)


def shared_data(*parts: str) -> Path:
    """Return a folder below the shared `data`, or skip the test and say which folder is absent."""
    shared = Path(os.environ.get("STREETVISION_SHARED") or Path(__file__).parents[3] / "shared")
    folder = shared.joinpath("data", *parts)
    if not folder.is_dir():
        pytest.skip(f"the shared data are not here: {folder}")
    return folder
