"""Starting weights on the real graph: what is asked again, and what a person is told in time."""

import pytest
import timm
from safetensors.torch import save

from tests.assets.graph import paragraph
from tests.models.hub import COMMIT, put_into_cache

HUB = {"architecture": "test_vit.r160_in1k", "weights": "pretrained", "input_size": 64}


@pytest.fixture(scope="module")
def data():
    return save(timm.create_model("test_vit").state_dict())


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def reused(graph, pictures, **settings):
    """True if the step took over what it had made before; it must have ended well."""
    result = graph.materialize(pictures, "backbone", backbone=settings)
    assert result.success, paragraph(result)
    return graph.current("backbone").manifest.reused_from is not None


def test_weights_of_the_hub_that_were_published_need_neither_hub_nor_cache_again(
    graph, pictures, data, cache
):
    put_into_cache(cache, data)
    assert not reused(graph, pictures, **HUB)
    assert graph.current("backbone").read_json("backbone.json")["origin"]["commit"] == COMMIT
    cache.rename(cache.with_name("away"))
    assert reused(graph, pictures, **HUB)
    again = graph.materialize(pictures, "backbone", reuse=False, backbone=HUB)
    assert "neither in its cache nor on the network" in paragraph(again)


def test_a_local_file_is_taken_over_only_where_its_digest_is_pinned(graph, pictures, data, tmp_path):
    path = tmp_path / "local.safetensors"
    path.write_bytes(data)
    local = {**HUB, "weights": str(path), "license": "mit"}
    assert [reused(graph, pictures, **local) for _ in range(2)] == [False, False]
    pinned = {**local, "sha256": graph.current("backbone").read_json("backbone.json")["origin"]["sha256"]}
    assert [reused(graph, pictures, **pinned) for _ in range(2)] == [False, True]


def test_weights_that_no_bundle_may_be_made_of_are_told_before_training(
    graph, pictures, data, tmp_path, capsys
):
    path = tmp_path / "local.safetensors"
    path.write_bytes(data)
    for settings, warned in ({}, True), ({"license": "mit"}, False):
        reused(graph, pictures, **{**HUB, "weights": str(path), **settings})
        assert ("nobody states their licence" in capsys.readouterr().err) == warned
