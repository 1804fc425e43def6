"""Resume states that nobody needs: of a step that is published, or left alone for 30 days.

A training holds the lock on a file in the directory of its state as long as it runs.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from streetvision_core.history.scan import directories, files_below
from streetvision_core.io.claims import is_claim, try_lock
from streetvision_core.io.progress import PROGRESS_LOCK, progress_lock

if TYPE_CHECKING:
    from collections.abc import Iterator

STALE_SECONDS = 30 * 24 * 3600


def stale_states(root: Path) -> list[Path]:
    """Return the directories of resume states that may go."""
    found = []
    for step in directories(root / "resume"):
        for key in directories(Path(step.path)):
            pointer = root / "keys" / step.name / f"{key.name}.json"
            state = Path(key.path)
            may_go = os.path.lexists(pointer) or _is_stale(state)
            if may_go and is_claim(state / PROGRESS_LOCK):  # without its lock it is somebody's
                with unlocked(state) as free:
                    found += [state] if free else []
    return sorted(found)


@contextmanager
def unlocked(state: Path) -> Iterator[bool]:
    """Tell whether nobody is at work on the state, and keep it so during the block."""
    path = state / PROGRESS_LOCK
    if not path.is_file() or path.is_symlink():
        yield True
        return
    lock = progress_lock(state)
    if not try_lock(lock):
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _is_stale(state: Path) -> bool:
    times = [state.lstat().st_mtime, *(os.lstat(file.path).st_mtime for file in files_below(state))]
    return time.time() - max(times) > STALE_SECONDS
