"""The checks of a store in which not everything was made, and their numbers where a result is taken over."""

import shutil

import dagster as dg
import pytest

from tests.assets.graph import BESIDE, STEPS, Graph, copy_of, evaluations, paragraph, small_config
from tests.bundle.chain import draw_images

NUMBERS = {
    ("images", "groups_plausible"): {"ungrouped"},
    ("splits", "no_leakage"): {"images", "groups", "roles"},
    ("phase1_checkpoint", "usable_model"): {"images", "val_mcc"},
    ("val_calib_logits", "complete_logits"): {"images"},
    ("thresholds", "recomputed"): {"images"},
    ("gate", "refitted"): {"images"},
    ("scrc", "recertified"): {"images"},
    ("evaluation", "recounted"): {"images", "policies"},
    ("bundle", "deployable"): {"images", "files", "golden_images"},
    ("bundle", "releasable"): {"mcc_bad_end"},
}
NOTHING = "nothing of {} was ever made in this store, so there is nothing to check"


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    draw_images(folder)
    return folder


@pytest.fixture
def graph(tmp_path):
    made = Graph(tmp_path)
    yield made
    made.instance.dispose()


def numbers(check):
    kinds = (dg.IntMetadataValue, dg.FloatMetadataValue)
    return {name: value.value for name, value in check.metadata.items() if isinstance(value, kinds)}


def failures(result):
    return [event for event in result.all_events if event.is_failure]


def assert_verified(graph, made):
    """Every check passes; those of what was never made say so."""
    result = graph.run("verify")
    assert result.success, paragraph(result)
    for (step, _), check in evaluations(result).items():
        assert check.passed
        missing = step not in made
        assert (check.description == NOTHING.format(step)) == missing
        assert not missing or check.severity is dg.AssetCheckSeverity.WARN
    assert {step for step, _ in evaluations(result)} == {*STEPS, *BESIDE}


def test_verify_passes_over_what_was_never_made_and_no_more(graph, images):
    config = small_config(images)
    made = ("conditions", "images", "splits", "backbone", "phase1_checkpoint")
    result = graph.run("phase1", config=config)
    assert result.success, paragraph(result)
    assert_verified(graph, made)
    (graph.store_path / "latest/splits.json").unlink()
    verified = graph.run("verify", steps=None)
    assert verified.success, "Dagster's events still name the run"
    shutil.rmtree(graph.store.resolve("images").directory)
    assert not graph.run("verify").success, "an upstream behind an existing artifact is gone"


def test_a_lost_pointer_is_not_taken_for_nothing_made(graph, images, tmp_path):
    result = graph.materialize(images, "images")
    assert result.success, paragraph(result)
    assert graph.materialize(images, "splits").success
    (graph.store_path / "latest/splits.json").unlink()
    (tmp_path / "elsewhere").mkdir()
    wiped = Graph(tmp_path / "elsewhere")
    wiped.store_path = graph.store_path
    verified = wiped.run("verify")
    wiped.instance.dispose()
    assert not verified.success
    assert "Expected splits to have been materialized" in paragraph(verified)


def test_verify_of_an_empty_store_is_one_paragraph(graph, capsys):
    result = graph.run("verify")
    assert not result.success
    assert evaluations(result) == {}
    printed = capsys.readouterr().err
    assert printed.count("Expected something to check, but found nothing published") == 1
    assert "Traceback" not in printed


def test_numbers_of_a_check_are_there_also_where_its_result_is_taken_over(whole_run, pictures, tmp_path):
    made, first = whole_run
    graph = copy_of(made, tmp_path)
    second = graph.materialize(pictures)
    assert second.success, paragraph(second)
    proved, taken = evaluations(first), evaluations(second)
    for key, names in NUMBERS.items():
        # Images of a user may have changed: their index is made and checked each time.
        assert (key[0] != "images") == ("passed before on the same content" in taken[key].description)
        assert numbers(proved[key]).keys() == {"problems", *names}
        assert numbers(taken[key]) == numbers(proved[key])
    policies = graph.current("evaluation").read_json("evaluation.json")["policies"]
    assert numbers(proved["evaluation", "recounted"])["policies"] == len(policies)
    third = evaluations(graph.materialize(pictures))
    graph.instance.dispose()
    assert all(numbers(third[key]) == numbers(proved[key]) for key in NUMBERS)
