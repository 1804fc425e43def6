"""Phase 1: the trained classifier."""

from functools import partial

import dagster as dg

from streetvision_assets.checks import InputOf, Verdict, proof
from streetvision_assets.conventions import stage_asset
from streetvision_assets.metadata import observed_epochs, picture, table
from streetvision_assets.resources import StoreResource
from streetvision_assets.step import Metric, Step, StepOutput
from streetvision_core.data.index import ImageIndex
from streetvision_core.data.opening import open_images
from streetvision_core.data.splits import Splits
from streetvision_core.io import PublishedArtifact
from streetvision_core.models.backbone import Backbone
from streetvision_core.report.plots import plot_training_curve
from streetvision_core.training.checkpoint import Checkpoint, checkpoint_problems
from streetvision_core.training.config import TrainingConfig
from streetvision_core.training.fit import TrainingFolders, fit_classifier
from streetvision_core.training.throughput import limited_by


@stage_asset(group="model", kinds={"pytorch", "lightning"}, phase=1)
def phase1_checkpoint(
    context: dg.AssetExecutionContext,
    config: TrainingConfig,
    store: StoreResource,
    images: PublishedArtifact,
    splits: PublishedArtifact,
    backbone: PublishedArtifact,
    conditions: PublishedArtifact,
) -> dg.MaterializeResult[StepOutput]:
    """The classifier, trained on train; its best epoch is chosen by MCC on val_select."""
    step = Step.begin(context, store, config, images, splits, backbone, conditions)
    roles, opened = Splits.from_artifact(splits), store.open()
    epochs = observed_epochs(context)
    checkpoint = step.reused(Checkpoint.from_artifact) or fit_classifier(
        Backbone.from_artifact(backbone),
        index=ImageIndex.from_artifact(images),
        splits=roles,
        images=open_images(images, roles, roles=step.roles, conditions=conditions),
        config=config,
        folders=TrainingFolders(
            staging=step.directory,
            resume=step.resume,
            features=opened.features_directory(),
            tensorboard=opened.tensorboard_directory(step.run_id, step.name),
        ),
        on_epoch=epochs,
    )
    epochs.finish()
    return step.result(
        checkpoint,
        shown=partial(_show_epochs, checkpoint),
        facts=_show_best(checkpoint, config.method.kind),
        device=checkpoint.device,
        seed=config.seed,
    )


def _show_best(checkpoint: Checkpoint, method: str) -> dict[str, str | Metric]:
    return {
        "MCC on val_select": Metric("val_mcc"),
        "best epoch": f"{checkpoint.best.epoch} of {len(checkpoint.epochs)}",
        "method": method,
        "limited_by": limited_by(checkpoint.metrics, method=method),
    }


def _show_epochs(checkpoint: Checkpoint) -> dict[str, dg.MetadataValue]:
    rows = [row.to_csv_row() for row in checkpoint.epochs]
    heads = [row.to_csv_row() for row in checkpoint.candidates]
    return {
        "training_curve": picture(plot_training_curve(rows)),
        "epochs": table(rows),
        **({"heads_of_the_probe": table(heads)} if heads else {}),
    }


@proof("phase1_checkpoint")
def usable_model(phase1_checkpoint: PublishedArtifact, input_of: InputOf) -> Verdict:
    """The weights load, are finite, and beat the majority class on val_select."""
    splits = Splits.from_artifact(input_of("splits"))
    checkpoint = Checkpoint.from_artifact(phase1_checkpoint)
    problems = checkpoint_problems(checkpoint, names=splits.roles["val_select"])
    counts = {"images": len(checkpoint.val_select.ids), "val_mcc": checkpoint.metrics["val_mcc"]}
    return Verdict(problems, good="the weights load, are finite and beat the majority class", counts=counts)
