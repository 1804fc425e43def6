"""Stage data: the index of the labelled images, and their split into roles."""

from dataclasses import asdict
from functools import partial
from typing import Any

import dagster as dg

from streetvision_assets.checks import InputOf, Verdict, proof
from streetvision_assets.conventions import stage_asset
from streetvision_assets.metadata import picture, table
from streetvision_assets.resources import StoreResource
from streetvision_assets.step import Metric, Step, StepOutput, previous_artifact
from streetvision_core.data.balance import balance_roles, balance_warnings, distrust
from streetvision_core.data.conditions import Conditions, ConditionsConfig
from streetvision_core.data.conditions.sheet import levels_sheet
from streetvision_core.data.config import SOURCE_NAMES
from streetvision_core.data.groups import group_setting, groups_known, ungrouped_frames
from streetvision_core.data.images import (
    ImagesConfig,
    IndexedImages,
    index_images,
    indexed_before,
    published_images,
    settings_before,
)
from streetvision_core.data.index import ImageIndex
from streetvision_core.data.labels import LABEL_NAMES
from streetvision_core.data.overview import overview_sheet
from streetvision_core.data.shortcuts import find_shortcuts, shortcut_warnings
from streetvision_core.data.splits import Splits, SplitsConfig, assign_splits
from streetvision_core.data.verify import verify_renamed, verify_splits
from streetvision_core.history.text import source_lines
from streetvision_core.io import ArtifactStore, PublishedArtifact


@stage_asset(group="data", kinds={"parquet", "pillow"})
def images(
    context: dg.AssetExecutionContext, config: ImagesConfig, store: StoreResource
) -> dg.MaterializeResult[StepOutput]:
    """The index of the labelled images; what could not be used is quarantined with its reason."""
    config = config if config.names_source else _with_source_of_store(context, config, store.open())
    step = Step.begin(context, store, config, reusable=config.is_drawn)
    indexed = step.reused(published_images) or index_images(
        config,
        directory=step.directory,
        previous=previous_artifact(context, store, step) if store.reuse else None,
    )
    context.log.info("%s", indexed.summary)
    return step.result(indexed, facts=_show_counts(), shown=partial(_show_images, indexed))


def _with_source_of_store(
    context: dg.AssetExecutionContext, config: ImagesConfig, store: ArtifactStore
) -> ImagesConfig:
    """Return the configuration with the source that the store's images were indexed from.

    What the run itself names counts. Dagster hands over defaults like named settings, and only the run's own
    configuration tells which is which.
    """
    published = indexed_before(store)
    before = settings_before(published)
    run_config: dict[str, Any] = {**context.run.run_config}
    given = run_config.get("ops", {}).get(context.asset_key.path[-1], {}).get("config", {})
    named = config.model_dump(include=set(given) - set(SOURCE_NAMES))
    context.log.info(
        "no source is named: the one of run %s is taken again, %s",
        published.manifest.run_id,
        source_lines(before, {}),
    )
    return ImagesConfig(**(before | named))


def _show_images(indexed: IndexedImages) -> dict[str, dg.MetadataValue]:
    shown = {"overview": picture(overview_sheet(indexed.index, indexed.reader))}
    if indexed.index.quarantine:
        shown["quarantine"] = table([asdict(entry) for entry in indexed.index.quarantine[:50]])
    return shown


def _show_counts() -> dict[str, Metric]:
    of_labels = zip(LABEL_NAMES, ("none", "roadwork"), strict=True)
    return {
        "images used": Metric("pictures"),
        **{f"images of {name}": Metric(metric) for name, metric in of_labels},
        "groups of images": Metric("groups"),
        "images without a group": Metric("ungrouped"),
        "images put aside": Metric("quarantined"),
        "labels corrected": Metric("corrected"),
    }


