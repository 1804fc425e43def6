"""Everything Dagster loads: the assets of each stage with their checks, the jobs, the store."""

from __future__ import annotations

import warnings

import dagster as dg

from streetvision_assets import defs as stages
from streetvision_assets.checks import standard_check
from streetvision_assets.console import console
from streetvision_assets.conventions import CHECKED_IO_MANAGER_KEY, IO_MANAGER_KEY
from streetvision_assets.io_manager import ArtifactIOManager, CheckedIOManager
from streetvision_assets.jobs import JOBS
from streetvision_assets.resources import StoreResource
from streetvision_core.graph import STEPS

store = StoreResource()

with warnings.catch_warnings():
    # Code references are in beta; they only make the UI link an asset to its source.
    warnings.simplefilter("ignore", dg.BetaWarning)
    assets = dg.with_source_code_references(dg.load_assets_from_package_module(stages))

defs = dg.Definitions(
    assets=assets,
    asset_checks=[*map(standard_check, STEPS), *dg.load_asset_checks_from_package_module(stages)],
    jobs=JOBS,
    resources={
        "store": store,
        IO_MANAGER_KEY: ArtifactIOManager(store=store),
        CHECKED_IO_MANAGER_KEY: CheckedIOManager(store=store),
    },
    executor=dg.in_process_executor,
    loggers={"console": console},
)
