"""Use a bundle as its receiver would, and hold it against the report it was shipped with."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from streetvision_core.bundle.layout import EVALUATION, RECORD, BundleRecord
from streetvision_core.bundle.predictor import Predictor
from streetvision_core.bundle.verify import verify_bundle
from streetvision_core.errors import BundleError
from streetvision_core.io.records import read_record
from streetvision_core.io.system import room_for, temporary_directory
from streetvision_core.report.evaluation import decision_problems
from streetvision_core.report.release import ReleaseRules, judge
from streetvision_core.report.report import Report

if TYPE_CHECKING:
    from pathlib import Path

    from streetvision_core.data.decoding.decode import ImageReader
    from streetvision_core.io import PublishedArtifact
    from streetvision_core.report.evaluation import Evaluation
    from streetvision_core.report.release import Release


def moved_bundle_problems(
    directory: Path,
    *,
    deep: bool = True,
    evaluation: Evaluation | None = None,
    images: ImageReader | None = None,
) -> list[str]:
    """Copy the bundle elsewhere, verify it there, and decide every image of its report again.

    Args:
        directory: The published bundle.
        deep: Whether it answers its golden images again.
        evaluation: The report that the bundle was made with, if there is one.
        images: Reads the images of the report.

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
        if evaluation is None or images is None:
            return []
        predictor = Predictor(bundle.model, config=bundle.config, policy=bundle.policy)
        return decision_problems(predictor, evaluation, images=images)


def release_of(published: PublishedArtifact) -> Release:
    """Judge a published bundle by its own release rules, or by the defaults where it is older than they are.

    Raises:
        IntegrityError: its files are not what was published.
        BundleError: they are none of a bundle.
    """
    where = str(published.directory)
    record = BundleRecord.from_bytes(published.read_bytes(RECORD), where=where)
    judged = EVALUATION in published.manifest.output_artifacts
    report = read_record(Report, published.read_bytes(EVALUATION), where=where) if judged else None
    rules = ReleaseRules.model_validate(published.manifest.config.get("release", {}))
    return judge(rules, report, record.policy.type, degenerate=bool(record.degenerate))
