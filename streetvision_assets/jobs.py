"""The jobs: parts of the way to a bundle, the whole of it, each preset, and the checks alone."""

from __future__ import annotations

import dagster as dg

from streetvision_assets.conventions import VERIFY
from streetvision_assets.presets import preset_jobs
from streetvision_assets.promotion import promote
from streetvision_core.graph import BUNDLE, CHECKPOINT, CROSS_VALIDATION, steps_behind

_PHASE_1 = dg.AssetSelection.assets(*steps_behind(CHECKPOINT, added=True))
_PHASES_1_2 = dg.AssetSelection.assets(*steps_behind("thresholds", added=True))
_EVERYTHING = dg.AssetSelection.assets(BUNDLE).upstream()
_PARTS = {
    "make_bundle": (_EVERYTHING, "From labelled images to a verified bundle, with every check on the way."),
    "phase1": (_PHASE_1, "From labelled images to the trained classifier."),
    "phase1_2": (_PHASES_1_2, "From labelled images to the classifier and its threshold."),
    "phase1_2_6": (
        _PHASES_1_2 | dg.AssetSelection.assets(BUNDLE),
        "From labelled images to a bundle with the threshold, without gate, scrc and evaluation.",
    ),
    "cross_validate": (
        _PHASE_1 | dg.AssetSelection.assets(CROSS_VALIDATION),
        "The recipe of the classifier on folds of whole groups: what to expect of it where images are few.",
    ),
    "audit_labels": (
        _PHASE_1 | dg.AssetSelection.assets(CROSS_VALIDATION, "label_audit"),
        "Images whose label a cross-validated classifier contradicts, as a file to be reviewed.",
    ),
    VERIFY: (
        dg.AssetSelection.all_asset_checks(),
        "Every check of every asset, and nothing else: no asset is materialized.",
    ),
}

JOBS = [
    *(
        dg.define_asset_job(
            name, selection=selection, config={"loggers": {"console": {}}}, description=description
        )
        for name, (selection, description) in _PARTS.items()
    ),
    promote,
    *preset_jobs(_EVERYTHING),
]
