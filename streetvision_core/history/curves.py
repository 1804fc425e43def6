"""Learning curves for TensorBoard that nobody needs: of steps of runs that are gone.

A step lies in the store before it trains and as long as its run does, so a curve without its step is what a
removed run, or the sweep after a killed one, has left. One that was written in the last hour stays.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from streetvision_core.history.scan import directories, files_below

OLD_SECONDS = 3600


def orphaned_curves(root: Path) -> list[Path]:
    """Return the directories of the curves that may go, sorted; nobody reads anything from them."""
    return sorted(
        Path(run.path)
        for step in directories(root / "tensorboard")
        for run in directories(Path(step.path))
        if not os.path.lexists(root / "runs" / run.name / step.name) and _is_old(Path(run.path))
    )


def _is_old(directory: Path) -> bool:
    times = [directory.lstat().st_mtime, *(os.lstat(file.path).st_mtime for file in files_below(directory))]
    return time.time() - max(times) > OLD_SECONDS
