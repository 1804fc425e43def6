"""Stage data: the index of the labelled pictures, and their split into roles."""

from dataclasses import asdict

import dagster as dg

from streetvision_assets.checks import standard_checks, verdict
from streetvision_assets.conventions import stage_asset
from streetvision_assets.pictures import picture, table
from streetvision_assets.resources import StoreResource
from streetvision_assets.step import Step, StepOutput
from streetvision_core.data.config import CsvConfig, DemoConfig, FolderConfig, ParquetConfig
from streetvision_core.data.images import ImagesConfig, index_images
from streetvision_core.data.index import ImageIndex
from streetvision_core.data.overview import overview_sheet
from streetvision_core.data.splits import Splits, SplitsConfig, assign_splits
from streetvision_core.data.verify import verify_splits
from streetvision_core.io import PublishedArtifact


class DemoStep(DemoConfig, dg.Config):
    """The demo pictures, in Dagster's terms."""


class FolderStep(FolderConfig, dg.Config):
    """A folder per class, in Dagster's terms."""


class CsvStep(CsvConfig, dg.Config):
    """A CSV, in Dagster's terms."""


class ParquetStep(ParquetConfig, dg.Config):
    """Parquet, in Dagster's terms."""


class ImagesStep(ImagesConfig, dg.Config):
    """Configuration of ``images``: exactly one source."""

    demo: DemoStep | None = None
    folder: FolderStep | None = None
    csv: CsvStep | None = None
    parquet: ParquetStep | None = None


class SplitsStep(SplitsConfig, dg.Config):
    """Configuration of ``splits``."""


@stage_asset(group="data", kinds={"parquet", "pillow"})
def images(
    context: dg.AssetExecutionContext, config: ImagesStep, store: StoreResource
) -> dg.MaterializeResult[StepOutput]:
    """The index of the labelled pictures; what could not be used is quarantined with its reason."""
    step = Step.begin(context, store, config)
    indexed = index_images(config, directory=step.directory)
    shown = {"overview": picture(overview_sheet(indexed.index, indexed.reader))}
    if indexed.index.quarantine:
        shown["quarantine"] = table([asdict(one) for one in indexed.index.quarantine[:50]])
    return step.result(indexed, metadata=shown)


@stage_asset(group="data", kinds={"json"})
def splits(
    context: dg.AssetExecutionContext, config: SplitsStep, store: StoreResource, images: PublishedArtifact
) -> dg.MaterializeResult[StepOutput]:
    """Four roles for the pictures: groups and near-duplicates whole, both classes in each."""
    step = Step.begin(context, store, config, images)
    assigned = assign_splits(ImageIndex.from_artifact(images), config)
    return step.result(assigned, metadata={"roles": table(assigned.table())}, seed=config.seed)


@dg.asset_check(
    asset="splits",
    blocking=True,
    description="No picture, group or near-duplicate is in two roles; each role has both classes.",
)
def no_leakage(splits: PublishedArtifact, store: StoreResource) -> dg.AssetCheckResult:
    """Hold the published splits against the index they were made from."""
    index = ImageIndex.from_artifact(store.open().input_of(splits, "images"))
    assigned = Splits.from_artifact(splits)
    problems = verify_splits(index, assigned, assigned.config)
    return verdict(problems, good="every picture, group and near-duplicate has one role")


CHECKS = [*standard_checks("images", "splits"), no_leakage]
