"""What Dagster's event log tells of the run that computed what a later run takes over.

The pictures that were drawn of an artifact and the checks that it has passed follow from its content and
the code, so where the content is taken over nothing has to be drawn or proved again: both are looked up in
the events of the run that computed it. Where the log was wiped, or the code of a check has changed, nothing
is found, and it is done again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dagster import AssetCheckEvaluation, DagsterInstance

    from streetvision_core.io import StepManifest

CHECK_CODE = "code_version"


def drawn_before(instance: DagsterInstance, dagster_run_id: str, step: str) -> dict[str, dg.MetadataValue]:
    """Return the pictures and tables that a run showed of a step; none where its events are gone."""
    for entry in instance.all_logs(dagster_run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION):
        event = entry.get_dagster_event()
        if event.asset_key == dg.AssetKey(step):
            metadata = event.step_materialization_data.materialization.metadata
            return {
                name: value for name, value in metadata.items() if isinstance(value, dg.MarkdownMetadataValue)
            }
    return {}


def passed_before(
    instance: DagsterInstance, manifest: StepManifest, *, check: str, code_version: str
) -> bool:
    """Tell whether this very check has passed on this very content in the run that computed it."""
    origin = manifest.reused_from
    if origin is None:
        return False
    return any(
        evaluation.passed
        and evaluation.asset_key == dg.AssetKey(manifest.step_name)
        and evaluation.check_name == check
        and evaluation.metadata[CHECK_CODE].value == code_version
        for evaluation in _evaluations(instance, origin.dagster_run_id)
        if CHECK_CODE in evaluation.metadata
    )


def _evaluations(instance: DagsterInstance, dagster_run_id: str) -> Iterator[AssetCheckEvaluation]:
    for entry in instance.all_logs(dagster_run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION):
        yield entry.get_dagster_event().asset_check_evaluation_data
