"""Weights from the hub: what its client downloads or has kept, pinned, recorded, and never a pickle."""

import hashlib
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save

from streetvision_core.errors import ConfigError, IntegrityError
from streetvision_core.models import Backbone
from tests.models.hub import COMMIT, FILE, OLD_COMMIT, REPOSITORY, put_into_cache, serve
from tests.training.toy import make_backbone, publish, stage

NAME = {"architecture": "test_vit.r160_in1k", "weights": "pretrained", "input_size": 64}


def weights_of(seed):
    """The file that timm would have on the hub: with its head, at its own input size."""
    import timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return timm.create_model("test_vit").state_dict()


@pytest.fixture(scope="module")
def state():
    return weights_of(0)


@pytest.fixture(scope="module")
def data(state):
    return save(state)


@pytest.fixture(scope="module")
def old_data():
    return save(weights_of(1))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the hub's client, which is told that there is no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


@pytest.fixture
def online(cache, monkeypatch):
    """Make the client ask a hub at some URL."""

    def ask(url):
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)

    return ask


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def test_cached_weights_are_those_of_the_file_and_their_origin_is_recorded(cache, data, tmp_path):
    put_into_cache(cache, data)
    backbone = make_backbone(tmp_path / "out", **NAME)
    (tmp_path / "local.safetensors").write_bytes(data)
    local = make_backbone(
        tmp_path / "local", **{**NAME, "weights": str(tmp_path / "local.safetensors"), "license": "mit"}
    )
    assert backbone.weights.sha256 == local.weights.sha256
    assert backbone.origin == {
        "repository": REPOSITORY, "commit": COMMIT, "file": FILE, "sha256": sha256(data),
        "licence_stated_by": "timm",
    }  # fmt: skip
    assert local.origin == {
        "file": "local.safetensors", "sha256": sha256(data), "licence_stated_by": "configuration",
    }  # fmt: skip
    assert backbone.source == f"hub: {REPOSITORY}, commit {COMMIT}, {FILE}, SHA-256 {sha256(data)}"
    assert (backbone.licence, local.licence) == ("apache-2.0", "mit")


def test_what_was_published_of_the_hub_reads_back_with_origin_and_licence(cache, data, tmp_path):
    put_into_cache(cache, data)
    backbone = make_backbone(stage(tmp_path / "store"), **NAME)
    assert "Apache License" in backbone.licence_text
    assert Backbone.from_artifact(publish(backbone.to_artifact(), tmp_path / "store")) == backbone


def test_a_pinned_commit_is_loaded_though_the_main_branch_has_moved_on(cache, data, old_data, tmp_path):
    put_into_cache(cache, old_data, commit=OLD_COMMIT)
    put_into_cache(cache, data)
    pinned = make_backbone(tmp_path / "a", **NAME, revision=OLD_COMMIT, sha256=sha256(old_data))
    moved = make_backbone(tmp_path / "b", **NAME)
    assert (pinned.origin["commit"], pinned.origin["sha256"]) == (OLD_COMMIT, sha256(old_data))
    assert (moved.origin["commit"], moved.origin["sha256"]) == (COMMIT, sha256(data))
    assert pinned.weights.sha256 != moved.weights.sha256


def test_a_tampered_copy_in_the_cache_is_refused_with_a_pin_and_without(cache, data, old_data, tmp_path):
    put_into_cache(cache, data).write_bytes(old_data)
    with pytest.raises(IntegrityError, match=rf"pinned SHA-256 {sha256(data)}.*{sha256(old_data)}"):
        make_backbone(tmp_path / "out", **NAME, sha256=sha256(data))
    with pytest.raises(IntegrityError, match="as the hub gave it"):
        make_backbone(tmp_path / "out", **NAME)
    assert not (tmp_path / "out").exists()


def test_a_pinned_digest_is_compared_before_the_file_is_read_as_weights(tmp_path):
    """A local file too: what is refused here is no safetensors file at all."""
    path = tmp_path / "local.safetensors"
    path.write_bytes(b"no tensors in here")
    with pytest.raises(IntegrityError, match="pinned"):
        make_backbone(tmp_path / "out", weights=str(path), sha256="0" * 64)
    with pytest.raises(ConfigError, match=r"readable \.safetensors"):
        make_backbone(tmp_path / "out", weights=str(path), sha256=sha256(b"no tensors in here"))


@pytest.mark.parametrize("revision", ["v9", "c3" * 20])
def test_a_revision_that_is_not_in_the_cache_is_refused_in_words_when_offline(
    cache, data, tmp_path, revision
):
    put_into_cache(cache, data)
    with pytest.raises(ConfigError, match=rf"at {revision} .*offline mode.*revision") as caught:
        make_backbone(tmp_path / "out", **NAME, revision=revision)
    assert "\n" not in str(caught.value)


def test_what_the_hub_gives_is_loaded_and_kept_for_when_it_is_away(cache, data, tmp_path, online):
    with serve({FILE: data}) as (url, asked):
        online(url)
        first = make_backbone(tmp_path / "a", **NAME)
    # Once a day the hub's client also asks for a registry of its own.
    assert {path.rpartition("/")[2] for path in asked} - {"agent-harnesses"} == {FILE}
    assert (first.origin["commit"], first.origin["sha256"]) == (COMMIT, sha256(data))
    again = make_backbone(tmp_path / "b", **NAME, revision=COMMIT)
    assert again.weights.sha256 == first.weights.sha256


def test_a_repository_that_holds_a_pickle_alone_is_refused_and_the_pickle_not_asked_for(
    cache, tmp_path, online
):
    with serve({"pytorch_model.bin": b"a pickle"}) as (url, asked):
        online(url)
        with pytest.raises(ConfigError, match=r"without that file.*Only safetensors are loaded"):
            make_backbone(tmp_path / "out", **NAME)
    assert not [path for path in asked if path.endswith(".bin")]


def test_a_revision_that_the_hub_does_not_know_is_refused_in_words(cache, data, tmp_path, online):
    with serve({FILE: data}) as (url, _):
        online(url)
        with pytest.raises(ConfigError, match=r"at v9 .*no such revision"):
            make_backbone(tmp_path / "out", **NAME, revision="v9")


def test_weights_that_are_on_no_hub_are_refused_with_where_they_are(tmp_path):
    with pytest.raises(ConfigError, match=r"safetensors, but found https?://\S+\.pth"):
        make_backbone(tmp_path, architecture="legacy_seresnet18.in1k", weights="pretrained", input_size=64)


def test_the_variables_of_the_hubs_client_point_to_a_cache_behind_an_air_gap(data, tmp_path):
    put_into_cache(tmp_path / "home/hub", data)
    code = (
        "from pathlib import Path\n"
        "from streetvision_core.models import BackboneConfig, prepare_backbone\n"
        f"config = BackboneConfig(**{NAME!r})\n"
        f"print(prepare_backbone(config, directory=Path({str(tmp_path / 'out')!r})).origin['commit'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == COMMIT, done.stderr
