"""Use a bundle as its receiver would, and hold it against the report it was shipped with."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from streetvision_core.bundle.predictor import Predictor
from streetvision_core.bundle.verify import verify_bundle
from streetvision_core.errors import BundleError
from streetvision_core.io.system import room_for, temporary_directory
from streetvision_core.report.evaluation import decision_problems

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from streetvision_core.data.decoding.decode import ImageReader
    from streetvision_core.report.evaluation import Evaluation


def moved_bundle_problems(directory: Path, *, evaluation: Evaluation, pictures: ImageReader) -> list[str]:
    """Copy the bundle elsewhere, verify it there, and decide every image of the report again.

    Args:
        directory: The published bundle.
        evaluation: The report that the bundle was made with.
        pictures: Reads the images of val_test.

    Returns:
        What is wrong, one sentence a fault; none when the bundle does what was reported.
    """
    with _moved(directory) as moved:
        try:
            bundle = verify_bundle(moved, deep=True).bundle
        except BundleError as error:
            return [str(error)]
        predictor = Predictor(bundle.model, config=bundle.config, policy=bundle.policy)
        return decision_problems(predictor, evaluation, pictures=pictures)


def moved_copy_problems(directory: Path, *, deep: bool = False) -> list[str]:
    """Copy the bundle elsewhere and verify it there; with `deep` it also answers its golden images again.

    Returns:
        What is wrong, one sentence a fault.
    """
    with _moved(directory) as moved:
        try:
            verify_bundle(moved, deep=deep)
        except BundleError as error:
            return [str(error)]
    return []


@contextmanager
def _moved(directory: Path) -> Iterator[Path]:
    with temporary_directory("a copy of the bundle") as elsewhere:
        moved = elsewhere / "bundle"
        with room_for("a copy of the bundle"):
            shutil.copytree(directory, moved, symlinks=True)
        yield moved
