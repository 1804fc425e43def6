"""The `streetvision` command on a bundle that was carried away from its store."""

import json
import shutil

import pytest

from tests.e2e.place import assert_one_paragraph, damage

pytestmark = pytest.mark.e2e


@pytest.fixture
def carried(first_run, tmp_path):
    made, _ = first_run
    return made, shutil.copytree(made.bundle, tmp_path / "carried" / "model")


def test_verify_accepts_a_bundle_that_was_copied_elsewhere(carried):
    place, bundle = carried
    finished = place.run("streetvision", "verify", "model", cwd=bundle.parent)
    assert finished.code == 0, finished.terminal
    assert finished.output.startswith("good")
    assert finished.errors == ""


@pytest.mark.parametrize("name", ["manifest.json", "model.safetensors", "golden/expected.json"])
def test_verify_refuses_it_after_one_changed_byte(carried, name):
    place, bundle = carried
    damage(bundle / name)
    finished = place.run_loaded("streetvision", "verify", bundle)
    assert_one_paragraph(finished, name)
    assert finished.output == ""


def test_predict_gives_one_json_line_an_image(carried):
    place, bundle = carried
    pictures = [str(place.pictures / "None/001.jpg"), str(place.pictures / "Roadwork/002.jpg")]
    finished = place.run("streetvision", "predict", bundle, *pictures)
    assert finished.code == 0, finished.terminal
    lines = [json.loads(line) for line in finished.output.splitlines()]
    assert [line["picture"] for line in lines] == pictures
    assert all(0 <= line["probability"] <= 1 for line in lines)
    assert all(line["decision"] == ("roadwork" if line["probability"] > 0.5 else "none") for line in lines)


def test_wrong_usage_exits_2_and_shows_the_usage(first_run):
    place, _ = first_run
    finished = place.run("streetvision", "guess", "model")
    assert finished.code == 2
    assert finished.errors.startswith("Expected usage: streetvision")
