"""Asset checks: the two that every asset has, and how the proofs of its own are made.

Every asset's bytes are what was published (``integrity``), and so are its inputs (``lineage``). These two
are done in every run. What is proved of the content besides depends on the content alone.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from streetvision_assets.code_version import code_version
from streetvision_assets.remembered import evidence, passed_before
from streetvision_assets.resources import StoreResource
from streetvision_core.data.roles import role_violations
from streetvision_core.errors import IntegrityError, SchemaError, StoreError, StreetVisionError
from streetvision_core.escape import PARAGRAPH, for_markdown
from streetvision_core.io import ArtifactStore, PublishedArtifact


def standard_checks(*steps: str) -> list[dg.AssetChecksDefinition]:
    """Return the ``integrity`` and ``lineage`` checks of each step."""
    return [_standard_check(step) for step in steps]


_TAKEN_OVER = "passed before on the same content, with the same code and libraries"


@dataclass(frozen=True)
class Verdict:
    """What a check has found: ``problems``, one sentence each, or else the ``good`` that it has proved.

    ``counts`` are the numbers behind it, which the UI draws over time.
    """

    problems: Sequence[str]
    good: str
    counts: Mapping[str, int | float] = field(default_factory=dict)

    def result(
        self, *, check_name: str | None = None, metadata: Mapping[str, Any] | None = None
    ) -> dg.AssetCheckResult:
        """Return it in Dagster's terms."""
        return dg.AssetCheckResult(
            check_name=check_name,
            passed=not self.problems,
            severity=dg.AssetCheckSeverity.ERROR,
            # The page of a check renders this as Markdown, images included; problems name files and groups.
            description=for_markdown("; ".join(self.problems) or self.good, limit=PARAGRAPH),
            metadata={"problems": len(self.problems), **self.counts, **(metadata or {})},
        )


def proof(
    asset: str, *, description: str, always: Callable[[PublishedArtifact], Sequence[str]] = lambda _: ()
) -> Callable[[Callable[..., Verdict]], dg.AssetChecksDefinition]:
    """Return a decorator that makes a blocking asset check of a function of published artifacts.

    Where a run takes over content that has passed this very check, the check says so instead of proving it
    again. The job ``verify`` proves everything.

    Args:
        asset: The asset that is checked.
        description: What the check proves.
        always: What is proved in every run, of the published artifact itself.
    """

    def define(body: Callable[..., Verdict]) -> dg.AssetChecksDefinition:
        name, version = body.__name__, code_version(body)

        def check(context: dg.AssetCheckExecutionContext, **inputs: Any) -> dg.AssetCheckResult:
            manifest = inputs[asset].manifest
            taken_over_here = manifest.reused_from and manifest.dagster_run_id == context.run.run_id
            try:
                if taken_over_here and passed_before(
                    context.instance, manifest, check=name, code_version=version
                ):
                    found = Verdict(always(inputs[asset]), good=_TAKEN_OVER)
                else:
                    found = body(**inputs)
            except StreetVisionError as error:
                found = Verdict([str(error)], good="")  # a verdict, so that no later run forgets it
            told = evidence(manifest, code_version=version)
            return found.result(metadata=told)

        # Dagster reads names and types of the inputs from the signature.
        own = inspect.signature(check).parameters["context"]
        signature = inspect.signature(body)
        check.__signature__ = signature.replace(  # type: ignore[attr-defined]  # a function takes one
            parameters=[own, *signature.parameters.values()], return_annotation=dg.AssetCheckResult
        )
        check.__annotations__ |= {key: one for key, one in body.__annotations__.items() if key != "return"}
        check.__doc__ = body.__doc__
        return dg.asset_check(asset=asset, name=name, blocking=True, description=description)(check)

    return define


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
        can_subset=True,  # or the UI can execute neither of them
    )
    def integrity_and_lineage(
        context: dg.AssetCheckExecutionContext, artifact: PublishedArtifact, store: StoreResource
    ) -> Iterator[dg.AssetCheckResult]:
        selected = {key.name for key in context.selected_asset_check_keys}
        if "integrity" in selected:
            yield _check_integrity(artifact)
        if "lineage" in selected:
            yield _check_lineage(artifact, store.open())

    return integrity_and_lineage


def _check_integrity(artifact: PublishedArtifact) -> dg.AssetCheckResult:
    files = artifact.manifest.output_artifacts
    size = sum(file.size_bytes for file in files.values())
    found = Verdict(artifact.problems(), good=f"all {size} bytes are as published (files: {len(files)})")
    return found.result(
        check_name="integrity",
        metadata={
            "files": len(files),
            "bytes": size,
            "path": dg.MetadataValue.path(str(artifact.directory)),
        },
    )


def _check_lineage(artifact: PublishedArtifact, store: ArtifactStore) -> dg.AssetCheckResult:
    manifest = artifact.manifest
    forbidden = role_violations(manifest.step_name, manifest.roles, manifest.input_artifacts)
    counts = {"inputs": len(manifest.input_artifacts), "roles": len(manifest.roles)}
    if problems := forbidden + _broken_links(artifact, store):
        return Verdict(problems, good="", counts=counts).result(check_name="lineage")
    newer = _newer_upstreams(artifact, store)
    return dg.AssetCheckResult(
        check_name="lineage",
        passed=not newer,
        severity=dg.AssetCheckSeverity.WARN,
        description=for_markdown("; ".join(newer), limit=PARAGRAPH)
        or "made from what its inputs published, all of them current",
        metadata={"problems": 0, "outdated_inputs": len(newer), **counts},
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
    current = {name: store.resolve(name).manifest for name in inputs.keys() & store.current_steps()}
    return [
        f"{name} has been published anew since this was made from it; materialize again to follow it"
        for name, manifest in sorted(current.items())
        if manifest.data_version != inputs[name].data_version
    ]
