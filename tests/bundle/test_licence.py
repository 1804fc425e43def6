"""The licence of the starting weights: refused or accepted by name, and its text goes along."""

import json
import shutil

import pytest

from streetvision_core.bundle import verify_bundle
from streetvision_core.errors import BundleError
from streetvision_core.io import Artifact, json_bytes
from streetvision_core.models.licences import TEXT_NAME
from tests.bundle.chain import Chain, forge, publish

OTHER_RUN = "20261122T101500-eeeeeeee"
TEXT = "The licence of somebody, § 1.\r\n"


@pytest.fixture
def started_from(chain, tmp_path):
    """The same chain, as if its starting weights had been given under a licence."""

    def make(licence, *, text=""):
        own = Chain(type(chain.store)(tmp_path / f"store_{len(text)}"), dict(chain.upstream))
        record = chain.upstream["backbone"].read_json("backbone.json")
        origin = {"file": "given.safetensors", "sha256": "0" * 64, "licence_stated_by": "configuration"}
        replace(own, "backbone", {
            "backbone.json": json_bytes({**record, "licence": licence, "origin": origin}),
            **({TEXT_NAME: text.encode()} if text else {}),
        })  # fmt: skip
        replace(own, "phase1_checkpoint", {})
        return own

    return make


def replace(chain, step, files):
    """Publish a step again, with other files in the place of some, from what is in the chain now."""
    old = chain.upstream[step]
    kept = {name: old.read_bytes(name) for name in old.manifest.output_artifacts}
    chain.upstream[step] = publish(
        chain.store, step, Artifact({**kept, **files}), run_id=OTHER_RUN, config=old.manifest.config,
        inputs={name: chain.upstream[name] for name in old.manifest.input_artifacts},
    )  # fmt: skip


def refusal(chain, tmp_path, **config):
    with pytest.raises(BundleError) as caught:
        chain.export(tmp_path / "out", **config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("licence", "reason"),
    [
        ("cc-by-nc-4.0", "for non-commercial use only"),
        ("cc-by-nd-4.0", "may not be handed on"),
        ("unknown", "nobody states their licence"),
        ("seer-license", "terms StreetVision does not know"),
    ],
)
def test_weights_of_a_restricting_licence_are_exported_only_when_it_is_accepted_by_name(
    started_from, tmp_path, licence, reason
):
    chain = started_from(licence)
    message = refusal(chain, tmp_path)
    assert reason in message
    assert f"set license: {licence}" in message
    assert reason in refusal(chain, tmp_path, license="MIT")
    bundle = chain.bundle(OTHER_RUN, license=licence)
    assert f"Accepted by name by whoever exported this: {licence}" in (bundle / "LICENSE").read_text()
    assert json.loads((bundle / "model_card.json").read_bytes())["license"] == licence
    assert licence in (bundle / "README.md").read_text()
    verify_bundle(bundle)


def test_a_licence_that_demands_a_copy_is_exported_with_its_text_alone(started_from, tmp_path):
    assert "license_file" in refusal(started_from("dinov3-license"), tmp_path)
    chain = started_from("dinov3-license", text=TEXT)
    assert "Leave license of the bundle empty" in refusal(chain, tmp_path, license="MIT")
    moved = tmp_path / "elsewhere"
    shutil.move(chain.bundle(OTHER_RUN), moved)
    verify_bundle(moved, deep=True)
    assert (moved / TEXT_NAME).read_bytes().decode() == TEXT
    assert f"Text of dinov3-license: {TEXT_NAME}" in (moved / "LICENSE").read_text()


def test_the_text_of_the_licence_cannot_be_left_out_or_replaced(started_from, bundle, tmp_path):
    whole = started_from("dinov3-license", text=TEXT).bundle(OTHER_RUN)
    for number, other in enumerate((None, b"Do what you like.")):
        forged = forge(whole, tmp_path / str(number), files={TEXT_NAME: other})
        with pytest.raises(BundleError, match=f"{TEXT_NAME} as the step backbone published it"):
            verify_bundle(forged)
    with pytest.raises(BundleError, match=f"{TEXT_NAME} as the step backbone published it"):
        verify_bundle(forge(bundle, tmp_path / "added", files={TEXT_NAME: b"Do what you like."}))


def test_free_weights_may_be_given_another_licence(started_from):
    bundle = started_from("apache-2.0", text=TEXT).bundle(OTHER_RUN, license="MIT")
    assert json.loads((bundle / "model_card.json").read_bytes())["license"] == "MIT"
    assert "Licence of what they started from: apache-2.0" in (bundle / "LICENSE").read_text()
    verify_bundle(bundle)
