"""Every preset trains: as it is written, but on few drawn images and a small network of its own kind."""

import pytest
import yaml

from streetvision_core.training.checkpoint import Checkpoint
from tests.assets.graph import Graph, evaluations, paragraph
from tests.e2e.place import REPOSITORY

# Of demo.yaml everything is tested elsewhere, and joined.yaml trains as folder.yaml does.
LEFT_OUT = ("demo.yaml", "joined.yaml")
PRESETS = sorted(path for path in (REPOSITORY / "presets").glob("*.yaml") if path.name not in LEFT_OUT)
TRAINED = ("images", "splits", "conditions", "backbone", "phase1_checkpoint")
DEMO = {"demo": {"images": 96}}
# Where the network comes from is what no test can do here; a ViT stays one, for adapters need attention.
SMALL = {True: "test_vit", False: "test_resnet"}
SHORT = {"epochs": 2, "batch_size": 8, "hardware": {"num_workers": 0}}


def shrink(preset):
    """Return the run configuration of a preset for few images, the way to train unchanged."""
    ops = {step: dict(given["config"]) for step, given in preset["ops"].items() if step in TRAINED}
    ops["images"] = DEMO
    if "backbone" in ops:
        small = SMALL["vit" in ops["backbone"]["architecture"]]
        ops["backbone"] |= {"architecture": small, "weights": "random", "input_size": 32}
    recipe = ops["phase1_checkpoint"] = ops.get("phase1_checkpoint", {}) | SHORT
    if "optimizer" in recipe:
        recipe["optimizer"] = {**recipe["optimizer"], "learning_rate": 1e-3}
    return {step: {"config": given} for step, given in ops.items()}


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_trains_the_way_it_names(path, tmp_path):
    graph = Graph(tmp_path)
    config = shrink(yaml.safe_load(path.read_text()))
    result = graph.run("make_bundle", steps=TRAINED, config=config)
    refused = {check for check, evaluation in evaluations(result).items() if not evaluation.passed}
    # Two epochs teach a random network nothing, and the graph says so; everything else must hold.
    assert refused <= {("phase1_checkpoint", "usable_model"), ("splits", "balanced")}, paragraph(result)
    published = graph.current("phase1_checkpoint")
    checkpoint = Checkpoint.from_artifact(published)
    (method,) = config["phase1_checkpoint"]["config"].get("method", {"finetune": {}})
    assert published.manifest.config["method"]["kind"] == method
    assert bool(checkpoint.candidates) == (method in {"probe", "lp_ft"})
    assert len(checkpoint.epochs) == SHORT["epochs"]
    graph.instance.dispose()
