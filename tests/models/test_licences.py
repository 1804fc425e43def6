"""The terms of licences for derived weights, and when a bundle may be made of them."""

import pytest

from streetvision_core.errors import ConfigError
from streetvision_core.models import BackboneConfig
from streetvision_core.models.licences import (
    Licence,
    export_obstacle,
    licence_of_file,
    licence_of_hub,
    terms_of,
)

FREE = ("none", "apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0")
RESTRICTED = ("cc-by-nc-4.0", "cc-by-nd-4.0", "fair-noncommercial-research-license")
NO_TERMS = ("unknown", "other", "seer-license", "a-licence-of-mine")


def obstacle(licence, *, text="the text", **options):
    return str(export_obstacle(licence, text=text, **options) or "")


@pytest.mark.parametrize("licence", [*FREE, "dinov3-license"])
def test_weights_that_may_be_handed_on_for_any_use_need_no_acceptance(licence):
    assert obstacle(licence) == ""


@pytest.mark.parametrize("licence", [*RESTRICTED, *NO_TERMS])
def test_other_weights_are_refused_unless_their_licence_is_accepted_by_name(licence):
    assert f"license: {licence}" in obstacle(licence)
    assert obstacle(licence, chosen=licence.upper()) == ""


@pytest.mark.parametrize("licence", [*RESTRICTED, *NO_TERMS])
def test_naming_another_licence_than_that_of_the_weights_accepts_nothing(licence):
    assert f"license: {licence}" in obstacle(licence, chosen="seer-licence")


@pytest.mark.parametrize("licence", ["apache-2.0", "dinov3-license", "fair-noncommercial-research-license"])
def test_a_licence_that_demands_a_copy_is_refused_without_its_text(licence):
    chosen = licence if licence in RESTRICTED else ""
    assert "license_file" in obstacle(licence, text="", chosen=chosen)
    assert obstacle(licence, chosen=chosen) == ""


def test_only_free_weights_may_be_handed_on_under_another_licence():
    assert "Leave license of the bundle empty" in obstacle("dinov3-license", chosen="MIT")
    assert obstacle("dinov3-license", chosen="DINOv3-License") == ""
    assert obstacle("apache-2.0", chosen="MIT") == ""


def test_timm_calls_every_distilled_eupe_model_non_commercial_and_dinov3_by_its_own_licence():
    """The licence of each of these families is the one that the installed timm gives all of its weights."""
    from timm.models._registry import _model_pretrained_cfgs as all_weights

    tags = {name: cfg.license for name, cfg in all_weights.items() if "." in name}
    eupe = {licence for name, licence in tags.items() if name.endswith(".eupe_lvd1689m")}
    dinov3 = {licence for name, licence in tags.items() if name.endswith("lvd1689m") and "eupe" not in name}
    assert eupe == {"fair-noncommercial-research-license"}
    assert not terms_of(eupe.pop()).commercial
    assert dinov3 == {"dinov3-license"}
    assert terms_of("dinov3-license").hand_on == "same"


def config(**settings):
    return BackboneConfig(**{"weights": "local.safetensors", **settings})


def test_timm_states_the_licence_of_hub_weights_and_the_configuration_where_timm_does_not():
    hub = {"weights": "pretrained"}
    assert licence_of_hub({"license": "mit"}, config(**hub)) == Licence("mit", "timm")
    assert licence_of_hub({"license": "mit"}, config(**hub, license="MIT")) == Licence("mit", "timm")
    assert licence_of_hub({"license": None}, config(**hub)) == Licence("unknown", "nobody")
    stated = Licence("cc-by-nc-4.0", "configuration")
    assert licence_of_hub({"license": "other"}, config(**hub, license="cc-by-nc-4.0")) == stated
    assert licence_of_file(config(license="cc-by-nc-4.0")) == stated


def test_the_configuration_cannot_make_a_licence_freer_than_timm_says():
    with pytest.raises(ConfigError, match=r"cc-by-nc-4\.0, but found 'mit'"):
        licence_of_hub({"license": "cc-by-nc-4.0"}, config(weights="pretrained", license="mit"))


def test_a_text_that_is_given_goes_before_the_one_that_is_known(tmp_path):
    (tmp_path / "own.txt").write_bytes("Licence of é\r\n".encode())
    given = config(license="apache-2.0", license_file=str(tmp_path / "own.txt"))
    assert licence_of_file(given).text == "Licence of é\r\n"
    assert licence_of_file(config(license="apache-2.0")).text.lstrip().startswith("Apache License")


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe"])
def test_a_text_that_cannot_be_read_is_refused(tmp_path, content):
    path = tmp_path / "own.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="license_file"):
        licence_of_file(config(license="mit", license_file=str(path)))


@pytest.mark.parametrize(
    "settings",
    [
        {"weights": "random", "license": "mit"}, {"weights": "random", "sha256": "0" * 64},
        {"revision": "main"}, {"license": "none"}, {"license": "not one"}, {"sha256": "0" * 63},
        {"weights": "pretrained", "revision": "../main"}, {"weights": "pretrained", "revision": "a b"},
    ],
)  # fmt: skip
def test_settings_about_other_weights_or_of_no_meaning_are_refused(settings):
    with pytest.raises(ValueError, match="Expected"):
        config(**settings)


@pytest.mark.parametrize(
    ("settings", "decisive"),
    [
        ({"weights": "random"}, True), ({"weights": "pretrained"}, True), ({}, False),
        ({"sha256": "0" * 64}, True), ({"sha256": "0" * 64, "license_file": "LICENSE"}, False),
    ],
)  # fmt: skip
def test_an_earlier_result_will_do_unless_a_path_may_hold_something_else_now(settings, decisive):
    assert config(**settings).is_decisive == decisive
