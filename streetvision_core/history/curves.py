"""Learning curves for TensorBoard that nobody needs: of steps of runs that are gone.

A step lies in the store before it trains and as long as its run does, so a curve without its step is what a
removed run, or the sweep after a killed one, has left. One that was written in the last hour stays, and so
does a directory that holds something else than curves.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from streetvision_core.history.scan import directories, files_below
from streetvision_core.io.names import CURVE_NAME

OLD_SECONDS = 3600


def orphaned_curves(root: Path) -> list[Path]:
    """Return the directories of the curves that may go, sorted; nobody reads anything from them."""
    return sorted(
        Path(run.path)
        for step in directories(root / "tensorboard")
        for run in directories(Path(step.path))
        if not os.path.lexists(root / "runs" / run.name / step.name) and _may_go(Path(run.path))
    )


def _may_go(directory: Path) -> bool:
    files = list(files_below(directory))
    are_curves = bool(files) and all(
        file.name == CURVE_NAME and file.is_file(follow_symlinks=False) for file in files
    )
    return are_curves and _is_old(directory)


def _is_old(directory: Path) -> bool:
    times = [directory.lstat().st_mtime, *(os.lstat(file.path).st_mtime for file in files_below(directory))]
    return time.time() - max(times) > OLD_SECONDS
