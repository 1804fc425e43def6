"""One execution of a step: what an asset needs around its one call into the core library.

``begin`` opens the step's directory and remembers what it reads and when it started; ``result`` turns
the record that the core returned into a MaterializeResult. The IO manager writes and publishes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import dagster as dg

from streetvision_assets.resources import StoreResource, store_run_id
from streetvision_core.io import Artifact
from streetvision_core.io.provenance import utc_now

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from streetvision_core.io import InputArtifact, PublishedArtifact


class Record(Protocol):
    """What the core returns from a step: it knows how to become an artifact."""

    def to_artifact(self) -> Artifact:
        """Return the files of the record."""


@dataclass(frozen=True)
class Step:
    """A step that has begun: its place in the store and everything its manifest will say."""

    name: str
    run_id: str
    dagster_run_id: str
    code_version: str
    directory: Path
    config: Mapping[str, Any]
    inputs: Mapping[str, InputArtifact]
    roles: tuple[str, ...]
    started: datetime

    @classmethod
    def begin(
        cls,
        context: dg.AssetExecutionContext,
        store: StoreResource,
        config: dg.Config | None = None,
        *inputs: PublishedArtifact,
        roles: tuple[str, ...] = (),
    ) -> Step:
        """Open the directory of this step in this run and note which artifacts and roles it reads."""
        run_id, name = store_run_id(context.instance, context.run.run_id), context.asset_key.path[-1]
        return cls(
            name=name,
            run_id=run_id,
            dagster_run_id=context.run.run_id,
            code_version=context.assets_def.code_versions_by_key[context.asset_key] or "",
            directory=store.open().stage(run_id, name),
            config=config.model_dump(mode="json") if config is not None else {},
            inputs={given.manifest.step_name: given.reference for given in inputs},
            roles=roles,
            started=utc_now(),
        )

    def result(
        self,
        record: Record | Artifact,
        *,
        metadata: Mapping[str, Any] | None = None,
        device: str = "cpu",
        seed: int | None = None,
    ) -> dg.MaterializeResult[StepOutput]:
        """Return the record as what Dagster materializes, under the digest of its content."""
        artifact = record if isinstance(record, Artifact) else record.to_artifact()
        return dg.MaterializeResult(
            value=StepOutput(step=self, artifact=artifact, device=device, seed=seed),
            data_version=dg.DataVersion(artifact.digest),
            metadata=dict(metadata or {}),
        )


@dataclass(frozen=True)
class StepOutput:
    """What goes from an asset to the IO manager."""

    step: Step
    artifact: Artifact
    device: str
    seed: int | None
