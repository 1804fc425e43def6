"""The label audit in the graph: a job that shows what to review, and takes the reviewed file back."""

from streetvision_core.data.index import ImageIndex
from streetvision_core.data.labels import LABEL_NAMES
from streetvision_core.data.splits import Splits
from streetvision_core.io import csv_bytes
from streetvision_core.training.out_of_fold.label_audit import COLUMNS, REVIEW_NAME, LabelAudit
from tests.assets.graph import evaluations, paragraph, small_config
from tests.assets.test_graph import materializations

FIRST_TWO = ("images", "splits")


def test_a_review_is_made_shown_checked_and_goes_back_into_the_lineage_of_images(graph, pictures, tmp_path):
    config = small_config(pictures, cross_validation={"folds": 3})
    result = graph.run("audit_labels", config=config)
    assert result.success, paragraph(result)
    assert all(check.passed for check in evaluations(result).values())
    made, splits = graph.current("label_audit"), Splits.from_artifact(graph.current("splits"))
    assert tuple(made.manifest.roles) == ("train", "val_select")
    shown = materializations(result)["label_audit"].metadata
    audit = LabelAudit.from_artifact(made)
    assert shown["images to review"].value == len(audit.doubts) > 0
    assert shown["most_surprising"].md_str.startswith("![](data:image/jpeg")

    review = write_review(tmp_path / REVIEW_NAME, graph, splits.roles["train"][0])
    corrected = small_config(pictures, images={"corrections": str(review)})
    first_two = {step: value for step, value in corrected.items() if step in FIRST_TWO}
    result = graph.run("make_bundle", steps=FIRST_TWO, config=first_two)
    assert result.success, paragraph(result)
    manifest = graph.current("images").manifest
    assert manifest.metrics["corrected"] == 1
    assert graph.current("images").config()["corrections"] == str(review)
    assert str(tmp_path) not in manifest.to_bytes().decode()
    assert Splits.from_artifact(graph.current("splits")).roles == splits.roles
    # A run that names no source takes the corrections of the store's images again.
    result = graph.run("make_bundle", steps=["images"])
    assert result.success, paragraph(result)
    assert graph.current("images").manifest.metrics["corrected"] == 1

    write_review(review, graph, splits.roles["val_test"][0])
    result = graph.run("make_bundle", steps=FIRST_TWO, config=first_two)
    assert not result.success
    assert "is in val_test" in paragraph(result)


def write_review(path, graph, name):
    """Write a review that turns the label of one image around."""
    images = {image.name: image for image in ImageIndex.from_artifact(graph.current("images")).pictures}
    label = images[name].listed_label
    row = {"name": name, "label": LABEL_NAMES[label], "corrected_label": LABEL_NAMES[1 - label]}
    path.write_bytes(csv_bytes([row], columns=COLUMNS))
    return path
