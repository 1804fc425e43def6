"""Folds for cross-validation: both classes as evenly as may be, and no group in two folds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from streetvision_core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from streetvision_core.eval.inputs import Bools


def split_folds(
    truth: Bools, group: npt.NDArray[np.intp], *, folds: int, seed: int, purpose: str
) -> Iterator[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """Yield the positions of (fitting, judging) pictures of each fold, for labels [N] and group numbers [N].

    `purpose` names what the folds are for in an error.

    Raises:
        DataError: fewer pictures or groups of a class than folds.
        ConfigError: fewer than two folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    _require_enough(truth, group, folds=folds, purpose=purpose)
    settings: dict[str, Any] = {"n_splits": folds, "shuffle": True, "random_state": seed}
    if np.unique(group).size == group.size:
        yield from StratifiedKFold(**settings).split(truth, truth)
    else:
        yield from StratifiedGroupKFold(**settings).split(truth, truth, group)


def units_of_classes(truth: Bools, group: npt.NDArray[np.intp]) -> dict[str, int]:
    """Count the groups that hold pictures of each class."""
    return {name: np.unique(group[members]).size for name, members in (("Roadwork", truth), ("None", ~truth))}


def _require_enough(truth: Bools, group: npt.NDArray[np.intp], *, folds: int, purpose: str) -> None:
    if folds < 2:
        raise ConfigError("at least 2 folds", f"{folds}", purpose, "Use 5.")
    for name, units in units_of_classes(truth, group).items():
        if units < folds:
            raise DataError(
                f"at least {folds} pictures or groups of {name} for {folds} folds",
                f"{units}",
                f"{purpose} by cross-validation",
                "Use fewer folds or more pictures, or a fit that needs no cross-validation.",
            )
