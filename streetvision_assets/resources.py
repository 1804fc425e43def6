"""The artifact store as a Dagster resource, and how Dagster's runs map to the store's."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from streetvision_assets.commands.stale_runs import begin_run, end_run
from streetvision_assets.conventions import VERIFY
from streetvision_assets.settings.rules import check_run
from streetvision_core.errors import MissingArtifactError
from streetvision_core.io.store import ArtifactStore, default_store

if TYPE_CHECKING:
    from streetvision_core.io import PublishedArtifact


class StoreResource(dg.ConfigurableResource[ArtifactStore]):
    """The store of the artifacts, and the choice to take over what lies there or to compute it again."""

    # One setting for every step: whoever wants one computed again selects that one.
    reuse: bool = Field(
        default=True,
        description="take what was published of exactly this code, configuration and input, if there is any;"
        " false computes every selected step, and reads every image again",
    )

    def open(self) -> ArtifactStore:
        """Return the store that STREETVISION_STORE names, or that in $DAGSTER_HOME/artifacts."""
        return ArtifactStore(default_store())

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Claim the run before its first step, fail runs whose process is gone, hold the rules across steps.

        Raises:
            StreetVisionError: there is nothing to check, or a later step of the run could only fail.
        """
        if context.run and context.run.job_name == VERIFY:
            self._require_something()
        elif context.run:
            check_run(context.run, self.open())
        if context.instance and context.run:
            begin_run(context.instance, context.run.run_id)

    def _require_something(self) -> None:
        """Refuse to check an empty store, once: each of the checks would repeat it."""
        store = self.open()
        if not store.current_steps():
            raise MissingArtifactError(
                "something to check",
                "nothing published",
                store.root,
                "Run make bundle first, or name another store (STREETVISION_STORE).",
            )

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Give the claim back; a process that is killed loses it as well."""
        if context.instance and context.run:
            end_run(context.instance, context.run.run_id)


_created: dict[str, datetime] = {}


def store_run_id(instance: dg.DagsterInstance, dagster_run_id: str) -> str:
    """Return the store's id of a Dagster run: `YYYYMMDDTHHMMSS-<first 8 of its id>`.

    The time is the one at which Dagster created the run, so that every step of the run, in whichever
    process, arrives at the same id. A run that Dagster does not know (an asset called as a plain
    function) takes the time of the call.
    """
    # Every step and every check asks for each of its inputs, and Dagster's answer is a query.
    created = _created.get(dagster_run_id)
    if created is None and (record := instance.get_run_record_by_id(dagster_run_id)):
        created = _created[dagster_run_id] = record.create_timestamp
    return f"{(created or datetime.now(tz=UTC)).astimezone(UTC):%Y%m%dT%H%M%S}-{dagster_run_id[:8]}"


def resolve_published(
    store: ArtifactStore,
    instance: dg.DagsterInstance,
    key: dg.AssetKey,
    *,
    current_run: str,
    named_run: str | None,
) -> PublishedArtifact:
    """Find what a step should read: never "the newest directory", never another run's by accident.

    From the same run if that run produced it; else from the run that Dagster names (the parent of a
    re-execution, or the latest materialization); else, when the event log was wiped or tells of
    another store, from the store's own pointer.

    Args:
        store: The artifact store.
        instance: The Dagster instance whose events name the latest materialization.
        key: The asset.
        current_run: The id of the Dagster run that reads.
        named_run: The id of the Dagster run that Dagster names as the source, if it names one.

    Raises:
        MissingArtifactError: nothing was ever published, or the run itself, or the one that Dagster names,
            lost what it published.
    """
    step = key.path[-1]
    if named_run == current_run:
        return store.resolve(step, run_id=store_run_id(instance, current_run))
    if named_run is not None:
        return store.resolve(step, run_id=_required_run(store, named_run, step))
    event = instance.get_latest_materialization_event(key)
    run_id = store.find_run(event.run_id, step) if event else None
    return store.resolve(step, run_id=run_id)


def _required_run(store: ArtifactStore, dagster_run_id: str, step: str) -> str:
    run_id = store.find_run(dagster_run_id, step)
    if run_id is None:
        raise MissingArtifactError(
            f"what the parent run {dagster_run_id[:8]} published as {step}",
            "nothing of it in this store",
            store.root,
            "Materialize it anew instead of continuing that run.",
        )
    return run_id
