"""Beside the way to the bundle: the recipe on folds of whole groups, where images are few."""

from functools import partial

import dagster as dg

from streetvision_assets.checks import InputOf, Verdict, proof
from streetvision_assets.conventions import stage_asset
from streetvision_assets.metadata import picture, table, with_interval
from streetvision_assets.resources import StoreResource
from streetvision_assets.step import Step, StepOutput
from streetvision_core.data.index import ImageIndex
from streetvision_core.data.opening import open_images
from streetvision_core.data.splits import Splits
from streetvision_core.graph import LOOKS
from streetvision_core.inference.logits import labels_of
from streetvision_core.io import PublishedArtifact
from streetvision_core.models.backbone import Backbone
from streetvision_core.report.out_of_fold import attribute_rows
from streetvision_core.report.plots import plot_set_sizes
from streetvision_core.training.config import read_recipe
from streetvision_core.training.out_of_fold.cross_validation import CrossValidationConfig, cross_validate
from streetvision_core.training.out_of_fold.record import CrossValidation, cross_validation_problems


@stage_asset(group="report", kinds={"pytorch", "scikitlearn"})
def cross_validation(
    context: dg.AssetExecutionContext,
    config: CrossValidationConfig,
    store: StoreResource,
    images: PublishedArtifact,
    splits: PublishedArtifact,
    backbone: PublishedArtifact,
    phase1_checkpoint: PublishedArtifact,
    conditions: PublishedArtifact,
) -> dg.MaterializeResult[StepOutput]:
    """Logits of every image by classifiers of the same recipe that saw nothing of its group."""
    inputs = (images, splits, backbone, phase1_checkpoint, conditions)
    step = Step.begin(context, store, config, *inputs, roles=config.names_of_roles)
    if LOOKS[step.name] in step.roles:
        step = step.look()
    index, roles = ImageIndex.from_artifact(images), Splits.from_artifact(splits)
    result = step.reused(CrossValidation.from_artifact) or cross_validate(
        Backbone.from_artifact(backbone),
        index=index,
        splits=roles,
        images=open_images(images, roles, roles=step.roles, conditions=conditions),
        recipe=read_recipe(phase1_checkpoint.config()),
        config=config,
        features=store.open().features_directory(),
        resume=step.resume,
    )
    return step.result(result, facts=_show_reached(result), shown=partial(_show_sizes, result, index))


def _show_reached(result: CrossValidation) -> dict[str, str]:
    by_repeat = [row["mcc"] for row in result.rows_of_repeats()]
    return {
        "MCC, out of fold": with_interval(result.pooled.mcc, result.pooled),
        "by repeat": f"{min(by_repeat):.3f} to {max(by_repeat):.3f} in {result.repeats}",
        "method": result.method,
    }


def _show_sizes(result: CrossValidation, index: ImageIndex) -> dict[str, dg.MetadataValue]:
    sizes, repeats = result.rows_of_sizes(), result.rows_of_repeats()
    inside = attribute_rows(result, index)
    return {
        "by_set_size": picture(plot_set_sizes(sizes, repeats)),
        **({"inside": table(inside)} if inside else {}),
        "sizes": table(sizes),
        "repeats": table(repeats),
    }


@proof("cross_validation")
def out_of_fold(cross_validation: PublishedArtifact, input_of: InputOf) -> Verdict:
    """No group is in two folds, and the figures follow from the recorded logits."""
    splits = Splits.from_artifact(input_of("splits"))
    names = sorted(name for role in cross_validation.manifest.roles for name in splits.roles[role])
    labels = labels_of(names, ImageIndex.from_artifact(input_of("images")))
    return Verdict(
        cross_validation_problems(cross_validation, names=names, labels=labels),
        good="no group is in two folds; counted again, the same",
        counts={"images": len(names)},
    )
