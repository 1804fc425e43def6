"""Phase 2: logits on val_calib, and the threshold that is fitted on them."""

from functools import partial

import dagster as dg
import numpy as np

from streetvision_assets.checks import InputOf, Verdict, policy_check, proof
from streetvision_assets.conventions import stage_asset
from streetvision_assets.metadata import picture, table
from streetvision_assets.resources import StoreResource
from streetvision_assets.step import Metric, Step, StepOutput
from streetvision_core.data.index import ImageIndex
from streetvision_core.data.opening import open_images
from streetvision_core.data.splits import Splits
from streetvision_core.eval.metrics import compute_mcc
from streetvision_core.inference.logits import Logits, drift_problems, predict_role
from streetvision_core.io import PublishedArtifact
from streetvision_core.policies.config import ThresholdsConfig
from streetvision_core.policies.threshold import Thresholds, fit_threshold_policy
from streetvision_core.report.plots import plot_mcc_curve, plot_risk_coverage
from streetvision_core.training.checkpoint import Checkpoint, logits_problems


@stage_asset(group="calibration", kinds={"pytorch"}, phase=2)
def val_calib_logits(
    context: dg.AssetExecutionContext,
    store: StoreResource,
    images: PublishedArtifact,
    splits: PublishedArtifact,
    phase1_checkpoint: PublishedArtifact,
    conditions: PublishedArtifact,
) -> dg.MaterializeResult[StepOutput]:
    """Logits [N, 2], labels [N] and ids of val_calib, and what new images are compared with."""
    step = Step.begin(context, store, None, images, splits, phase1_checkpoint, conditions).look()
    roles = Splits.from_artifact(splits)
    logits = step.reused(Logits.from_artifact) or predict_role(
        Checkpoint.from_artifact(phase1_checkpoint),
        roles.roles["val_calib"],
        index=ImageIndex.from_artifact(images),
        images=open_images(images, roles, roles=step.roles, conditions=conditions),
        cache=store.open().features_directory(),
        projected=True,
    )
    return step.result(logits, facts=_show_quality(logits))


def _show_quality(logits: Logits) -> dict[str, Metric]:
    """Return what the model reaches before any tuning; of no images there is nothing to return."""
    names = {"MCC on val_calib at 0.5": "mcc", "FNR on val_calib at 0.5": "fnr"}
    return {name: Metric(metric) for name, metric in names.items() if logits.ids}


@stage_asset(group="calibration", kinds={"numpy"}, phase=2)
def thresholds(
    context: dg.AssetExecutionContext,
    config: ThresholdsConfig,
    store: StoreResource,
    phase1_checkpoint: PublishedArtifact,
    val_calib_logits: PublishedArtifact,
) -> dg.MaterializeResult[StepOutput]:
    """The exact best threshold after temperature scaling, and the selective sweep."""
    step = Step.begin(context, store, config, phase1_checkpoint, val_calib_logits).look(share=config.share)
    logits = Logits.from_artifact(val_calib_logits)
    fitted = step.reused(Thresholds.from_artifact) or fit_threshold_policy(
        Checkpoint.from_artifact(phase1_checkpoint).val_select,
        logits,
        checkpoint_version=phase1_checkpoint.manifest.data_version,
        logits_version=val_calib_logits.manifest.data_version,
        config=config,
        groups_known=logits.groups_known,
    )
    for sentence in fitted.policy.infeasible():
        context.log.warning(sentence)
    facts = {**_show_gain(logits), "promise": fitted.policy.promise()}
    return step.result(fitted, facts=facts, shown=partial(_show_thresholds, fitted, logits))


def _show_gain(logits: Logits) -> dict[str, float | Metric]:
    return {
        "decision threshold": Metric("threshold"),
        "MCC on val_calib at 0.5": compute_mcc(logits.labels, np.argmax(logits.logits, axis=1)),
        "MCC on val_calib at the threshold": Metric("mcc", also=("val_calib_mcc",)),
    }


def _show_thresholds(fitted: Thresholds, logits: Logits) -> dict[str, dg.MetadataValue]:
    policy = fitted.policy
    probabilities = policy.probabilities(policy.point.fold(logits.logits))
    curve = plot_mcc_curve(probabilities, logits.labels, policy.threshold)
    return {
        "mcc_by_threshold": picture(curve),
        "risk_by_coverage": picture(plot_risk_coverage(fitted.sweep)),
        "selective_sweep": table([row.to_csv_row() for row in fitted.sweep]),
    }


@proof("val_calib_logits")
def complete_logits(val_calib_logits: PublishedArtifact, input_of: InputOf) -> Verdict:
    """The logits are finite, and their ids are exactly the images of val_calib."""
    splits = Splits.from_artifact(input_of("splits"))
    logits = Logits.from_artifact(val_calib_logits)
    problems = logits_problems(logits, role="val_calib", names=splits.roles["val_calib"])
    problems += drift_problems(val_calib_logits)
    good = f"{len(logits.ids)} images, the whole of val_calib, all finite"
    return Verdict(problems, good=good, counts={"images": len(logits.ids)})


recomputed = policy_check(
    "threshold",
    name="recomputed",
    proves="Temperature, threshold and sweep come out the same when fitted again on the same logits.",
    good="fitted again, the same",
)
