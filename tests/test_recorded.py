"""Settings that older versions recorded flat are read as this version writes them."""

import pytest

from streetvision_core.errors import ConfigError
from streetvision_core.models.config import BackboneConfig, SimClr
from streetvision_core.recorded import from_recorded
from streetvision_core.training.config import TrainingConfig, read_recipe

STEP = "phase1_checkpoint"
# What version 705fcbb recorded of a training with its defaults.
FLAT = {
    "views": "whole", "view_grid": 3, "view_overlap": 0.15, "view_pooling": "top_k", "view_top_k": 2,
    "method": "finetune", "head_hidden": 0, "epochs": 7, "batch_size": 32, "accumulate": 1,
    "learning_rate": 0.003, "layer_decay": 1.0, "weight_decay": 0.05, "warmup_epochs": 1.0,
    "probe_epochs": 30, "probe_batch_size": 64, "probe_learning_rates": [0.0003, 0.001, 0.003, 0.01],
    "probe_weight_decays": [0.0, 0.05, 0.5], "probe_views": 0, "cache_features": True, "lora_rank": 8,
    "lora_alpha": 16, "lora_dropout": 0.0, "loss": "cross_entropy", "focal_gamma": 2.0,
    "label_smoothing": 0.05, "class_weights": "balanced", "mixup": 0.0, "cutmix": 0.0, "dropout": 0.0,
    "ema_decay": 0.99, "gradient_clip": 1.0, "patience": 8, "augmentation": "crop", "scale_min": 0.7,
    "hflip": 0.5, "color_jitter": 0.2, "seed": 0, "precision": "auto", "compile": False, "devices": 1,
    "max_unreadable": 0, "threads": 0,
}  # fmt: skip


def recipe(**changes):
    return TrainingConfig.model_validate(from_recorded(STEP, {**FLAT, **changes}))


def test_a_flat_record_of_the_defaults_is_the_defaults():
    assert recipe() == TrainingConfig()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"method": "lora", "lora_rank": 3}, {"method": {"kind": "lora", "rank": 3}}),
        ({"method": "lp_ft"}, {"method": {"kind": "lp_ft"}}),
        ({"loss": "focal"}, {"loss": {"kind": "focal", "gamma": 2.0}}),
        (
            {"views": "grid", "view_pooling": "max"},
            {"views": {"kind": "grid", "size": 3, "pooling": {"kind": "max"}}},
        ),
    ],
)  # fmt: skip
def test_what_a_choice_did_not_use_is_gone(changes, expected):
    read = from_recorded(STEP, {**FLAT, **changes})
    assert {name: read[name] for name in expected} == expected
    assert read.keys() <= {*TrainingConfig.model_fields}
    recipe(**changes)


def test_an_augmentation_that_is_gone_is_still_told():
    assert from_recorded(STEP, {"augmentation": "validator"}) == {"augmentation": {"kind": "validator"}}


def test_a_probe_has_its_batches_and_none_of_the_settings_of_pixels():
    read = from_recorded(STEP, {**FLAT, "method": "probe", "learning_rate": 0.1, "mixup": 0.3})
    assert read["batch_size"] == 64
    assert read["optimizer"] == {"ema_decay": 0.99}
    assert not {"mixup", "augmentation"} & read.keys()


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"method": {"kind": "probe"}, "views": {"kind": "grid", "pooling": {"kind": "attention"}}},
        {"method": {"kind": "lora", "rank": 2}, "loss": {"kind": "focal"}, "augmentation": {"kind": "none"}},
    ],
)
def test_what_this_version_records_is_read_as_it_is(config):
    made = TrainingConfig.model_validate(config)
    recorded = made.model_dump(mode="json")
    assert from_recorded(STEP, recorded) == recorded
    assert TrainingConfig.model_validate(recorded) == made