@stage_asset(group="data", kinds={"json"})
def splits(
    context: dg.AssetExecutionContext, config: SplitsConfig, store: StoreResource, images: PublishedArtifact
) -> dg.MaterializeResult[StepOutput]:
    """Four roles for the images: groups and near-duplicates whole, both classes in each."""
    step = Step.begin(context, store, config, images)
    index = ImageIndex.from_artifact(images)
    assigned = step.reused(Splits.from_artifact) or assign_splits(index, SplitsConfig(**step.config))
    doubts = distrust(balance_roles(index, assigned))
    if doubts:
        context.log.warning("%s", doubts)
    return step.result(
        assigned,
        facts={**_show_sizes(assigned, index), **({"not to be trusted": doubts} if doubts else {})},
        shown=lambda: {"roles": table(assigned.table())},
        seed=config.seed,
    )


def _show_sizes(assigned: Splits, index: ImageIndex) -> dict[str, str | float | Metric]:
    return {
        **{f"images of {role}": Metric(role) for role in assigned.counts},
        "kept whole": index.groups_in_words,
    }


@stage_asset(group="data", kinds={"pillow"})
def conditions(
    context: dg.AssetExecutionContext, config: ConditionsConfig, store: StoreResource
) -> dg.MaterializeResult[StepOutput]:
    """The way of an image to the model in use: a named profile with levels."""
    step = Step.begin(context, store, config)
    chosen = step.reused(Conditions.from_artifact) or config.conditions()
    return step.result(
        chosen,
        facts={"conditions": chosen.profile.title, "levels in the report": chosen.reported.title},
        shown=lambda: {
            "every_level": picture(levels_sheet(chosen)),
            "constants": table(chosen.reported.table()),
        },
        seed=chosen.seed,
    )


@proof("splits")
def no_leakage(splits: PublishedArtifact, input_of: InputOf) -> Verdict:
    """No image, group or near-duplicate is in two roles; each role has both classes."""
    index = ImageIndex.from_artifact(input_of("images"))
    assigned = Splits.from_artifact(splits)
    problems = verify_splits(index, assigned) or verify_renamed(splits, index)
    counts = {
        "images": len(index.pictures),
        "groups": len({image.group for image in index.pictures}),
        "roles": len(assigned.roles),
    }
    return Verdict(problems, good="every image, group and near-duplicate has one role", counts=counts)


@proof("splits")
def balanced(splits: PublishedArtifact, input_of: InputOf) -> Verdict:
    """Share, prevalence, groups of each class and largest group of each role are within bounds."""
    index = ImageIndex.from_artifact(input_of("images"))
    assigned = Splits.from_artifact(splits)
    balances = balance_roles(index, assigned)
    numbers = {
        f"{balance.role} {name}": value for balance in balances for name, value in balance.figures().items()
    }
    return Verdict(
        balance_warnings(balances, assigned.config.shares),
        good="every role has its share of images and of Roadwork, and enough groups",
        counts=numbers,
        severity=dg.AssetCheckSeverity.WARN,
    )


@proof("images")
def no_shortcut(images: PublishedArtifact, _: InputOf) -> Verdict:
    """The label cannot be told from size, format, brightness, camera or source alone."""
    index = ImageIndex.from_artifact(images)
    shortcuts = find_shortcuts(index)
    return Verdict(
        shortcut_warnings(index, shortcuts),
        good="no feature that was looked at tells the label",
        counts={shortcut.feature: shortcut.auroc for shortcut in shortcuts},
        severity=dg.AssetCheckSeverity.WARN,
    )


@proof("images")
def groups_plausible(images: PublishedArtifact, _: InputOf) -> Verdict:
    """Images without a group do not look like frames of one recording."""
    index = ImageIndex.from_artifact(images)
    frames = ungrouped_frames(index.pictures)
    known = groups_known(index.pictures)
    sure = "every image has a group" if known else "no sign of frames that belong together"
    return Verdict(
        [frames.describe(group_setting(images.config(), frames.example[0]))] if frames else [],
        good=f"{index.groups_in_words}: {sure}",
        counts={"ungrouped": sum(image.group == image.name for image in index.pictures)},
        severity=dg.AssetCheckSeverity.WARN,
    )
