"""A run without a preset takes the store's own images again, and never the demo in their place."""

import json
import shutil

import pytest
import yaml

from tests.assets.graph import Graph, paragraph, small_config
from tests.bundle.chain import draw_images
from tests.e2e.place import (
    READABLE,
    Place,
    activate_file,
    assert_one_paragraph,
    assert_readable,
    published,
    unharmed,
)

SMALL_DEMO = {"images": 32}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("own")
    draw_images(path)
    return path


@pytest.fixture(scope="module")
def activate(tmp_path_factory):
    return activate_file(tmp_path_factory.mktemp("environment"))


@pytest.fixture
def graph(tmp_path):
    graph = Graph(tmp_path)
    yield graph
    graph.instance.dispose()


def index(graph, **settings):
    """Materialize images alone with these settings."""
    return graph.run("make_bundle", steps=["images"], config={"images": {"config": settings}})


def test_without_a_source_the_images_of_the_store_are_indexed_again(graph, folder, capsys):
    own = {"folder": {"path": str(folder)}, "max_quarantined_share": 0.2}
    assert index(graph, **own).success
    explicit = graph.current("images").manifest
    capsys.readouterr()
    assert graph.run("make_bundle", steps=["images"]).success
    again = graph.current("images").manifest
    assert again.run_id != explicit.run_id
    assert again.config == explicit.config
    assert again.step_key == explicit.step_key
    assert again.data_version == explicit.data_version
    lines = [line for line in capsys.readouterr().err.splitlines() if "no source is named" in line]
    assert len(lines) == 1
    assert f"taken again, folder: path {folder}" in lines[0]
    assert explicit.run_id in lines[0]


def test_what_is_named_beside_the_source_counts(graph, folder):
    assert index(graph, folder={"path": str(folder)}, max_quarantined_share=0.2).success
    assert index(graph, max_quarantined_share=0.05).success
    config = graph.current("images").config()
    assert config["max_quarantined_share"] == 0.05
    assert config["folder"]["path"] == str(folder)


def test_a_demo_that_was_named_is_reused_without_being_named_again(graph):
    assert index(graph, demo=SMALL_DEMO).success
    assert graph.run("make_bundle", steps=["images"]).success
    assert graph.current("images").manifest.reused_from is not None


def test_the_demo_has_to_be_named_and_may_be_named_alone(graph):
    assert index(graph, demo=SMALL_DEMO).success
    assert graph.current("images").manifest.config["demo"] == SMALL_DEMO


@pytest.mark.parametrize("config", [{}, {"images": {"config": {}}}], ids=["none", "an empty source"])
def test_an_empty_store_says_how_to_name_a_source_and_gets_no_images(graph, config):
    """A preset whose source is commented out, or the plain button of the UI: never the demo."""
    result = graph.run("make_bundle", config=config)
    assert not result.success
    text = paragraph(result)
    assert "presets/folder.yaml" in text
    assert "--config-json" in text
    assert "demo: {}" in text
    assert published(graph.store) == {}


def test_images_that_have_gone_are_one_paragraph(graph, folder, tmp_path):
    moved = shutil.copytree(folder, tmp_path / "moved")
    assert index(graph, folder={"path": str(moved)}).success
    shutil.rmtree(moved)
    with unharmed(graph.store):
        result = graph.run("make_bundle", steps=["images"])
    assert not result.success
    assert f"found nothing at this path ({moved})" in paragraph(result)


def test_a_damaged_index_is_never_replaced_by_another_source(graph, folder):
    assert index(graph, folder={"path": str(folder)}).success
    manifest = graph.current("images").directory / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"folder"', b'"f0lder"'))
    result = graph.run("make_bundle", steps=["images"])
    assert not result.success
    assert str(manifest) in paragraph(result)


