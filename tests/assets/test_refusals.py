"""Bad configurations are refused before a run exists, each in one paragraph that names step and setting."""

import dagster as dg
import pytest

from streetvision_assets.definitions import defs
from streetvision_assets.settings.refusals import check_written, paragraph
from streetvision_core.errors import ConfigError

# What is written, and what the paragraph has to say of it.
BAD = {
    "reuse of a step": (
        {"gate": {"reuse": False}},
        ("reuse", "(gate)", "resources: {store: {config: {reuse: false}}}"),
    ),
    "the separator of a table": (
        {"images": {"csv": {"path": "x", "separator": ";"}}},
        ("separator", "csv of images", "Leave it out: it is found"),
    ),
    "a column by its earlier name": (
        {"images": {"parquet": {"path": "x", "image_column": "jpg"}}},
        ("image_column", "parquet of images", "It is file_column now."),
    ),
    "a rule that is another now": (
        {"bundle": {"require_evaluation": True}},
        ("require_evaluation", "not releasable", "streetvision promote"),
    ),
    "a seed that is constant now": (
        {"conditions": {"seed": 1}},
        ("seed is no setting any more, it is always 0",),
    ),
    "the number of demo images by its earlier name": (
        {"images": {"demo": {"pictures": 100}}},
        ("the unknown pictures", "demo of images", "It is images now."),
    ),
    "another demo": ({"images": {"demo": {"seed": 1}}}, ("seed", "192 pixels wide and of the same seed")),
    "a price that the other says": (
        {"thresholds": {"objective": {"cost": {"false_alarm": 2.0}}}},
        ("false_alarm", "objective.cost of thresholds", "only the ratio"),
    ),
    "a licence that is accepted": (
        {"bundle": {"accept_license": "cc-by-nc-4.0"}},
        ("accept_license", "Name the licence as license of the bundle"),
    ),
    "views in memory": (
        {"backbone": {"adaptation": {"simclr": {"micro_batch": 4}}}},
        ("micro_batch", "128 views are in memory at once"),
    ),
    "a bound that is a constant now": (
        {"images": {"demo": {}, "max_megapixels": 50}},
        ("max_megapixels is no setting any more, it is always 200",),
    ),
    "a scan of every image": (
        {"images": {"demo": {}, "rescan": True}},
        ("rescan", "(images)", "resources: {store: {config: {reuse: false}}}"),
    ),
    "a setting that is a constant now": (
        {"phase1_checkpoint": {"optimizer": {"gradient_clip": 0.5}}},
        ("gradient_clip", "optimizer of phase1_checkpoint", "it is always 1.0: leave it out"),
    ),
    "yes as a name": (
        {"images": {"folder": {"path": True}}},
        ("a text", "true", "folder.path of images", 'Put quotes around it: "no", "yes".'),
    ),
    "an unknown source": ({"images": {"folders": {}}}, ("the unknown folders", "did you mean folder?")),
    "an unknown setting": ({"gate": {"covrage": 0.5}}, ("covrage", "(gate)", "did you mean coverage?")),
    "an unknown step": ({"trehsolds": {}}, ("a step", "trehsolds", "did you mean thresholds?")),
    "a word for a number": (
        {"phase1_checkpoint": {"epochs": "ten"}},
        ("a whole number", "'ten'", "epochs of phase1_checkpoint"),
    ),
    "a fraction for a count": (
        {"phase1_checkpoint": {"epochs": 2.5}},
        ("a whole number", "2.5", "epochs of phase1_checkpoint"),
    ),
    "a count in quotes": (
        {"phase1_checkpoint": {"epochs": "7"}},
        ("a whole number, but found '7'", "Write 7."),
    ),
    "a count with a point": ({"phase1_checkpoint": {"epochs": 7.0}}, ("found 7.0", "Write 7.")),
    "settings for a count": ({"phase1_checkpoint": {"epochs": {}}}, ("one value", "Write the value alone.")),
    "a number that YAML takes for a text": (
        {"phase1_checkpoint": {"optimizer": {"learning_rate": "1e-3"}}},
        ("a number, but found '1e-3'", "Write 0.001, without quotes", "1.0e-3"),
    ),
    "a choice without its settings": (
        {"phase1_checkpoint": {"method": "lora"}},
        ("one of finetune", "Write method: {lora: {}}"),
    ),
    "a choice with a slip": ({"phase1_checkpoint": {"loss": "focl"}}, ("Did you mean loss: {focal: {}}?",)),
    "nothing for a path": (
        {"images": {"csv": {"path": None}}},
        ("a text, but found None", "csv.path of images", "Leave it out"),
    ),
    "nothing for a list": ({"bundle": {"datasets": None}}, ("found nothing", "datasets of bundle")),
    "a missing path": ({"images": {"csv": {}}}, ("path to be given", "csv of images")),
    "a choice that is none": (
        {"bundle": {"lineage": "redact"}},
        ("full, redacted", "lineage of bundle", "Did you mean redacted?"),
    ),
    "a risk above 1": (
        {"scrc": {"promise": {"error": {"alpha": 2.0}}}},
        ("a number less than 1", "2.0", "promise.error.alpha of scrc"),
    ),
    "a size too small": (
        {"backbone": {"input_size": 7}},
        ("a number greater than or equal to 16", "7", "input_size of backbone"),
    ),
    "shares beyond 1": ({"splits": {"val_test": 0.9}}, ("shares that add up to less than 1", "splits: ")),
    "the share that is left": (
        {"splits": {"train": 0.6}},
        ("the unknown train", "It is what the other roles leave: leave it out."),
    ),
    "the distance of near-duplicates": (
        {"splits": {"max_distance": 4}},
        ("max_distance is no setting any more, it is always 8: leave it out.",),
    ),
    "a warm-up": (
        {"phase1_checkpoint": {"optimizer": {"warmup_epochs": 3.0}}},
        ("warmup_epochs", "optimizer of phase1_checkpoint", "a tenth of the epochs"),
    ),
    "an early end": (
        {"phase1_checkpoint": {"patience": 3}},
        ("patience", "8 epochs without a better one"),
    ),
    "memory for images": (
        {"phase1_checkpoint": {"hardware": {"cache_mb": 3}}},
        ("cache_mb", "hardware of phase1_checkpoint", "1 GiB"),
    ),
    "a setting of another method": (
        {"phase1_checkpoint": {"method": {"finetune": {"rank": 3}}}},
        ("the unknown rank", "method.finetune of phase1_checkpoint"),
    ),
    "a setting that is constant now": ({"scrc": {"steps": 20}}, ("steps", "it is always 15: leave it out")),
    "a setting of a choice that is constant now": (
        {"phase1_checkpoint": {"method": {"lp_ft": {"probe_epochs": 5}}}},
        ("probe_epochs is no setting any more, it is always 30: leave it out.",),
    ),
    "a setting of the environment": (
        {"phase1_checkpoint": {"hardware": {"threads": 2}}},
        ("the unknown threads", "OMP_NUM_THREADS"),
    ),
    "an unknown method": (
        {"phase1_checkpoint": {"method": {"lorra": {}}}},
        ("lorra", "method of phase1_checkpoint", "did you mean lora?"),
    ),
    "a method without its braces": (
        {"phase1_checkpoint": {"method": "lora"}},
        ("one of finetune: {...}, lora: {...}", "'lora'"),
    ),
    "a rank beyond the bound": (
        {"phase1_checkpoint": {"method": {"lora": {"rank": 5000}}}},
        ("less than or equal to 1024", "method.lora.rank of phase1_checkpoint"),
    ),
    "a learning rate of a probe": (
        {"phase1_checkpoint": {"method": {"probe": {}}, "optimizer": {"learning_rate": 0.1}}},
        ("only settings that a probe uses", "optimizer.learning_rate"),
    ),
    "an augmentation of a probe": (
        {"phase1_checkpoint": {"method": {"probe": {}}, "augmentation": {"none": {}}}},
        ("no augmentation of a probe", "augmentation: none"),
    ),
    "attention that nothing learns": (
        {"phase1_checkpoint": {"views": {"grid": {"pooling": {"attention": {}}}}}},
        ("learns how to weigh the views", "Only method: probe"),
    ),
    "an augmentation that is a profile now": (
        {"phase1_checkpoint": {"augmentation": {"validator": {}}}},
        ("validator", "augmentation of phase1_checkpoint", "profile: {natix_crops_2025: {}}"),
    ),
    "an operation that there is not": (
        {"conditions": {"profile": {"own": {"levels": [{"name": "a", "operations": [{"gian": [1.0]}]}]}}}},
        ("the unknown gian", "did you mean gain?"),
    ),
    "a strength out of bounds": (
        {"conditions": {"profile": {"own": {"levels": [{"name": "a", "operations": [{"gain": [9.0]}]}]}}}},
        ("1 to 16 numbers from 0 to 4", "[9.0]", "conditions: gain of a level"),
    ),
    "levels that are never met": (
        {"conditions": {"profile": {"own": {"levels": [{"name": "a", "weight": 0.0}]}}}},
        ("no weight above 0", "levels of the conditions own"),
    ),
    "two sources": (
        {"images": {"demo": {}, "folder": {"path": "x"}}},
        ("exactly one source", "demo and folder", "images: "),
    ),
    "an unknown policy": (
        {"bundle": {"policy": "gates"}},
        ("threshold, gate, scrc", "gates", "Did you mean gate?"),
    ),
    "a release rule that everything keeps": (
        {"bundle": {"release": {"max_fnr": 1.0}}},
        ("a number less than 1", "release.max_fnr of bundle"),
    ),
    "a release rule that is no number": (
        {"bundle": {"release": {"min_mcc": "high"}}},
        ("a number", "release.min_mcc of bundle"),
    ),
    "an unknown release rule": (
        {"bundle": {"release": {"min_mc": 0.5}}},
        ("the unknown min_mc", "did you mean min_mcc?"),
    ),
    "a version that is none": ({"bundle": {"version": "1"}}, ("X.Y.Z", "bundle: version")),
    "a digest that is none": (
        {"backbone": {"weights": "pretrained", "sha256": "abc"}},
        ("64 hexadecimal digits", "backbone: sha256"),
    ),
}


