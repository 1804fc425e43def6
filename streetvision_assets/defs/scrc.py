"""Phase 5: selective conformal risk control, frozen on val_select and certified on val_calib."""

from functools import partial

import dagster as dg

from streetvision_assets.checks import policy_check
from streetvision_assets.conventions import stage_asset
from streetvision_assets.metadata import picture, table
from streetvision_assets.resources import StoreResource
from streetvision_assets.step import Step, StepOutput
from streetvision_core.inference.logits import Logits
from streetvision_core.io import PublishedArtifact
from streetvision_core.policies.config import ScrcConfig
from streetvision_core.policies.scrc import Scrc, share_of
from streetvision_core.policies.scrc_fit import fit_scrc, sequence_table, size_table
from streetvision_core.report.report_plots import plot_certificates
from streetvision_core.training.checkpoint import Checkpoint


@stage_asset(group="calibration", kinds={"numpy", "scipy"}, phase=5)
def scrc(
    context: dg.AssetExecutionContext,
    config: ScrcConfig,
    store: StoreResource,
    phase1_checkpoint: PublishedArtifact,
    val_calib_logits: PublishedArtifact,
) -> dg.MaterializeResult[StepOutput]:
    """The images that may be answered so that the error among the answers stays within its promise."""
    step = Step.begin(context, store, config, phase1_checkpoint, val_calib_logits).look(
        share=share_of(config)
    )
    logits = Logits.from_artifact(val_calib_logits)
    fitted = step.reused(Scrc.from_artifact) or fit_scrc(
        Checkpoint.from_artifact(phase1_checkpoint).val_select,
        logits,
        checkpoint_version=phase1_checkpoint.manifest.data_version,
        logits_version=val_calib_logits.manifest.data_version,
        config=config,
        groups_known=logits.groups_known,
    )
    for sentence in fitted.policy.remarks():
        context.log.warning(sentence)
    facts = {"promise": fitted.policy.promise(), "units": fitted.policy.drawn()}
    seed = fitted.policy.chosen_by.seed
    return step.result(fitted, facts=facts, shown=partial(_show_scrc, fitted, logits), seed=seed)


def _show_scrc(fitted: Scrc, logits: Logits) -> dict[str, dg.MetadataValue]:
    rows = sequence_table(fitted.policy, logits)
    return {
        "risk_by_confidence": picture(plot_certificates(rows)),
        "sequence": table(rows),
        "risk_by_group_size": table(size_table(fitted.policy, logits)),
    }


recertified = policy_check(
    "scrc",
    name="recertified",
    proves="Calibrator, thresholds and certificate come out the same on the same logits.",
    good="frozen and certified again, the same",
)