@pytest.mark.e2e
@pytest.mark.parametrize("selection", ["bundle", "*bundle"])
def test_the_literal_command_on_an_empty_store(tmp_path, folder, activate, selection):
    place = Place(tmp_path / "new", folder, activate)
    finished = place.run_loaded("dagster", "asset", "materialize", "--select", selection)
    assert_one_paragraph(finished, "-c presets/folder.yaml")
    assert published(place.store) == {}


@pytest.mark.e2e
def test_the_literal_command_takes_the_source_of_the_store_again(tmp_path, folder, activate):
    place = Place(tmp_path / "new", folder, activate)
    assert place.materialize("images").code == 0
    before = place.store.resolve("images").manifest
    finished = place.run_loaded("dagster", "asset", "materialize", "--select", "images")
    assert finished.code == 0, finished.terminal
    assert_readable(finished)
    assert "no source is named" in finished.terminal
    assert place.store.resolve("images").manifest.step_key == before.step_key


@pytest.mark.e2e
def test_one_setting_is_changed_without_a_file(tmp_path, folder, activate):
    """Settings that are left out come from the store or are the defaults."""
    place = Place(tmp_path / "new", folder, activate)
    assert place.materialize("images").code == 0
    config = json.dumps({"ops": {"splits": {"config": {"seed": 7}}}})
    command = ("dagster", "asset", "materialize", "--select", "images,splits", "--config-json", config)
    finished = place.run_loaded(*command)
    assert finished.code == 0, finished.terminal
    assert_readable(finished)
    splits = place.store.resolve("splits").manifest
    assert splits.config["seed"] == 7
    assert place.store.resolve("images").config()["folder"]["path"] == str(folder)
    wrong = json.dumps({"ops": {"images": {"config": {"folder": {"path": str(tmp_path / "nowhere")}}}}})
    finished = place.run_loaded(
        "dagster", "asset", "materialize", "--select", "images", f"--config-json={wrong}"
    )
    assert_one_paragraph(finished, "found nothing at this path")


@pytest.mark.e2e
def test_learning_rate_and_batch_size_are_changed_over_a_preset_without_a_file(tmp_path, folder, activate):
    place = Place(tmp_path / "new", folder, activate)
    preset = tmp_path / "preset.yaml"
    preset.write_text(yaml.safe_dump({"ops": small_config(folder), **READABLE}))
    change = (
        '{"ops": {"phase1_checkpoint": {"config": {"optimizer": {"learning_rate": 0.002}, "batch_size": 8}}}}'
    )
    command = ("dagster", "asset", "materialize", "--select", "*phase1_checkpoint", "-c", preset)
    finished = place.run_loaded(*command, "--config-json", change)
    assert finished.code == 0, finished.terminal
    config = place.store.resolve("phase1_checkpoint").manifest.config
    assert (config["optimizer"]["learning_rate"], config["batch_size"]) == (0.002, 8)
    assert config["epochs"] == small_config(folder)["phase1_checkpoint"]["config"]["epochs"]


BAD = {
    "ops: {splts: {config: {seed: 1}}}": "did you mean splits?",
    "resources: {stor: {config: {reuse: false}}}": "did you mean store?",
    "ops:\n\tsplits: {}": "no YAML",
    "- ops": "found list",
    "ops: {splits: {}}\nops: {}": "'ops' stands twice",
    "ops: {images: {config: {csv: {path: x, keep: {city: }}}}}": "csv.keep.city of images",
}


@pytest.mark.e2e
def test_what_dagster_would_pass_over_is_one_paragraph(tmp_path, folder, activate):
    place = Place(tmp_path / "new", folder, activate)
    file = tmp_path / "bad.yaml"
    command = ("dagster", "asset", "materialize", "--select", "images")
    for content, says in BAD.items():
        file.write_text(content)
        assert_one_paragraph(place.run_loaded(*command, "-c", file), says)
    assert_one_paragraph(place.run_loaded(*command, "--config-json", content), says)
    assert published(place.store) == {}
