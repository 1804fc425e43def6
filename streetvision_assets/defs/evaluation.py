"""The report: val_test, once, on the path that the bundle's predictor takes, every policy side by side."""

from functools import partial

import dagster as dg

from streetvision_assets.checks import InputOf, Verdict, proof
from streetvision_assets.conventions import inputs_of, stage_asset
from streetvision_assets.metadata import markdown, picture, reached_mcc, table
from streetvision_assets.resources import StoreResource
from streetvision_assets.step import Step, StepOutput
from streetvision_core.data.index import ImageIndex
from streetvision_core.data.opening import open_images
from streetvision_core.data.splits import Splits
from streetvision_core.escape import PARAGRAPH, for_markdown
from streetvision_core.graph import EVALUATION
from streetvision_core.io import PublishedArtifact
from streetvision_core.policies.registry import judged_policies
from streetvision_core.report.conditions import level_rows
from streetvision_core.report.evaluation import Evaluation, evaluate
from streetvision_core.report.in_use import expected_rows
from streetvision_core.report.pages import PLOT_PREFIX, policy_rows, slice_rows
from streetvision_core.report.recount import recount_problems
from streetvision_core.report.report import Report
from streetvision_core.training.checkpoint import Checkpoint


@stage_asset(group="report", kinds={"pytorch", "matplotlib"}, ins=inputs_of(EVALUATION))
def evaluation(
    context: dg.AssetExecutionContext,
    store: StoreResource,
    images: PublishedArtifact,
    splits: PublishedArtifact,
    phase1_checkpoint: PublishedArtifact,
    conditions: PublishedArtifact,
    **policies: PublishedArtifact | None,
) -> dg.MaterializeResult[StepOutput]:
    """Every decision on val_test by every policy of this checkpoint, with intervals, slices and plots."""
    required = {
        "images": images,
        "splits": splits,
        "phase1_checkpoint": phase1_checkpoint,
        "conditions": conditions,
    }
    judged = judged_policies(required, policies)
    for sentence in judged.left_out:
        context.log.info(sentence)
    step = Step.begin(context, store, None, *required.values(), *judged.published.values()).look()
    roles = Splits.from_artifact(splits)
    report = step.reused(Evaluation.from_artifact) or evaluate(
        Checkpoint.from_artifact(phase1_checkpoint),
        judged.policies,
        roles.roles["val_test"],
        index=ImageIndex.from_artifact(images),
        images=open_images(images, roles, roles=step.roles, conditions=conditions),
    )
    return step.result(report, facts=_show_reached(report), shown=partial(_show_report, report))


def _show_reached(evaluation: Evaluation) -> dict[str, str]:
    """Return the MCC of each policy with its interval over groups."""
    return {
        f"MCC on val_test, {kind}": reached_mcc(result) for kind, result in evaluation.report.policies.items()
    } | {"groups": evaluation.report.reading_of(evaluation.report.lead), **_show_worst(evaluation.report)}


def _show_worst(report: Report) -> dict[str, str]:
    """Return the worst level of the conditions, where levels were measured."""
    levels = report.conditions
    return {f"under {levels.profile}": levels.reading(report.lead.policy.type)} if levels else {}


def _show_report(evaluation: Evaluation) -> dict[str, dg.MetadataValue]:
    """Return the policies side by side, what they promise, the slices, and every plot of the report."""
    report = evaluation.report
    promises = "\n\n".join(
        f"**{for_markdown(kind)}** {for_markdown(result.promise, limit=PARAGRAPH)}"
        for kind, result in report.policies.items()
    )
    plots = {
        name.removeprefix(PLOT_PREFIX).rpartition(".")[0]: picture(data)
        for name, data in evaluation.pages.items()
        if name.startswith(PLOT_PREFIX)
    }
    return {
        "policies": table(policy_rows(report)),
        "promises": markdown(promises),
        "slices": table(slice_rows(report)),
        **({"by_level": table(rows)} if (rows := level_rows(report)) else {}),
        **({"expected_by_prevalence": table(rows)} if (rows := expected_rows(report.lead)) else {}),
        **plots,
    }


@proof("evaluation")
def recounted(evaluation: PublishedArtifact, input_of: InputOf) -> Verdict:
    """Decisions and figures come out the same from the recorded logits."""
    splits = Splits.from_artifact(input_of("splits"))
    report = Evaluation.from_artifact(evaluation)
    problems = recount_problems(
        report,
        names=splits.roles["val_test"],
        index=ImageIndex.from_artifact(input_of("images")),
    )
    counts = {"images": len(report.tested), "policies": len(report.report.policies)}
    return Verdict(problems, good="decided and counted again, the same", counts=counts)
