"""The comparison of new images with those that a bundle's promise was given for.

The predictor answers the images as ever; their margins and the projections of their features are compared
with those of val_calib that its bundle ships (`eval.use.drift`). Of each group one image is compared: a
hundred frames of a video say no more than one, and would call any street another one.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from streetvision_core.data.config import check_pattern
from streetvision_core.data.sources.files import find_images, group_by
from streetvision_core.errors import ConfigError, DataError
from streetvision_core.eval.inputs import margin_vector
from streetvision_core.eval.risk_control import one_per_group
from streetvision_core.eval.use.drift import DRIFT_NAME, Drift, Reference, compare_samples, farthest, project

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from streetvision_core.data.conditions import Conditions
    from streetvision_core.eval.inputs import Floats
    from streetvision_core.inference.predictor import Predictor

SHOWN = 5


@dataclass(frozen=True)
class FolderDrift:
    """The answer about a folder: the comparison, the farthest images of it, and what was assumed.

    `images` were readable; `assumed` is a sentence about the groups of both sides, `seen` tells under which
    conditions those of val_calib were seen.
    """

    drift: Drift
    images: int
    farthest: tuple[str, ...]
    assumed: str
    seen: str

    @property
    def good(self) -> bool:
        """True where nothing tells that the promise is void."""
        return not self.drift.void

    def text(self) -> str:
        """Return the answer for a person."""
        drift = self.drift
        verdict = "void      " if drift.void else "not void  "
        meaning = "the images differ from" if drift.void else "nothing tells that the images differ from"
        rows = (
            f"{verdict} {meaning} those of the promise (p {drift.p_value:.2g}, void up to {drift.level:g})",
            f"differs    most in {drift.statistic}, by {drift.distance:.2f} of 1",
            f"compared   {drift.new} of {self.images} images; {drift.reference} of val_calib, {self.seen}",
            f"assumed    {self.assumed}",
            f"farthest   {', '.join(self.farthest)}",
        )
        return "\n".join(rows)

    def facts(self) -> dict[str, Any]:
        """Return the answer as JSON values."""
        facts = {"void": self.drift.void, **vars(self), **asdict(self.drift)}
        del facts["drift"]
        return facts


def compare_folder(
    predictor: Predictor,
    folder: str,
    *,
    reference: Reference | None,
    conditions: Conditions | None,
    pattern: str | None = None,
    on_error: Callable[[str, DataError], None] | None = None,
) -> FolderDrift:
    """Compare the images of a folder, and of those below it, with those of a bundle's promise.

    Args:
        predictor: That of the bundle.
        folder: The folder.
        reference: What the bundle compares new images with; None where it has nothing.
        conditions: The conditions under which its reference was measured.
        pattern: As `group_pattern` of a folder: searched in a path below it, the first capture group is the
            group of the image. Without it every image is taken as independent.
        on_error: Called with the path and the error of an image that cannot be read, which is left out.

    Raises:
        ConfigError: there is nothing to compare with, no such folder, or `pattern` is no group pattern.
        DataError: too few images, or one cannot be read and there is no `on_error`.
    """
    if reference is None:
        expected = f"a bundle with {DRIFT_NAME}, which new images are compared with"
        found = "none, as in bundles of an older version and of a policy that took nothing from val_calib"
        action = "Materialize val_calib_logits and what follows from it with this version, and export again."
        raise ConfigError(expected, found, "drift", action)
    check_pattern(pattern)
    compiled = None if pattern is None else re.compile(pattern)
    paths = {str(Path(folder, name)): name for name in find_images(folder)}
    given, values = _measure(predictor, list(paths), reference, on_error=on_error)
    names = [paths[path] for path in given]
    groups = [group_by(compiled, name) for name in names]
    chosen = _one_per_group(names, groups, seed=reference.seed)
    known, new = reference.folded(predictor.policy.point), values[chosen]
    drift = compare_samples(known, new)
    return FolderDrift(
        drift,
        images=len(names),
        farthest=tuple(names[position] for position in chosen[farthest(known, new, SHOWN)]),
        assumed=_assumption(reference, alone=groups.count(None)),
        seen=f"under {conditions.profile.title}" if conditions and not conditions.is_as_is else "as they are",
    )


def _measure(
    predictor: Predictor,
    paths: list[str],
    reference: Reference,
    *,
    on_error: Callable[[str, DataError], None] | None,
) -> tuple[list[str], Floats]:
    """Return the paths of the readable images, and their margins and projections [N, 1 + k]."""
    count = reference.projections
    names: list[str] = []
    values = [np.zeros((0, 1 + count))]
    for batch, measured in predictor.measure(paths, extras=("features",) if count else (), on_error=on_error):
        rows = [project(measured.extras["features"], seed=reference.seed, count=count)] if count else []
        names += batch
        values.append(np.column_stack([margin_vector(measured.logits), *rows]))
    return names, np.concatenate(values)


def _one_per_group(names: list[str], groups: list[str | None], *, seed: int) -> npt.NDArray[np.intp]:
    """Return the positions of one image of each group, and of every image without one."""
    # No name of an image ends with a slash: none is taken for a group.
    keys = [name if group is None else f"{group}/" for name, group in zip(names, groups, strict=True)]
    return one_per_group(keys, seed=seed) if keys else np.zeros(0, dtype=np.intp)


def _assumption(reference: Reference, *, alone: int) -> str:
    """Return what is taken as independent, on both sides."""
    sides = [
        f"{alone} images without a group are taken as independent; frames of one video are not:"
        " name them by --group-pattern"
        if alone
        else "one image of each group was compared",
        "" if reference.groups_known else "so are those of val_calib, where no groups are named",
    ]
    return "; ".join(filter(None, sides))
