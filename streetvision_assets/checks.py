"""Asset checks: the two that every asset has, and how the proofs of its own are made.

Every asset's bytes are what was published (`integrity`), and so are its inputs (`lineage`). These two
are done in every run. What is proved of the content besides depends on the content alone.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import dagster as dg

from streetvision_assets.code_version import code_version
from streetvision_assets.conventions import checked_input
from streetvision_assets.remembered import PROBLEMS, counts_when_passed, evidence
from streetvision_assets.resources import StoreResource
from streetvision_core.errors import IntegrityError, SchemaError, StoreError, StreetVisionError
from streetvision_core.escape import PARAGRAPH, for_markdown
from streetvision_core.graph import CHECKPOINT, LOGITS, POLICIES, role_violations
from streetvision_core.inference.logits import Logits
from streetvision_core.io import ArtifactStore, PublishedArtifact
from streetvision_core.policies.registry import refit_problems
from streetvision_core.training.checkpoint import Checkpoint

# Gives what an artifact was made from, by step.
InputOf = Callable[[str], PublishedArtifact]


_TAKEN_OVER = "passed before on the same content, with the same code and libraries"


@dataclass(frozen=True)
class Verdict:
    """The result of a check: its `problems`, one sentence each; without any, `good` says what it proved.

    `counts` are the numbers behind it, which the UI draws over time.
    Problems of severity WARN stop no run.
    """

    problems: Sequence[str]
    good: str
    counts: Mapping[str, int | float] = field(default_factory=dict)
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR

    def result(
        self, *, check_name: str | None = None, metadata: Mapping[str, Any] | None = None
    ) -> dg.AssetCheckResult:
        """Return it in Dagster's terms."""
        return dg.AssetCheckResult(
            check_name=check_name,
            passed=not self.problems,
            severity=self.severity,
            # The page of a check renders this as Markdown, images included; problems name files and groups.
            description=for_markdown("; ".join(self.problems) or self.good, limit=PARAGRAPH),
            metadata={PROBLEMS: len(self.problems), **self.counts, **(metadata or {})},
        )


Body = Callable[[PublishedArtifact, InputOf], Verdict]


def proof(
    asset: str,
    *,
    always: Callable[[PublishedArtifact], Sequence[str]] = lambda _: (),
    blocking: bool = True,
) -> Callable[[Body], dg.AssetChecksDefinition]:
    """Return a decorator that makes an asset check of a function of a published artifact and its inputs.

    Its docstring says what the check proves. Where a run takes over content that has passed this very check,
    the check says so instead of proving it again. The job `verify` proves everything.

    Args:
        asset: The asset that is checked.
        always: What is proved in every run, of the published artifact itself.
        blocking: Whether a failure fails the run.
    """

    def define(body: Body) -> dg.AssetChecksDefinition:
        name, version = body.__name__, code_version(body, step=asset)
        spec = dg.AssetCheckSpec(name, asset=asset, blocking=blocking, description=body.__doc__)

        # Not `asset_check`, which takes no metadata of the input that it checks.
        @dg.multi_asset_check(
            name=f"{asset}_{name}",
            specs=[spec],
            ins={"artifact": checked_input(asset)},
        )
        def check(
            context: dg.AssetCheckExecutionContext, artifact: PublishedArtifact | None, store: StoreResource
        ) -> dg.AssetCheckResult:
            if artifact is None:
                return nothing_to_check(asset)
            manifest = artifact.manifest
            counts = None
            if manifest.reused_from and manifest.dagster_run_id == context.run.run_id:
                counts = counts_when_passed(context.instance, manifest, check=name, code_version=version)
            try:
                if counts is None:
                    verdict = body(artifact, partial(store.open().input_of, artifact))
                else:
                    verdict = Verdict(always(artifact), good=_TAKEN_OVER, counts=counts)
            except StreetVisionError as error:
                verdict = Verdict([str(error)], good="")  # a verdict, so that no later run forgets it
            return verdict.result(metadata=evidence(manifest, code_version=version))

        return check

    return define


def policy_check(kind: str, *, name: str, proves: str, good: str) -> dg.AssetChecksDefinition:
    """Return the check that fits a kind of policy again on what it was fitted on; no network runs.

    Args:
        kind: The kind, as the table of the graph names it.
        name: The name of the check.
        proves: What the check proves.
        good: What the check says where nothing differs.
    """

    def refit(policy: PublishedArtifact, input_of: InputOf) -> Verdict:
        upstream = {
            step: input_of(step) for step in (CHECKPOINT, LOGITS) if step in policy.manifest.input_artifacts
        }
        select = Checkpoint.from_artifact(upstream[CHECKPOINT]).val_select
        logits = Logits.from_artifact(upstream[LOGITS]) if LOGITS in upstream else select
        problems = refit_problems(kind, {POLICIES[kind].step: policy, **upstream}, select=select)
        return Verdict(problems, good=good, counts={"images": len(logits.ids)})

    refit.__name__, refit.__doc__ = name, proves
    return proof(POLICIES[kind].step)(refit)


def standard_check(step: str) -> dg.AssetChecksDefinition:
    """Return `integrity` and `lineage` of a step as one execution step: each costs as much again."""

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
        ins={"artifact": checked_input(step)},
        can_subset=True,  # or the UI can execute neither of them
    )
    def integrity_and_lineage(
        context: dg.AssetCheckExecutionContext, artifact: PublishedArtifact | None, store: StoreResource
    ) -> Iterator[dg.AssetCheckResult]:
        selected = {key.name for key in context.selected_asset_check_keys}
        if artifact is None:
            yield from (nothing_to_check(step, check_name=name) for name in sorted(selected))
            return
        if "integrity" in selected:
            yield _check_integrity(artifact)
        if "lineage" in selected:
            yield _check_lineage(artifact, store.open())

    return integrity_and_lineage


def nothing_to_check(step: str, *, check_name: str | None = None) -> dg.AssetCheckResult:
    """Return the result for an asset that no run has made yet: a remark, for nothing is wrong."""
    return dg.AssetCheckResult(
        check_name=check_name,
        passed=True,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"nothing of {step} was ever made in this store, so there is nothing to check",
    )


def _check_integrity(artifact: PublishedArtifact) -> dg.AssetCheckResult:
    files = artifact.manifest.output_artifacts
    size = sum(file.size_bytes for file in files.values())
    verdict = Verdict(artifact.problems(), good=f"all {size} bytes are as published (files: {len(files)})")
    return verdict.result(
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
        metadata={PROBLEMS: 0, "outdated_inputs": len(newer), **counts},
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
