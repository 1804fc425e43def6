"""Sets of cached features that may go: left alone for 30 days, or the oldest ones beyond a bound.

All of them can go, for everything in them is computed again from the pictures. What a living process has
open stays, and counts towards the bound.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from streetvision_core.history.scan import directories, files_below
from streetvision_core.inference.feature_sets import KEY_NAME, is_feature_set, is_open
from streetvision_core.io.atomic import is_partial

if TYPE_CHECKING:
    from collections.abc import Iterable

STALE_SECONDS = 30 * 24 * 3600
FEATURES_BYTES = 20 * 2**30


def spare_features(root: Path, *, limit_bytes: int) -> list[Path]:
    """Return the directories of the sets that may go, sorted; what holds something else is no set."""
    by_age = sorted((_used(path), path) for path in _sets(root))
    sizes = {path: _size(path) for _, path in by_age}
    total = sum(sizes.values())
    found = []
    for used, path in by_age:
        if (time.time() - used > STALE_SECONDS or total > limit_bytes) and not is_open(path):
            total -= sizes[path]
            found.append(path)
    return sorted(found)


def feature_partials(root: Path, *, going: Iterable[Path]) -> list[Path]:
    """Return what killed writers have left in the sets that stay and that nobody has open."""
    staying = set(_sets(root)) - set(going)
    return sorted(
        Path(entry.path)
        for path in staying
        if not is_open(path)
        for entry in files_below(path)
        if is_partial(entry.name)
    )


def _sets(root: Path) -> list[Path]:
    paths = [Path(entry.path) for entry in directories(root / "features")]
    return [path for path in paths if is_feature_set(path)]


def _used(path: Path) -> float:
    """Return when the set was used last; one without a key, as a kill may leave it, tells by itself."""
    key = path / KEY_NAME
    return (key if key.is_file() else path).lstat().st_mtime


def _size(path: Path) -> int:
    return sum(entry.stat(follow_symlinks=False).st_size for entry in files_below(path))
