"""Rules across steps are refused before the first step runs, whatever is selected."""

import pytest

from tests.assets.graph import Graph, paragraph

NOWHERE = {"images": {"folder": {"path": "/nowhere"}}}
BAD = {
    "a policy that nobody makes": (
        ("images", "splits", "backbone", "phase1_checkpoint", "val_calib_logits", "thresholds", "bundle"),
        {"bundle": {"policy": "scrc"}},
        ("the policy scrc", "policy of bundle", "Select scrc too"),
    ),
    "an adaptation of no ViT": (
        ("images", "splits", "backbone"),
        {"backbone": {"adaptation": {"simclr": {}}}},
        ("a vision transformer", "Choose a ViT"),
    ),
    "adapters on no ViT": (
        ("images", "backbone", "phase1_checkpoint"),
        {"phase1_checkpoint": {"method": {"lora": {}}}},
        ("a vision transformer", "Choose a ViT"),
    ),
    "adapters with nothing for their settings": (
        ("images", "backbone", "phase1_checkpoint"),
        {"phase1_checkpoint": {"method": {"lora": None}}},
        ("a vision transformer", "Choose a ViT"),
    ),
    "a source that is named and nothing more": (
        ("images", "splits"),
        {"images": {"demo": None}},
        ("demo of images", "Write demo: {}"),
    ),
    "no source on an empty store": (
        ("images", "conditions"),
        {"images": {}},
        ("a source of images", "presets/folder.yaml"),
    ),
    "an unknown architecture": (
        ("images", "backbone"),
        {"backbone": {"architecture": "test_resnt"}},
        ("the name of a timm model", "Did you mean test_resnet"),
    ),
    "weights that are not there": (
        ("images", "backbone"),
        {"backbone": {"weights": "none.safetensors"}},
        ("a .safetensors file", "none.safetensors"),
    ),
    "weights that may not be handed on": (
        ("images", "backbone", "thresholds", "bundle"),
        {
            "backbone": {
                "architecture": "vit_small_patch16_dinov3.lvd1689m",
                "weights": "pretrained",
            }
        },
        ("dinov3-license", "license_file of the backbone"),
    ),
}


@pytest.mark.parametrize(("steps", "settings", "says"), BAD.values(), ids=BAD)
def test_a_rule_across_steps_is_held_before_the_first_step(tmp_path, steps, settings, says):
    graph = Graph(tmp_path)
    given = {**NOWHERE, **settings}
    config = {step: {"config": values} for step, values in given.items()}
    result = graph.run("make_bundle", steps=steps, config=config)
    graph.instance.dispose()
    assert not result.success
    assert not [event for event in result.all_events if event.event_type_value == "STEP_START"]
    text = paragraph(result)
    for words in says:
        assert words in text