def test_what_is_constant_now_is_left_out_and_what_was_something_else_is_told():
    nested = {
        "method": {"kind": "probe", "cache_features": True},
        "loss": {"kind": "focal", "label_smoothing": 0.1},
    }
    flat = {**FLAT, "gradient_clip": 0.5, "class_weights": "none"}
    assert from_recorded(STEP, nested) == {"method": {"kind": "probe"}, "loss": nested["loss"]}
    read = from_recorded(STEP, flat)
    assert (read["optimizer"]["gradient_clip"], read["class_weights"]) == (0.5, "none")


def test_what_is_constant_inside_a_choice_of_a_choice_is_left_out():
    views = {"kind": "grid", "size": 2, "pooling": {"kind": "top_k", "views": 2}}
    read = from_recorded(STEP, {"views": views, "hardware": {"threads": 4}, "max_unreadable": 0})
    assert read == {"views": {**views, "pooling": {"kind": "top_k"}}, "hardware": {"threads": 4}}


def test_a_warm_up_is_left_out_where_it_is_that_of_today():
    assert (
        "warmup_epochs" not in from_recorded(STEP, {**FLAT, "epochs": 20, "warmup_epochs": 2.0})["optimizer"]
    )
    with pytest.raises(ConfigError, match=r"optimizer\.warmup_epochs.*Train it again"):
        read_recipe({**FLAT, "epochs": 20})


def test_a_recipe_of_settings_that_are_gone_says_to_train_again():
    with pytest.raises(ConfigError, match=r"hardware\.threads.*phase1_checkpoint.*Train it again"):
        read_recipe({"hardware": {"threads": 4}})


def test_what_a_method_does_not_use_is_not_recorded():
    probe = TrainingConfig.model_validate({"method": {"kind": "probe"}}).model_dump(mode="json")
    assert "learning_rate" not in probe["optimizer"]
    assert "devices" not in probe["hardware"]
    assert "rank" not in str(probe)


def test_an_adaptation_that_was_recorded_flat_is_read():
    flat = {
        "architecture": "test_vit",
        "adaptation": "simclr",
        "explora_rank": 8,
        "explora_epochs": 4,
        "explora_unfrozen_blocks": 2,
    }
    read = BackboneConfig.model_validate(from_recorded("backbone", flat))
    assert read.adaptation == SimClr(epochs=4)
    none = from_recorded("backbone", {**flat, "adaptation": "none"})
    assert none == {"architecture": "test_vit", "adaptation": {"kind": "none"}}


def test_sources_are_read_without_what_the_file_tells_and_with_the_name_of_today():
    table, parquet = {"path": "a.csv", "separator": ";"}, {"path": "b", "image_column": "jpg"}
    now = {"csv": {"path": "a.csv"}, "parquet": {"path": "b", "file_column": "jpg"}}
    recorded = {"csv": table, "parquet": parquet, "folder": None, "max_megapixels": 200}
    assert from_recorded("images", recorded) == {**now, "folder": None}
    joined = {"join": [{"csv": table}, {"parquet": parquet}], "max_megapixels": 50}
    parts = [{"csv": now["csv"]}, {"parquet": now["parquet"]}]
    assert from_recorded("images", joined) == {"join": parts, "max_megapixels": 50}


def test_the_demo_is_read_by_its_number_of_images():
    """It lies drawn in the store, whatever its seed and size were."""
    recorded = {"demo": {"pictures": 340, "size": 48, "seed": 3}}
    assert from_recorded("images", recorded) == {"demo": {"images": 340}}
    assert from_recorded("images", {"demo": {"images": 340}}) == {"demo": {"images": 340}}


def test_other_steps_are_left_as_they_are():
    assert from_recorded("splits", {"seed": 3}) == {"seed": 3}


def test_whether_one_image_of_a_group_was_counted_is_read_as_the_unit():
    for counted, kind in ((True, "group"), (False, "every_image")):
        for promise in ("error", {"kind": "error", "alpha": 0.1}):
            read = from_recorded("scrc", {"promise": promise, "one_per_group": counted})
            assert read["unit"] == {"kind": kind}
            assert "one_per_group" not in read
