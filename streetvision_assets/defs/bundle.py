"""Phase 6: the deployment bundle."""

import json
from functools import partial

import dagster as dg

from streetvision_assets.checks import Verdict, proof, standard_checks
from streetvision_assets.conventions import optional_inputs, stage_asset
from streetvision_assets.metadata import NO_ANSWER, markdown, with_interval
from streetvision_assets.resources import StoreResource
from streetvision_assets.step import Step, StepOutput
from streetvision_core.bundle.config import BundleConfig
from streetvision_core.bundle.export import adopt_bundle, export_bundle
from streetvision_core.bundle.hub.front_matter import page_of
from streetvision_core.bundle.layout import (
    CARD,
    EVALUATION,
    EXPECTED,
    GOLDEN_PREFIX,
    README,
    RECORD,
    REDACTED,
)
from streetvision_core.bundle.leaving import what_leaves
from streetvision_core.bundle.lineage import choose_parts
from streetvision_core.bundle.verify import moved_bundle_problems, release_of
from streetvision_core.data.opening import open_images
from streetvision_core.data.splits import Splits
from streetvision_core.graph import BUNDLE, CONDITIONS, STEPS
from streetvision_core.io import Artifact, PublishedArtifact, json_bytes
from streetvision_core.report.evaluation import Evaluation
from streetvision_core.report.release import RELEASE_NAME, Release
from streetvision_core.report.report import Report

ROLES = STEPS[BUNDLE].roles
SHOWN = (RECORD, CARD, EVALUATION, RELEASE_NAME)


class BundleStep(BundleConfig, dg.Config):
    """Configuration of ``bundle``."""


@stage_asset(
    group="deploy", kinds={"pytorch", "huggingface"}, phase=6, ins=optional_inputs(*STEPS[BUNDLE].optional)
)
def bundle(
    context: dg.AssetExecutionContext,
    config: BundleStep,
    store: StoreResource,
    images: PublishedArtifact,
    splits: PublishedArtifact,
    backbone: PublishedArtifact,
    phase1_checkpoint: PublishedArtifact,
    conditions: PublishedArtifact,
    **others: PublishedArtifact | None,
) -> dg.MaterializeResult[StepOutput]:
    """The deployment bundle: one model, one policy, its report, and the lineage of every byte."""
    required = {
        "images": images,
        "splits": splits,
        "backbone": backbone,
        "phase1_checkpoint": phase1_checkpoint,
        "conditions": conditions,
    }
    parts = choose_parts({**required, **others}, config=config, input_of=store.open().input_of)
    for sentence in parts.left_out:
        context.log.info(sentence)
    step = Step.begin(
        context, store, config, *parts.upstream.values(), roles=ROLES, anonymous=config.lineage == REDACTED
    )
    exported = step.reused(partial(adopt_bundle, upstream=parts.upstream)) or export_bundle(
        parts.upstream,
        config=config,
        images=open_images(
            images,
            Splits.from_artifact(splits),
            roles=step.roles,
            conditions=parts.upstream.get(CONDITIONS),
        ),
        directory=step.directory,
    )
    step = step.count_looks(images, splits)
    leaves = what_leaves(exported.files)
    context.log.info(leaves)
    return step.result(
        exported,
        told={**_show_reached(exported), "leaves the machine": leaves},
        shown=lambda: {"readme": markdown(_page(exported))},
    )


def _page(exported: Artifact) -> str:
    readme = exported.files[README]
    assert isinstance(readme, bytes)  # the weights alone are staged
    return page_of(readme)


def _show_reached(exported: Artifact) -> dict[str, str]:
    """Return the model, its policy, and what it reached on val_test where that was measured."""
    read = {
        name: json.loads(content)
        for name, content in exported.files.items()
        if name in SHOWN and isinstance(content, bytes)
    }
    kind = read[RECORD]["policy"]["type"]
    facts = {"model": f"{read[CARD]['model_name']}, {read[RECORD]['architecture']}", "policy": kind}
    if EVALUATION in read:
        reached = Report.model_validate_json(json_bytes(read[EVALUATION])).of(kind)
        facts["MCC on val_test"] = (
            with_interval(reached.metrics["mcc"], reached.interval("mcc")) if reached.intervals else NO_ANSWER
        )
    facts["release"] = Release.model_validate_json(json_bytes(read[RELEASE_NAME])).text()
    return facts


@proof(
    "bundle",
    description="The bundle verifies in another directory, and decides as its report says where it has one.",
    always=lambda bundle: moved_bundle_problems(bundle.directory, deep=False),
)
def deployable(bundle: PublishedArtifact, store: StoreResource) -> Verdict:
    """Use the bundle as its receiver would: moved, verified, loaded, asked."""
    opened, names = store.open(), bundle.manifest.output_artifacts
    golden = sum(name.startswith(GOLDEN_PREFIX) and name != EXPECTED for name in names)
    counts = {"files": len(names), "golden_images": golden}
    inputs = bundle.manifest.input_artifacts
    if "evaluation" not in inputs:
        problems = moved_bundle_problems(bundle.directory)
        return Verdict(problems, good="verified after being moved", counts=counts)
    splits = Splits.from_artifact(opened.input_of(bundle, "splits"))
    report = Evaluation.from_artifact(opened.input_of(bundle, "evaluation"))
    problems = moved_bundle_problems(
        bundle.directory,
        evaluation=report,
        images=open_images(
            opened.input_of(bundle, "images"),
            splits,
            roles=ROLES,
            conditions=opened.input_of(bundle, CONDITIONS) if CONDITIONS in inputs else None,
        ),
    )
    return Verdict(
        problems,
        good="verified after being moved; every reported decision reproduced",
        counts={**counts, "images": len(report.tested)},
    )


@proof(
    "bundle",
    description="The bad ends of its intervals on val_test keep the release rules.",
    blocking=False,  # a bundle that may not be released is whole; `streetvision promote` refuses it
)
def releasable(bundle: PublishedArtifact) -> Verdict:
    """Judge the bundle by its release rules."""
    release = release_of(bundle)
    return Verdict(release.problems, good=release.text(), counts=release.counts())


CHECKS = [*standard_checks("bundle"), deployable, releasable]