@pytest.mark.parametrize(("settings", "says"), BAD.values(), ids=BAD)
def test_a_bad_configuration_is_one_paragraph_before_there_is_a_run(settings, says):
    config = {"ops": {step: {"config": given} for step, given in settings.items()}}
    with pytest.raises(dg.DagsterInvalidConfigError) as caught:
        dg.validate_run_config(defs.resolve_job_def("make_bundle"), config)
    text = str(paragraph(caught.value))
    assert text.startswith("Expected ")
    assert "\n" not in text
    assert len(text) < 500
    for words in says:
        assert words in text


@pytest.mark.parametrize("method", ["finetune", "probe", "lp_ft", "lora"])
def test_each_method_is_taken_without_any_setting(method):
    """Dagster fills in the defaults, as instances of classes of its own."""
    config = {"ops": {"phase1_checkpoint": {"config": {"method": {method: {}}}}}}
    assert dg.validate_run_config(defs.resolve_job_def("make_bundle"), config)


def test_every_fault_of_a_configuration_is_told():
    config = {"ops": {"gate": {"config": {"covrage": 0.5, "coverage": "all"}}}}
    with pytest.raises(dg.DagsterInvalidConfigError) as caught:
        dg.validate_run_config(defs.resolve_job_def("make_bundle"), config)
    text = str(paragraph(caught.value))
    assert "did you mean coverage?" in text
    assert "coverage of gate" in text


