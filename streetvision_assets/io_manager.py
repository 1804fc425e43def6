"""The IO manager: writes what an asset returns and reads what it takes, through the artifact store.

Out: every file is made durable under the step's own directory and hashed on the way, or lies there already
because an earlier run's content was taken over; the side file that names the machine and its paths is
written, then the manifest, then the pointers; digest, commit, configuration hash, run and path become
metadata. In: the artifact of the right run is found, and its readers verify every byte they hand over.
"""

from typing import Any

import dagster as dg

from streetvision_assets.conventions import OPTIONAL
from streetvision_assets.resources import StoreResource, resolve_published
from streetvision_assets.step import StepOutput
from streetvision_core.errors import StreetVisionError
from streetvision_core.io import (
    ArtifactStore,
    PublishedArtifact,
    StepManifest,
    StepRun,
    describe_reuse,
    describe_step,
)
from streetvision_core.io.claims import forget_progress
from streetvision_core.io.private import utc_now

# What Dagster reports when the upstream was not made by the run that reads it.
_OUTSIDE_THE_RUN = "__EPHEMERAL_RUN_ID"


class ArtifactIOManager(dg.ConfigurableIOManager):
    """Publishes artifacts in, and resolves them from, the store."""

    store: dg.ResourceDependency[StoreResource]

    def _open_store(self) -> ArtifactStore:
        return self.store.open()

    def handle_output(self, context: dg.OutputContext, obj: StepOutput) -> None:
        """Stage, publish and describe what a step made."""
        step, store = obj.step, self.store.open()
        manifest = _describe_taken_over(obj, store) if step.origin else _describe_computed(obj, store)
        published = store.publish(step.directory, manifest)
        forget_progress(step.resume, root=store.root)
        context.add_output_metadata(publication_metadata(published, renamed=obj.renamed))
        context.log.info(
            "published %s after %.1f s as %s: %s",
            step.name,
            (utc_now() - step.started).total_seconds(),
            manifest.data_version[:12],
            published.directory,
        )

    def load_input(self, context: dg.InputContext) -> PublishedArtifact | None:
        """Find the artifact that this step should read; its readers verify what they return.

        None stands for an optional input that was never published, or whose published files cannot be read.
        The log says so, and whoever needs it says what to do.
        """
        named = context.upstream_output.run_id if context.upstream_output else _OUTSIDE_THE_RUN
        outside = named == _OUTSIDE_THE_RUN
        optional = outside and bool((context.definition_metadata or {}).get(OPTIONAL))
        store, step = self.store.open(), context.asset_key.path[-1]
        if optional and step not in store.current_steps():
            return None
        try:
            return resolve_published(
                store,
                context.instance,
                context.asset_key,
                current_run=context.step_context.run_id,
                named_run=None if outside else named,
            )
        except StreetVisionError as error:
            if not optional:
                raise
            context.log.warning("%s is left out: %s", step, error)
            return None


class CheckedIOManager(ArtifactIOManager):
    """Gives a check its artifact, or None where nothing of it was ever published in this store.

    A lost pointer to what was published is a fault, which the check has to tell.
    """

    def load_input(self, context: dg.InputContext) -> PublishedArtifact | None:
        """Find the artifact that this check looks at."""
        upstream, store = context.upstream_output, self._open_store()
        made_here = upstream is not None and upstream.run_id == context.step_context.run_id
        if not made_here and not store.has_any(context.asset_key.path[-1]):
            return None
        return super().load_input(context)


def _describe_computed(output: StepOutput, store: ArtifactStore) -> StepManifest:
    step = output.step
    return describe_step(
        StepRun(
            step_name=step.name,
            run_id=step.run_id,
            dagster_run_id=step.dagster_run_id,
            code_version=step.code_version,
            config=step.config,
            inputs=step.references,
            roles=step.roles,
            outputs=store.write(step.directory, output.artifact),
            metrics={**output.artifact.metrics, **step.looked},
            started=step.started,
            finished=utc_now(),
            device=output.device,
            seed=output.seed,
            private_sha256=store.write_private(step.directory, step.private) if step.private else None,
        )
    )


def _describe_taken_over(output: StepOutput, store: ArtifactStore) -> StepManifest:
    """Describe content that was taken over; only its lineage is this run's own."""
    step, origin = output.step, output.step.origin
    assert origin is not None
    return describe_reuse(
        origin.manifest,
        manifest_sha256=origin.manifest_sha256,
        run_id=step.run_id,
        dagster_run_id=step.dagster_run_id,
        inputs=step.references,
        outputs=origin.content | store.write(step.directory, output.artifact.lineage),
        metrics=step.looked,
    )


def publication_metadata(published: PublishedArtifact, *, renamed: frozenset[str]) -> dict[str, Any]:
    """Return what the UI shows of every publication, so that it can be found again without the UI.

    Metrics that are `renamed` stand on the page already, under a name for people.
    """
    manifest = published.manifest
    # What was measured first, then where it lies, then what only a program compares.
    return {
        **{name: value for name, value in manifest.metrics.items() if name not in renamed},
        "duration_seconds": manifest.duration_seconds,
        "size_bytes": sum(file.size_bytes for file in manifest.output_artifacts.values()),
        "files": len(manifest.output_artifacts),
        "path": dg.MetadataValue.path(str(published.directory)),
        "run": manifest.run_id,
        **({"reused_from": manifest.reused_from.run_id} if manifest.reused_from else {}),
        "git_sha": manifest.git_sha + (" (dirty)" if manifest.git_dirty else ""),
        "code_version": manifest.code_version,
        "config_hash": manifest.config_hash,
        "manifest_sha256": published.manifest_sha256,
        "digest": manifest.data_version,
    }
