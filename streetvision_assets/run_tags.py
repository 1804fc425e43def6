"""Tags of a run, by which a person finds it again: the commit of the code, and where its images came from.

They are set by the first step of the run and not by whoever starts it, so that runs from the browser have
them too, and so that a source that was taken from the store is the one that is named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streetvision_core.history.text import source_of
from streetvision_core.io.provenance import git_state

if TYPE_CHECKING:
    from collections.abc import Mapping

    import dagster as dg

COMMIT, DIRTY, SOURCE = "commit", "dirty", "source"
# The tags of the code of the run that this process is at, by its id.
_CODE: dict[str, dict[str, str]] = {}


def tag_run(context: dg.AssetExecutionContext, images_config: Mapping[str, Any] | None) -> None:
    """Tag the run of a step with ``commit`` and ``dirty``, and with ``source`` where that is known.

    Args:
        context: Dagster's context of the step.
        images_config: The configuration of the ``images`` that the step reads or makes, if it does.
    """
    if not context.instance.has_run(context.run.run_id):  # an asset that was called as a plain function
        return
    tags = {**_code_of(context.run.run_id)}
    if images_config is not None:
        kind, settings = source_of(images_config)
        tags[SOURCE] = f"{kind} {settings.get('path', '')}".strip()
    context.instance.add_run_tags(context.run.run_id, tags)


def _code_of(run_id: str) -> dict[str, str]:
    """Return the tags of the code as it was at the first step of a run; git takes its time."""
    if run_id not in _CODE:
        state = git_state()
        _CODE.clear()
        _CODE[run_id] = {COMMIT: state.sha[:12], DIRTY: str(state.dirty).lower()}
    return _CODE[run_id]
