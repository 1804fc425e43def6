"""Traces of this machine in the records of the graph, and in its redacted bundle."""

import json
import socket
from pathlib import Path

from streetvision_core.bundle import verify_bundle
from tests.assets.graph import STEPS
from tests.assets.test_graph import evaluations, materializations
from tests.assets.test_reuse import ALWAYS_RUN, computed
from tests.bundle.chain import names_in


def test_no_manifest_of_a_run_names_the_machine_or_the_folder_of_the_images(first_run):
    graph, _ = first_run
    folder = graph.current("images").config()["folder"]["path"]
    assert Path(folder).is_dir()
    for step in STEPS:
        published = graph.current(step)
        text = (published.directory / "manifest.json").read_text()
        assert (folder in text, str(graph.store_path) in text, "hostname" in text) == (False,) * 3
        assert published.private().hostname == socket.gethostname()


def test_a_redacted_bundle_of_the_graph_names_nothing_and_passes_its_checks(graph, pictures):
    result = graph.materialize(pictures, bundle={"lineage": "redacted"})
    assert computed(graph, result) == ALWAYS_RUN | {"bundle"}
    assert all(check.passed for check in evaluations(result).values())
    bundle, images = graph.current("bundle"), graph.current("images")
    assert bundle.private() is None
    assert bundle.problems() == []
    verify_bundle(bundle.directory, deep=True)
    traces = [images.config()["folder"]["path"], str(graph.store_path), str(Path.home())]
    for name in names_in(bundle.directory):
        data = (bundle.directory / name).read_bytes()
        assert [trace for trace in traces if trace.encode() in data] == [], name
    text = materializations(result)["bundle"].metadata["leaves the machine"].value
    assert "It is redacted" in text
    again = graph.materialize(pictures, bundle={"lineage": "redacted"})
    assert computed(graph, again) == ALWAYS_RUN
    assert not (graph.current("bundle").directory / "private.json").exists()


def test_a_setting_that_is_hidden_for_looking_like_a_path_is_never_taken_over_by_its_key(graph, pictures):
    """The key does not see what is hidden, so another value must not get what was made of this one."""
    for name in ("/one", "/two"):
        result = graph.materialize(pictures, bundle={"model_name": name})
        assert computed(graph, result) == ALWAYS_RUN | {"bundle"}
        bundle = graph.current("bundle")
        assert json.loads(bundle.read_bytes("model_card.json"))["model_name"] == name
        assert bundle.manifest.config["model_name"] == "<private>"
        assert bundle.config()["model_name"] == name
