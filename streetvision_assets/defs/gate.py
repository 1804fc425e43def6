"""Phase 3: the gate, which hands over the images that the classifier is least sure about."""

from functools import partial

import dagster as dg

from streetvision_assets.checks import InputOf, Verdict, proof
from streetvision_assets.conventions import stage_asset
from streetvision_assets.metadata import markdown, table
from streetvision_assets.resources import StoreResource
from streetvision_assets.step import Step, StepOutput
from streetvision_core.data.index import ImageIndex
from streetvision_core.data.opening import open_images
from streetvision_core.data.splits import Splits
from streetvision_core.escape import PARAGRAPH, for_markdown
from streetvision_core.io import PublishedArtifact
from streetvision_core.policies.config import GateConfig
from streetvision_core.policies.gate import Gate
from streetvision_core.policies.gate_fit import is_fully_recorded, train_gate, verify_gate
from streetvision_core.training.checkpoint import Checkpoint


@stage_asset(group="calibration", kinds={"pytorch", "scikitlearn"}, phase=3)
def gate(
    context: dg.AssetExecutionContext,
    config: GateConfig,
    store: StoreResource,
    images: PublishedArtifact,
    splits: PublishedArtifact,
    phase1_checkpoint: PublishedArtifact,
    conditions: PublishedArtifact,
) -> dg.MaterializeResult[StepOutput]:
    """The images to defer: by a learned head where that proves better than the margin, else by margin."""
    step = Step.begin(context, store, config, images, splits, phase1_checkpoint, conditions)
    roles = Splits.from_artifact(splits)
    fitted = step.reused(Gate.from_artifact) or train_gate(
        Checkpoint.from_artifact(phase1_checkpoint),
        index=ImageIndex.from_artifact(images),
        splits=roles,
        images=open_images(images, roles, roles=step.roles, conditions=conditions),
        config=config,
        checkpoint_version=phase1_checkpoint.manifest.data_version,
        cache=store.open().features_directory(),
    )
    context.log.info("deferring by the %s: %s", fitted.policy.confidence_by, fitted.policy.reason)
    facts = {"confidence by": f"{fitted.policy.confidence_by}: {fitted.policy.reason}"}
    seed = fitted.policy.chosen_by.seed
    return step.result(fitted, facts=facts, shown=partial(_show_gate, fitted), seed=seed)


def _show_gate(fitted: Gate) -> dict[str, dg.MetadataValue]:
    policy = fitted.policy
    return {
        "promise": markdown(for_markdown(policy.promise(), limit=PARAGRAPH)),
        "on_val_select": table([policy.val_select.model_dump()]),
    }


@proof("gate")
def refitted(gate: PublishedArtifact, input_of: InputOf) -> Verdict:
    """The gate comes out the same when it is fitted again from recorded numbers."""
    select = Checkpoint.from_artifact(input_of("phase1_checkpoint")).val_select
    published = Gate.from_artifact(gate)
    return Verdict(
        verify_gate(published, select),
        good="fitted again, the same" if is_fully_recorded(published, select) else _NOT_RECORDED,
        counts={"images": len(select.ids)},
    )


_NOT_RECORDED = (
    "the feature distances were not recorded by the version that wrote it; what does without them is fitted"
    " again, the same"
)
