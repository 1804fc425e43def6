"""Beside the way to the bundle: labels that out-of-fold predictions contradict, as a queue for a person."""

from dataclasses import asdict
from functools import partial

import dagster as dg

from streetvision_assets.checks import InputOf, Verdict, proof
from streetvision_assets.conventions import stage_asset
from streetvision_assets.metadata import picture, table
from streetvision_assets.resources import StoreResource
from streetvision_assets.step import Metric, Step, StepOutput
from streetvision_core.data.decoding.decode import ImageReader
from streetvision_core.data.index import ImageIndex
from streetvision_core.data.opening import open_images
from streetvision_core.data.overview import image_sheet
from streetvision_core.data.splits import Splits
from streetvision_core.io import PublishedArtifact
from streetvision_core.training.out_of_fold.label_audit import REVIEW_NAME, LabelAudit, audit_labels
from streetvision_core.training.out_of_fold.record import CrossValidation

_DRAWN, _LISTED = 24, 50


@stage_asset(group="report", kinds={"csv", "pillow"})
def label_audit(
    context: dg.AssetExecutionContext,
    store: StoreResource,
    images: PublishedArtifact,
    splits: PublishedArtifact,
    cross_validation: PublishedArtifact,
) -> dg.MaterializeResult[StepOutput]:
    """The images of train and val_select whose label is most surprising, to be reviewed."""
    step = Step.begin(context, store, None, images, splits, cross_validation)
    index, roles = ImageIndex.from_artifact(images), Splits.from_artifact(splits)
    audit = step.reused(LabelAudit.from_artifact) or audit_labels(
        CrossValidation.from_artifact(cross_validation), index=index, splits=roles
    )
    facts: dict[str, str | float | Metric] = {
        "images to review": Metric("to_review"),
        "what to do": f"fill in corrected_label in {REVIEW_NAME}, and name it in corrections of images",
    }
    reader = open_images(images, roles, roles=step.roles)
    return step.result(audit, facts=facts, shown=partial(_show_surprising, audit, index, reader))


def _show_surprising(
    audit: LabelAudit, index: ImageIndex, reader: ImageReader
) -> dict[str, dg.MetadataValue]:
    """Return the most surprising images, with their labels and how probable these are."""
    if not audit.doubts:
        return {}
    image_of = {image.name: image for image in index.pictures}
    captioned = [
        (image_of[doubt.name], f"{doubt.probability:.2f} {doubt.name}") for doubt in audit.doubts[:_DRAWN]
    ]
    return {
        "most_surprising": picture(image_sheet(captioned, reader)),
        "review": table([asdict(doubt) for doubt in audit.doubts[:_LISTED]]),
    }


@proof("label_audit")
def audited_again(label_audit: PublishedArtifact, input_of: InputOf) -> Verdict:
    """The images to review follow from the recorded out-of-fold logits."""
    audit = LabelAudit.from_artifact(label_audit)
    again = audit_labels(
        CrossValidation.from_artifact(input_of("cross_validation")),
        index=ImageIndex.from_artifact(input_of("images")),
        splits=Splits.from_artifact(input_of("splits")),
    )
    problems = [] if audit == again else [f"{REVIEW_NAME} lists other images when audited again"]
    return Verdict(problems, good="audited again, the same", counts={"images to review": len(audit.doubts)})
