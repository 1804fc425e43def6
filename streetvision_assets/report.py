"""The report: val_test, once, through the predictor that the bundle ships."""

from functools import partial

import dagster as dg

from streetvision_assets.checks import standard_checks
from streetvision_assets.conventions import stage_asset
from streetvision_assets.pictures import picture, table
from streetvision_assets.resources import StoreResource
from streetvision_assets.step import Step, StepConfig, StepOutput
from streetvision_core.bundle.evaluation import Evaluation, evaluate
from streetvision_core.bundle.predictor import Predictor
from streetvision_core.data.index import ImageIndex
from streetvision_core.data.opening import open_pictures
from streetvision_core.data.overview import picture_sheet
from streetvision_core.data.pictures import PictureReader
from streetvision_core.data.splits import Splits
from streetvision_core.eval.plots import plot_confusion_matrix
from streetvision_core.eval.policy import Thresholds
from streetvision_core.io import PublishedArtifact
from streetvision_core.models.weights import read_state
from streetvision_core.training.checkpoint import Checkpoint

ROLES = ("val_test",)
MISTAKES_SHOWN = 24


@stage_asset(group="report", kinds={"pytorch", "matplotlib"})
def evaluation(
    context: dg.AssetExecutionContext,
    config: StepConfig,
    store: StoreResource,
    images: PublishedArtifact,
    splits: PublishedArtifact,
    phase1_checkpoint: PublishedArtifact,
    thresholds: PublishedArtifact,
) -> dg.MaterializeResult[StepOutput]:
    """Every decision on val_test, the metrics of all of them and of each slice, and what went wrong."""
    step = Step.begin(context, store, config, images, splits, phase1_checkpoint, thresholds, roles=ROLES)
    index, roles = ImageIndex.from_artifact(images), Splits.from_artifact(splits)
    pictures = open_pictures(images, roles, roles=step.roles)
    report = step.reused(Evaluation.from_artifact) or evaluate(
        _predictor(phase1_checkpoint, thresholds), roles.roles["val_test"], index=index, pictures=pictures
    )
    return step.result(report, shown=partial(_show_report, report, index, pictures))


def _predictor(phase1_checkpoint: PublishedArtifact, thresholds: PublishedArtifact) -> Predictor:
    checkpoint = Checkpoint.from_artifact(phase1_checkpoint)
    policy = Thresholds.from_artifact(thresholds).policy
    return Predictor.build(checkpoint.config, read_state(checkpoint.weights), policy)


def _show_report(
    report: Evaluation, index: ImageIndex, pictures: PictureReader
) -> dict[str, dg.MetadataValue]:
    """Return the confusion matrix, the slices, and the most confident mistakes as pictures."""
    shown = {
        "confusion_matrix": picture(plot_confusion_matrix(report.confusion)),
        "slices": table(report.slice_table()),
    }
    by_name = {one.name: one for one in index.pictures}
    wrong = [
        (by_name[one.name], f"{one.decision} {one.probability:.2f}")
        for one in report.mistakes()[:MISTAKES_SHOWN]
    ]
    return shown | {"mistakes": picture(picture_sheet(wrong, pictures))} if wrong else shown


CHECKS = standard_checks("evaluation")
