"""Lookups in Dagster's event log of the run that first computed a result which a later run reuses.

The plots that were drawn of an artifact and the checks that it has passed follow from its content, the
code and the libraries, so where the content is taken over nothing has to be drawn or proved again: both
are looked up in Dagster's events. Where these were wiped, or the code of a check or a library has changed,
nothing is found, and it is done again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from streetvision_core.io import json_digest
from streetvision_core.io.private import environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dagster import AssetCheckEvaluation, DagsterInstance

    from streetvision_core.io import StepManifest

# How many evaluations of a check are looked at; of content from further back it is made again.
_LOOK_BACK = 200
# The metadata of a check that counts its problems.
PROBLEMS = "problems"


def drawn_before(instance: DagsterInstance, dagster_run_id: str, step: str) -> dict[str, dg.MetadataValue]:
    """Return the images and tables that a run showed of a step; none where its events are gone."""
    for entry in instance.all_logs(dagster_run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION):
        event = entry.get_dagster_event()
        if event.asset_key == dg.AssetKey(step):
            metadata = event.step_materialization_data.materialization.metadata
            return {
                name: value for name, value in metadata.items() if isinstance(value, dg.MarkdownMetadataValue)
            }
    return {}


def counts_when_passed(
    instance: DagsterInstance, manifest: StepManifest, *, check: str, code_version: str
) -> dict[str, int | float] | None:
    """Return the numbers of this very check on this very content, with these libraries; None if not passed.

    The newest evaluation counts, of whatever run: one that failed since is not forgotten.
    """
    key = dg.AssetCheckKey(dg.AssetKey(manifest.step_name), check)
    for evaluation in _evaluations(instance, key):
        recorded = {name: value.value for name, value in evaluation.metadata.items()}
        if recorded.get("data_version") == manifest.data_version:
            same = evidence(manifest, code_version=code_version)
            passed = evaluation.passed and all(recorded.get(name) == value for name, value in same.items())
            return _numbers(evaluation) if passed else None
    return None


def evidence(manifest: StepManifest, *, code_version: str) -> dict[str, str]:
    """Return what a verdict holds for: the content, the code of the check, and the libraries it ran with."""
    return {
        "data_version": manifest.data_version,
        "code_version": code_version,
        "packages": json_digest(environment().packages)[:16],
    }


def _evaluations(instance: DagsterInstance, key: dg.AssetCheckKey) -> Iterator[AssetCheckEvaluation]:
    """Yield the evaluations of a check, the newest first."""
    for record in instance.event_log_storage.get_asset_check_execution_history(key, limit=_LOOK_BACK):
        event = record.event.dagster_event if record.event else None
        if event is not None and event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            yield event.asset_check_evaluation_data


def _numbers(evaluation: AssetCheckEvaluation) -> dict[str, int | float]:
    """Return the numbers that a check recorded, without the number of its problems."""
    return {
        name: value.value
        for name, value in evaluation.metadata.items()
        if isinstance(value, dg.IntMetadataValue | dg.FloatMetadataValue)
        and value.value is not None
        and name != PROBLEMS
    }
