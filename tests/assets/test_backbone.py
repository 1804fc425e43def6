"""The starting weights in the graph: adapted ones are made from images and say so, others are not."""

from streetvision_core.escape import from_markdown
from tests.assets.graph import Graph, evaluations, paragraph
from tests.assets.test_graph import materializations

ADAPTED = {
    "architecture": "test_vit", "input_size": 32, "adaptation": "simclr",
    "explora_epochs": 1, "explora_batch_size": 16,
}  # fmt: skip
STEPS = ("images", "splits", "backbone")


def test_an_adapted_backbone_follows_the_splits_and_records_what_it_read(pictures, tmp_path):
    graph = Graph(tmp_path)
    result = graph.materialize(pictures, *STEPS, backbone=ADAPTED)
    assert result.success, paragraph(result)
    assert all(check.passed for check in evaluations(result).values())
    first = graph.current("backbone")
    assert set(first.manifest.input_artifacts) == {"images", "splits"}
    assert tuple(first.manifest.roles) == ("train", "val_select")
    assert {"adapters.safetensors", "backbone.json", "model.safetensors"} == set(
        first.manifest.output_artifacts
    )
    record = first.read_json("backbone.json")["adaptation"]
    shown = materializations(result)["backbone"].metadata
    assert from_markdown(shown["adaptation"].md_str) == record["sentence"]
    assert record["sentence"] in [entry.user_message for entry in graph.instance.all_logs(result.run_id)]
    assert graph.materialize(pictures, "backbone", backbone=ADAPTED).success
    assert graph.current("backbone").manifest.reused_from.run_id == first.manifest.run_id
    assert graph.materialize(pictures, "splits", "backbone", backbone=ADAPTED, splits={"seed": 1}).success
    assert graph.current("backbone").manifest.reused_from is None
    graph.instance.dispose()


def test_a_backbone_that_is_not_adapted_reads_nothing(first_run):
    graph, _ = first_run
    manifest = graph.current("backbone").manifest
    assert not manifest.input_artifacts
    assert not manifest.roles
    assert "adaptation" not in graph.current("backbone").read_json("backbone.json")
