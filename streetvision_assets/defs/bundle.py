"""Phase 6: the deployment bundle."""

import json
from functools import partial

import dagster as dg

from streetvision_assets.checks import InputOf, Verdict, proof
from streetvision_assets.conventions import inputs_of, stage_asset
from streetvision_assets.metadata import markdown, reached_mcc
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
    BundleRecord,
)
from streetvision_core.bundle.leaving import what_leaves
from streetvision_core.bundle.lineage import choose_parts
from streetvision_core.bundle.verify import moved_bundle_problems, release_of
from streetvision_core.data.opening import open_images
from streetvision_core.data.splits import Splits
from streetvision_core.graph import BUNDLE, CONDITIONS, STEPS
from streetvision_core.io import Artifact, PublishedArtifact
from streetvision_core.report.evaluation import Evaluation
from streetvision_core.report.release import RELEASE_NAME, Release
from streetvision_core.report.report import Report


@stage_asset(group="deploy", kinds={"pytorch", "huggingface"}, phase=6, ins=inputs_of(BUNDLE))
def bundle(
    context: dg.AssetExecutionContext,
    config: BundleConfig,
    store: StoreResource,
    **published: PublishedArtifact | None,
) -> dg.MaterializeResult[StepOutput]:
    """The deployment bundle: one model, one policy, its report, and the lineage of every byte."""
    parts = choose_parts(published, config=config, input_of=store.open().input_of)
    for sentence in parts.left_out:
        context.log.info(sentence)
    upstream = parts.upstream
    step = Step.begin(context, store, config, *upstream.values(), anonymous=config.lineage == REDACTED)
    exported = step.reused(partial(adopt_bundle, upstream=upstream)) or export_bundle(
        upstream,
        config=config,
        images=open_images(
            upstream["images"],
            Splits.from_artifact(upstream["splits"]),
            roles=step.roles,
            conditions=upstream.get(CONDITIONS),
        ),
        directory=step.directory,
    )
    step = step.count_looks()
    leaves = what_leaves(exported.files)
    context.log.info(leaves)
    return step.result(
        exported,
        facts={**_show_reached(exported), "leaves the machine": leaves},
        shown=lambda: {"readme": markdown(page_of(_bytes(exported, README)))},
    )


def _bytes(exported: Artifact, name: str) -> bytes:
    content = exported.files[name]
    assert isinstance(content, bytes)  # the weights alone are staged
    return content


def _show_reached(exported: Artifact) -> dict[str, str]:
    """Return the model, its policy, and what it reached on val_test where that was measured."""
    record = BundleRecord.from_bytes(_bytes(exported, RECORD), where=RECORD)
    card, kind = json.loads(_bytes(exported, CARD)), record.policy.type
    facts = {"model": f"{card['model_name']}, {record.architecture}", "policy": kind}
    if EVALUATION in exported.files:
        report = Report.model_validate_json(_bytes(exported, EVALUATION))
        facts["MCC on val_test"] = reached_mcc(report.of(kind))
    return facts | {"release": Release.model_validate_json(_bytes(exported, RELEASE_NAME)).text()}


@proof("bundle", always=lambda bundle: moved_bundle_problems(bundle.directory, deep=False))
def deployable(bundle: PublishedArtifact, input_of: InputOf) -> Verdict:
    """The bundle verifies in another directory, and decides as its report says where it has one."""
    names = bundle.manifest.output_artifacts
    golden = sum(name.startswith(GOLDEN_PREFIX) and name != EXPECTED for name in names)
    counts = {"files": len(names), "golden_images": golden}
    inputs = bundle.manifest.input_artifacts
    if "evaluation" not in inputs:
        problems = moved_bundle_problems(bundle.directory)
        return Verdict(problems, good="verified after being moved", counts=counts)
    splits = Splits.from_artifact(input_of("splits"))
    report = Evaluation.from_artifact(input_of("evaluation"))
    problems = moved_bundle_problems(
        bundle.directory,
        evaluation=report,
        images=open_images(
            input_of("images"),
            splits,
            roles=STEPS[BUNDLE].roles,
            conditions=input_of(CONDITIONS) if CONDITIONS in inputs else None,
        ),
    )
    return Verdict(
        problems,
        good="verified after being moved; every reported decision reproduced",
        counts={**counts, "images": len(report.tested)},
    )


@proof("bundle", blocking=False)  # a bundle that may not be released is whole; `promote` refuses it
def releasable(bundle: PublishedArtifact, _: InputOf) -> Verdict:
    """The bad ends of its intervals on val_test keep the release rules."""
    release = release_of(bundle)
    return Verdict(release.problems, good=release.text(), counts=release.counts())
