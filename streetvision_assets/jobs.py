"""The two jobs: make everything up to the bundle, and check everything that was made."""

from __future__ import annotations

from typing import Any

import dagster as dg

_READABLE: dict[str, Any] = {"loggers": {"console": {}}}

make_bundle = dg.define_asset_job(
    "make_bundle",
    selection=dg.AssetSelection.assets("bundle").upstream(),
    config=_READABLE,
    description="From labelled pictures to a verified bundle, with every check on the way.",
)

verify = dg.define_asset_job(
    "verify",
    selection=dg.AssetSelection.all_asset_checks(),
    config=_READABLE,
    description="Every check of every asset, and nothing else: no asset is materialized.",
)
