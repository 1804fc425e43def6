"""The jobs: parts of the way to a bundle, the whole of it, each preset, and the checks alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from streetvision_assets.conventions import VERIFY
from streetvision_assets.presets import preset_jobs
from streetvision_assets.promotion import promote
from streetvision_core.graph import CHECKPOINT, CROSS_VALIDATION, steps_behind

if TYPE_CHECKING:
    from dagster import UnresolvedAssetJobDefinition

_READABLE: dict[str, Any] = {"loggers": {"console": {}}}
_PHASE_1 = steps_behind(CHECKPOINT, added=True)
_PHASES_1_2 = steps_behind("thresholds", added=True)
_EVERYTHING = dg.AssetSelection.assets("bundle").upstream()


def _job(name: str, selection: dg.AssetSelection, description: str) -> UnresolvedAssetJobDefinition:
    return dg.define_asset_job(name, selection=selection, config=_READABLE, description=description)


JOBS = [
    _job(
        "make_bundle",
        _EVERYTHING,
        "From labelled images to a verified bundle, with every check on the way.",
    ),
    _job(
        "phase1",
        dg.AssetSelection.assets(*_PHASE_1),
        "From labelled images to the trained classifier.",
    ),
    _job(
        "phase1_2",
        dg.AssetSelection.assets(*_PHASES_1_2),
        "From labelled images to the classifier and its threshold.",
    ),
    _job(
        "phase1_2_6",
        dg.AssetSelection.assets(*_PHASES_1_2, "bundle"),
        "From labelled images to a bundle with the threshold, without gate, scrc and evaluation.",
    ),
    _job(
        "cross_validate",
        dg.AssetSelection.assets(*_PHASE_1, CROSS_VALIDATION),
        "The recipe of the classifier on folds of whole groups: what to expect of it where images are few.",
    ),
    _job(
        "audit_labels",
        dg.AssetSelection.assets(*_PHASE_1, "cross_validation", "label_audit"),
        "Images whose label a cross-validated classifier contradicts, as a file to be reviewed.",
    ),
    _job(
        VERIFY,
        dg.AssetSelection.all_asset_checks(),
        "Every check of every asset, and nothing else: no asset is materialized.",
    ),
    promote,
    *preset_jobs(_EVERYTHING),
]
