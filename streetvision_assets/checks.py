"""The two checks that every asset has: its bytes are what was published, and so are its inputs."""

from collections.abc import Iterator, Mapping, Sequence

import dagster as dg

from streetvision_assets.resources import StoreResource
from streetvision_core.data.roles import role_violations
from streetvision_core.errors import IntegrityError, SchemaError, StoreError
from streetvision_core.io import ArtifactStore, PublishedArtifact


def standard_checks(*steps: str) -> list[dg.AssetChecksDefinition]:
    """Return the ``integrity`` and ``lineage`` checks of each step."""
    return [_standard_check(step) for step in steps]


def verdict(
    problems: Sequence[str],
    *,
    good: str,
    metadata: Mapping[str, dg.MetadataValue] | None = None,
    check_name: str | None = None,
) -> dg.AssetCheckResult:
    """Return a passed check that says what holds, or a failed one that says what does not."""
    return dg.AssetCheckResult(
        check_name=check_name,
        passed=not problems,
        severity=dg.AssetCheckSeverity.ERROR,
        description="; ".join(problems) if problems else good,
        metadata=dict(metadata or {}),
    )


def _standard_check(step: str) -> dg.AssetChecksDefinition:
    """Return both checks as one execution step: in Dagster each costs as much again as what it checks."""

    @dg.multi_asset_check(
        name=f"{step}_integrity_and_lineage",
        specs=[
            dg.AssetCheckSpec(
                "integrity",
                asset=step,
                blocking=True,
                description="Every byte hashed again: it is what was published, and nothing else.",
            ),
            dg.AssetCheckSpec(
                "lineage",
                asset=step,
                blocking=True,
                description="The inputs are what the upstream published, and no forbidden role was read.",
            ),
        ],
        ins={"artifact": dg.AssetIn(step)},
    )
    def integrity_and_lineage(
        artifact: PublishedArtifact, store: StoreResource
    ) -> Iterator[dg.AssetCheckResult]:
        yield _check_integrity(artifact)
        yield _check_lineage(artifact, store.open())

    return integrity_and_lineage


def _check_integrity(artifact: PublishedArtifact) -> dg.AssetCheckResult:
    files = artifact.manifest.output_artifacts
    size = sum(file.size_bytes for file in files.values())
    return verdict(
        artifact.problems(),
        good=f"all {size} bytes are as published (files: {len(files)})",
        metadata={"path": dg.MetadataValue.path(str(artifact.directory))},
        check_name="integrity",
    )


def _check_lineage(artifact: PublishedArtifact, store: ArtifactStore) -> dg.AssetCheckResult:
    manifest = artifact.manifest
    forbidden = role_violations(manifest.step_name, manifest.roles, manifest.input_artifacts)
    if problems := forbidden + _broken_links(artifact, store):
        return verdict(problems, good="", check_name="lineage")
    newer = _newer_upstreams(artifact, store)
    return dg.AssetCheckResult(
        check_name="lineage",
        passed=not newer,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(newer) or "made from what its inputs published, all of them current",
    )


def _broken_links(artifact: PublishedArtifact, store: ArtifactStore) -> list[str]:
    """Return each recorded input that is gone, or is not what the run it names published."""
    broken = []
    for name in artifact.manifest.input_artifacts:
        try:
            store.input_of(artifact, name)
        except (StoreError, IntegrityError, SchemaError) as error:
            broken.append(str(error))
    return broken


def _newer_upstreams(artifact: PublishedArtifact, store: ArtifactStore) -> list[str]:
    """Return each input of which the store now holds other content than this was made from."""
    inputs = artifact.manifest.input_artifacts
    return [
        f"{name} has been published anew since this was made from it; materialize again to follow it"
        for name, given in inputs.items()
        if store.resolve(name).manifest.data_version != given.data_version
    ]
