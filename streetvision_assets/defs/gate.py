"""Phase 3: the gate, which hands over the pictures that the classifier is least sure about."""

from functools import partial

import dagster as dg

from streetvision_assets.checks import Verdict, proof, standard_checks
from streetvision_assets.conventions import stage_asset
from streetvision_assets.metadata import markdown, table
from streetvision_assets.resources import StoreResource
from streetvision_assets.step import Step, StepConfig, StepOutput
from streetvision_core.data.index import ImageIndex
from streetvision_core.data.opening import open_pictures
from streetvision_core.data.splits import Splits
from streetvision_core.escape import PARAGRAPH, for_markdown
from streetvision_core.graph import STEPS
from streetvision_core.io import PublishedArtifact
from streetvision_core.policies.config import GateConfig
from streetvision_core.policies.gate import Gate
from streetvision_core.policies.gate_measure import gate_problems, train_gate
from streetvision_core.training.checkpoint import Checkpoint

ROLES = STEPS["gate"].roles


class GateStep(GateConfig, StepConfig):
    """Configuration of ``gate``."""


@stage_asset(group="calibration", kinds={"pytorch", "scikitlearn"}, phase=3)
def gate(
    context: dg.AssetExecutionContext,
    config: GateStep,
    store: StoreResource,
    images: PublishedArtifact,
    splits: PublishedArtifact,
    phase1_checkpoint: PublishedArtifact,
) -> dg.MaterializeResult[StepOutput]:
    """Which pictures to defer: by a learned head where that proves better than the margin, else by margin."""
    step = Step.begin(context, store, config, images, splits, phase1_checkpoint, roles=ROLES)
    roles = Splits.from_artifact(splits)
    fitted = step.reused(Gate.from_artifact) or train_gate(
        Checkpoint.from_artifact(phase1_checkpoint),
        index=ImageIndex.from_artifact(images),
        splits=roles,
        pictures=open_pictures(images, roles, roles=step.roles),
        config=config,
        checkpoint_version=phase1_checkpoint.manifest.data_version,
        cache=store.open().features_directory(),
    )
    context.log.info("deferring by the %s: %s", fitted.policy.confidence_by, fitted.policy.reason)
    told = {"confidence by": f"{fitted.policy.confidence_by}: {fitted.policy.reason}"}
    return step.result(fitted, told=told, shown=partial(_show_gate, fitted), seed=config.seed)


def _show_gate(fitted: Gate) -> dict[str, dg.MetadataValue]:
    policy = fitted.policy
    return {
        "promise": markdown(for_markdown(policy.promise(), limit=PARAGRAPH)),
        "on_val_select": table([policy.val_select.model_dump()]),
    }


@proof("gate", description="The gate comes out the same when it is measured and fitted again.")
def refitted(gate: PublishedArtifact, store: StoreResource) -> Verdict:
    """Measure and fit again on what it was fitted on, and compare."""
    opened = store.open()
    images, splits = (opened.input_of(gate, name) for name in ("images", "splits"))
    roles = Splits.from_artifact(splits)
    problems = gate_problems(
        Gate.from_artifact(gate),
        Checkpoint.from_artifact(opened.input_of(gate, "phase1_checkpoint")),
        index=ImageIndex.from_artifact(images),
        splits=roles,
        pictures=open_pictures(images, roles, roles=ROLES),
    )
    images_used = sum(len(roles.roles[role]) for role in ROLES)
    return Verdict(problems, good="measured and fitted again, the same", counts={"images": images_used})


CHECKS = [*standard_checks("gate"), refitted]
