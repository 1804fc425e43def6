"""Use a bundle as its receiver would, and hold it against the report it was shipped with."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from streetvision_core.bundle.predictor import Predictor
from streetvision_core.bundle.verify import verify_bundle
from streetvision_core.errors import BundleError
from streetvision_core.io.system import room_for, temporary_directory
from streetvision_core.report.evaluation import decision_problems

if TYPE_CHECKING:
    from pathlib import Path

    from streetvision_core.data.decoding.decode import ImageReader
    from streetvision_core.report.evaluation import Evaluation


def moved_bundle_problems(
    directory: Path,
    *,
    deep: bool = True,
    evaluation: Evaluation | None = None,
    pictures: ImageReader | None = None,
) -> list[str]:
    """Copy the bundle elsewhere, verify it there, and decide every image of its report again.

    Args:
        directory: The published bundle.
        deep: Whether it answers its golden images again.
        evaluation: The report that the bundle was made with, if there is one.
        pictures: Reads the images of the report.

    Returns:
        What is wrong, one sentence a fault; none when the bundle does what was reported.
    """
    with temporary_directory("a copy of the bundle") as elsewhere:
        moved = elsewhere / "bundle"
        with room_for("a copy of the bundle"):
            shutil.copytree(directory, moved, symlinks=True)
        try:
            bundle = verify_bundle(moved, deep=deep).bundle
        except BundleError as error:
            return [str(error)]
        if evaluation is None or pictures is None:
            return []
        predictor = Predictor(bundle.model, config=bundle.config, policy=bundle.policy)
        return decision_problems(predictor, evaluation, pictures=pictures)