def test_a_store_named_in_the_configuration_is_told_where_it_is_named_now():
    config = {"resources": {"store": {"config": {"path": "/somewhere"}}}}
    with pytest.raises(dg.DagsterInvalidConfigError) as caught:
        dg.validate_run_config(defs.resolve_job_def("make_bundle"), config)
    assert "the environment variable STREETVISION_STORE" in str(paragraph(caught.value))


def test_settings_beside_config_are_told_where_they_belong():
    with pytest.raises(dg.DagsterInvalidConfigError) as caught:
        dg.validate_run_config(defs.resolve_job_def("make_bundle"), {"ops": {"gate": {"coverage": 0.5}}})
    assert "gate: {config: {coverage: ...}}" in str(paragraph(caught.value))


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"ops": {"phase1_checkpont": {}}}, ("a step", "did you mean phase1_checkpoint?")),
        ({"ops": {"label_audi": {}}}, ("a step", "did you mean label_audit?")),
        ({"resources": {"stor": {}}}, ("a resource", "did you mean store?")),
        ({"ops": {"images": {"config": {"demo": None}}}}, ("demo of images", "Write demo: {}")),
        ({"ops": {"images": {"config": {"join": [{"csv": None}]}}}}, ("join.csv of images", "Write csv: {}")),
        ({"ops": {"images": {"config": {"csv": {"keep": {"city": None}}}}}}, ("csv.keep.city of images",)),
    ],
)
def test_what_dagster_passes_over_is_refused(config, says):
    with pytest.raises(ConfigError) as caught:
        check_written(config)
    for words in says:
        assert words in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"ops": None},
        {"ops": {"gate": None, "images_integrity_and_lineage": {}}, "resources": {"store": {}}},
        {"ops": {"phase1_checkpoint": {"config": {"method": {"lora": None}}}}},
        {"ops": {"images": {"config": {"csv": {"path": "x", "group_column": None, "none": None}}}}},
    ],
)
def test_what_dagster_itself_judges_is_left_to_it(config):
    check_written(config)


def test_settings_of_a_step_that_the_job_does_not_run_are_told_as_that():
    config = {"ops": {"label_audit": {"config": {}}}}
    with pytest.raises(dg.DagsterInvalidConfigError) as caught:
        dg.validate_run_config(defs.resolve_job_def("make_bundle"), config)
    assert "Expected steps of this job, but found label_audit" in str(paragraph(caught.value))
