"""The report: val_test, once, through the predictor that the bundle ships, every policy side by side."""

from functools import partial

import dagster as dg

from streetvision_assets.checks import Verdict, proof, standard_checks
from streetvision_assets.conventions import stage_asset
from streetvision_assets.pictures import markdown, picture, table
from streetvision_assets.resources import StoreResource
from streetvision_assets.step import Step, StepConfig, StepOutput
from streetvision_core.bundle.evaluation import Evaluation, evaluate
from streetvision_core.bundle.pages import PLOT_PREFIX, policy_rows, slice_rows
from streetvision_core.bundle.policies import published_policies
from streetvision_core.bundle.predictor import Predictor
from streetvision_core.bundle.recount import recount_problems
from streetvision_core.data.index import ImageIndex
from streetvision_core.data.opening import open_pictures
from streetvision_core.data.splits import Splits
from streetvision_core.escape import PARAGRAPH, for_markdown
from streetvision_core.io import PublishedArtifact
from streetvision_core.models.weights import read_state
from streetvision_core.training.checkpoint import Checkpoint

ROLES = ("val_test",)


@stage_asset(group="report", kinds={"pytorch", "matplotlib"})
def evaluation(
    context: dg.AssetExecutionContext,
    config: StepConfig,
    store: StoreResource,
    images: PublishedArtifact,
    splits: PublishedArtifact,
    phase1_checkpoint: PublishedArtifact,
    thresholds: PublishedArtifact,
    gate: PublishedArtifact,
    scrc: PublishedArtifact,
) -> dg.MaterializeResult[StepOutput]:
    """Every decision on val_test by every policy, with intervals, slices, plots and what went wrong."""
    parts = (images, splits, phase1_checkpoint, thresholds, gate, scrc)
    step = Step.begin(context, store, config, *parts, roles=ROLES)
    roles = Splits.from_artifact(splits)
    policies = published_policies({part.manifest.step_name: part for part in parts})
    checkpoint = Checkpoint.from_artifact(phase1_checkpoint)
    report = step.reused(Evaluation.from_artifact) or evaluate(
        Predictor.build(checkpoint.config, read_state(checkpoint.weights), policies["threshold"]),
        policies,
        roles.roles["val_test"],
        index=ImageIndex.from_artifact(images),
        pictures=open_pictures(images, roles, roles=step.roles),
    )
    return step.result(report, shown=partial(_show_report, report))


def _show_report(evaluation: Evaluation) -> dict[str, dg.MetadataValue]:
    """Return the policies side by side, what they promise, the slices, and every plot of the report."""
    report = evaluation.report
    promises = "\n\n".join(
        f"**{for_markdown(kind)}** {for_markdown(one.promise, limit=PARAGRAPH)}"
        for kind, one in report.policies.items()
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
        **plots,
    }


@proof(
    "evaluation",
    description="Decisions and figures come out the same from the recorded logits.",
)
def recounted(evaluation: PublishedArtifact, store: StoreResource) -> Verdict:
    """Count again from the published decisions."""
    opened = store.open()
    splits = Splits.from_artifact(opened.input_of(evaluation, "splits"))
    problems = recount_problems(
        Evaluation.from_artifact(evaluation),
        names=splits.roles["val_test"],
        index=ImageIndex.from_artifact(opened.input_of(evaluation, "images")),
    )
    return Verdict(problems, good="decided and counted again, the same")


CHECKS = [*standard_checks("evaluation"), recounted]
