"""Everything Dagster loads: the assets of each stage with their checks, the jobs, the store."""

from __future__ import annotations

import warnings
from importlib import import_module
from pkgutil import iter_modules

import dagster as dg

from streetvision_assets import defs as stages
from streetvision_assets.console import console
from streetvision_assets.conventions import CHECKED_IO_MANAGER_KEY, IO_MANAGER_KEY
from streetvision_assets.io_manager import ArtifactIOManager, CheckedIOManager
from streetvision_assets.jobs import JOBS
from streetvision_assets.resources import StoreResource

STAGES = [import_module(f"{stages.__name__}.{found.name}") for found in iter_modules(stages.__path__)]

store = StoreResource()

with warnings.catch_warnings():
    # Code references are in beta; they only make the UI link an asset to its source.
    warnings.simplefilter("ignore", dg.BetaWarning)
    assets = dg.with_source_code_references(dg.load_assets_from_modules(STAGES))

defs = dg.Definitions(
    assets=assets,
    asset_checks=[check for stage in STAGES for check in stage.CHECKS],
    jobs=JOBS,
    resources={
        "store": store,
        IO_MANAGER_KEY: ArtifactIOManager(store=store),
        CHECKED_IO_MANAGER_KEY: CheckedIOManager(store=store),
    },
    executor=dg.in_process_executor,
    loggers={"console": console},
)
