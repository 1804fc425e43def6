"""Bundles that were made to deceive or to harm, each one run for real.

In most of them every digest fits: whoever can write a folder can compute digests as well. Each must be
refused by what it is, before anything in it is loaded.
"""

import json
import os
import pickle
import socket
import struct

import numpy as np
import pytest

from streetvision_core.bundle import Predictor, load_bundle, verify_bundle
from streetvision_core.errors import BundleError
from streetvision_core.graph import POLICIES
from streetvision_core.io import OutputFile, StepManifest, json_bytes
from tests.bundle.chain import copy, forge
from tests.bundle.forging import forge_part, pin_lineage, refused


@pytest.fixture
def moved(bundle, tmp_path):
    return copy(bundle, tmp_path / "moved")


def forge_json(bundle, target, name, change):
    """Change one JSON file of a bundle and make every digest fit."""
    content = json.loads((bundle / name).read_bytes())
    change(content)
    return forge(bundle, target, files={name: json.dumps(content, sort_keys=True, indent=1).encode() + b"\n"})


def state_of(bundle):
    from safetensors.torch import load

    return load((bundle / "model.safetensors").read_bytes())


def forge_state(bundle, target, change):
    from safetensors.torch import save

    state = state_of(bundle)
    change(state)
    return forge(bundle, target, files={"model.safetensors": save(state)})


class Boom:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch /tmp/streetvision_was_attacked",)


def test_a_forged_bundle_without_a_fault_passes(bundle, tmp_path):
    """The forger works, so that the refusals below are about what was forged."""
    verify_bundle(forge(bundle, tmp_path / "f"), deep=True)


@pytest.mark.parametrize(
    "name",
    [
        "../evil.json",
        "/etc/passwd",
        "policy/../../evil.json",
        "a\\b.json",
        "./bundle.json",
        "a//b",
        "",
        ".hidden",
    ],
)
def test_a_name_that_leaves_the_folder_is_refused(moved, name):
    manifest = StepManifest.load(moved / "manifest.json")
    outputs = {**manifest.output_artifacts, name: OutputFile(sha256="0" * 64, size_bytes=0)}
    changed = manifest.model_copy(update={"output_artifacts": outputs})
    (moved / "manifest.json").write_bytes(changed.to_bytes())
    refused(moved, "manifest")


@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model.bin",
        "model.pkl",
        "golden/009.pkl",
        "policy/thresholds.pt",
        "lineage/x.py",
        "LICENSE.pkl",
    ],
)
def test_a_listed_pickle_is_refused_and_never_opened(bundle, tmp_path, name):
    refused(forge(bundle, tmp_path / "f", files={name: pickle.dumps(Boom())}), "belong into a bundle")


@pytest.mark.parametrize("name", ["model.safetensors", "golden/expected.json", "policy/thresholds.json"])
def test_a_pickle_under_an_allowed_name_is_refused(bundle, tmp_path, name):
    refused(forge(bundle, tmp_path / "f", files={name: pickle.dumps(Boom())}), "found")
    assert not os.path.exists("/tmp/streetvision_was_attacked")  # noqa: PTH110


@pytest.mark.parametrize(
    "name",
    [
        "preprocessor_config.json",
        "model-00001.safetensors",
        "policy/platt.json",
        "golden/a.svg",
        "x.txt",
    ],
)
def test_a_listed_file_that_no_bundle_has_is_refused(bundle, tmp_path, name):
    refused(forge(bundle, tmp_path / "f", files={name: b"{}"}), "belong into a bundle")


def test_a_link_to_a_folder_is_refused(moved, tmp_path):
    (moved / "golden").rename(tmp_path / "golden")
    (moved / "golden").symlink_to(tmp_path / "golden")
    refused(moved, "the link 'golden'")


def test_a_pipe_or_a_socket_is_refused_and_stalls_nobody(moved):
    (moved / "README.md").unlink()
    os.mkfifo(moved / "README.md")
    refused(moved, "special file")
    (moved / "README.md").unlink()
    here = os.getcwd()  # noqa: PTH109
    os.chdir(moved)  # the name of a socket is at most 108 bytes long
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("README.md")
    os.chdir(here)
    refused(moved, "special file")


def test_a_manifest_that_is_a_pipe_or_a_link_is_refused(moved, tmp_path):
    (moved / "manifest.json").rename(tmp_path / "m")
    (moved / "manifest.json").symlink_to(tmp_path / "m")
    refused(moved, "link")
    (moved / "manifest.json").unlink()
    os.mkfifo(moved / "manifest.json")
    refused(moved, "special file")


def test_a_huge_file_is_refused_by_its_size(moved):
    """A terabyte of nothing takes no disk; whoever reads it first runs out of memory."""
    for name in ("README.md", "manifest.json"):
        os.truncate(moved / name, 1 << 40)
        refused(moved, "bytes")


def test_a_name_with_control_characters_cannot_write_to_the_terminal(moved):
    (moved / "\x1b[2Jx\udcff").write_bytes(b"")
    assert "\x1b" not in refused(moved, "lists")


@pytest.mark.parametrize("name", ["manifest.json", "bundle.json"])
def test_a_newer_schema_is_said_to_be_newer(bundle, tmp_path, name):
    if name == "bundle.json":
        forged = forge_json(bundle, tmp_path / "f", name, lambda record: record.update(schema_version=4))
    else:
        forged = forge(bundle, tmp_path / "f", manifest={"schema_version": 4})
    assert "newer StreetVision" in refused(forged, "version 4")


@pytest.mark.parametrize(
    "name",
    ["bundle.json", "evaluation.json", "policy/thresholds.json", "golden/expected.json", "model_card.json"],
)
def test_a_name_that_occurs_twice_is_refused(bundle, tmp_path, name):
    """Two readers could take different ones; the first of them is what a person sees."""
    data = (bundle / name).read_bytes()
    forged = forge(bundle, tmp_path / "f", files={name: data.replace(b"{", b'{"schema_version": 1,', 1)})
    refused(forged, "twice|published|fields|canonical")
    twice = data.replace(b"{", b'{"x": 1, "x": 2,', 1)
    if name in ("bundle.json", "golden/expected.json", "model_card.json"):
        refused(forge(bundle, tmp_path / "g", files={name: twice}), "'x' occurs twice")


def test_a_manifest_with_a_name_twice_is_refused(moved):
    path = moved / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b"{", b'{"run_id": "another",', 1))
    refused(moved, "bytes")


@pytest.mark.parametrize("name", ["bundle.json", "model_card.json"])
@pytest.mark.parametrize("tail", [b"{}", b"\0", b"\nPK"])
def test_data_behind_the_json_is_refused(bundle, tmp_path, name, tail):
    data = (bundle / name).read_bytes()
    refused(forge(bundle, tmp_path / "f", files={name: data + tail}), "JSON")


def test_another_encoding_of_bundle_json_is_refused(bundle, tmp_path):
    data = (bundle / "bundle.json").read_bytes()
    refused(forge(bundle, tmp_path / "f", files={"bundle.json": data + b"\n"}), "canonical")


def test_json_nested_beyond_the_stack_is_refused(bundle, tmp_path, moved):
    deep = b"[" * 200_000
    refused(forge(bundle, tmp_path / "f", files={"model_card.json": deep}), "JSON")
    (moved / "manifest.json").write_bytes(deep)
    refused(moved, "manifest")


@pytest.mark.parametrize("tail", [b"\0" * 8, pickle.dumps(1)])
def test_data_behind_the_weights_is_refused(bundle, tmp_path, tail):
    data = (bundle / "model.safetensors").read_bytes()
    refused(forge(bundle, tmp_path / "f", files={"model.safetensors": data + tail}), "safetensors")


def test_a_header_that_claims_more_than_there_is_is_refused(bundle, tmp_path):
    data = struct.pack("<Q", 1 << 60) + (bundle / "model.safetensors").read_bytes()[8:]
    refused(forge(bundle, tmp_path / "f", files={"model.safetensors": data}), "safetensors")


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(bundle, tmp_path, poison):
    refused(
        forge_state(bundle, tmp_path / "f", lambda s: s["fc.weight"].view(-1)[:1].fill_(poison)), "finite"
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.update(extra=state["fc.bias"].clone()),
        lambda state: state.pop("fc.bias"),
        lambda state: state.update({"fc.bias": state["fc.bias"][:1].clone()}),
        lambda state: state.update({"fc.bias": state["fc.bias"].double()}),
    ],
    ids=["a tensor more", "a tensor less", "another shape", "another type"],
)
def test_weights_that_do_not_fill_the_architecture_are_refused(bundle, tmp_path, change):
    refused(forge_state(bundle, tmp_path / "f", change), "test_resnet|float64")


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.update(architecture="hf-hub:somebody/model"),
        lambda c: c.update(architecture="local-dir:/tmp"),
        lambda c: c.update(architecture="no_such_model"),
        lambda c: c.update(architecture=["test_resnet"]),
        lambda c: c.update(model_args={"checkpoint_path": "/tmp/evil.pth"}),
        lambda c: c.update(model_args={"pretrained": True}),
        lambda c: c["pretrained_cfg"].update(url="https://example.org/evil.pth"),
        lambda c: c["pretrained_cfg"].update(file="/tmp/evil.pth"),
        lambda c: c["pretrained_cfg"].update(custom_load=True),
        lambda c: c.update(label_names=["Roadwork", "None"]),
        lambda c: c.update(num_features=1),
        lambda c: c.update(auto_map={"AutoModel": "evil.Model"}),
    ],
)
def test_a_config_that_leads_elsewhere_is_refused(bundle, tmp_path, change):
    """The whole folder agrees with it, so that the settings themselves are what is refused."""
    refused(forge_part(bundle, tmp_path / "f", "config.json", change), r"config\.json|architecture")


@pytest.mark.parametrize("name", ["config.json", "policy/thresholds.json", "splits.json", "evaluation.json"])
def test_the_forged_part_is_otherwise_sound(bundle, tmp_path, name):
    load_bundle(forge_part(bundle, tmp_path / "f", name, lambda _: None))


def own(report):
    """The report of the policy in the bundle."""
    return report["policies"]["threshold"]


@pytest.mark.parametrize(
    ("name", "change", "match"),
    [
        (
            "policy/thresholds.json",
            lambda c: c["fitted_on"].update(phase1_checkpoint="e" * 64),
            "fitted on this",
        ),
        (
            "policy/thresholds.json",
            lambda c: c["fitted_on"].update(val_calib_logits="e" * 64),
            "fitted on this",
        ),
        ("policy/thresholds.json", lambda c: c.update(note="other"), "evaluation of the policy"),
        ("policy/thresholds.json", lambda c: c.update(schema_version=2), "schema version"),
        ("evaluation.json", lambda c: c["counts"].update(n=5), "val_test"),
        ("evaluation.json", lambda c: own(c)["metrics"].pop("mcc"), "mcc"),
        ("evaluation.json", lambda c: own(c)["metrics"].update(tp=0, fp=0), "not what its report counts"),
        ("evaluation.json", lambda c: own(c)["coverage"].update(answered=0), "called so"),
        ("evaluation.json", lambda c: c["policies"].update(scrc=own(c)), "each under its type"),
        ("evaluation.json", lambda c: c["policies"].pop("threshold"), "optimism"),
        ("evaluation.json", lambda c: c.update(schema_version=4), "schema_version"),
        ("splits.json", lambda c: c["roles"].pop("val_test"), "splits"),
        ("splits.json", lambda c: c["roles"].update(val_test=["a"]), "val_test"),
    ],
)
def test_a_part_that_contradicts_the_others_is_refused(bundle, tmp_path, name, change, match):
    """Its step's manifest was forged with it; only what it says gives it away."""
    refused(forge_part(bundle, tmp_path / "f", name, change), match)


def test_a_data_version_that_the_files_do_not_have_is_refused(moved):
    manifest = StepManifest.load(moved / "manifest.json")
    (moved / "manifest.json").write_bytes(manifest.model_copy(update={"data_version": "e" * 64}).to_bytes())
    refused(moved, "data version")


def test_a_lineage_of_another_data_version_than_was_read_is_refused(moved):
    top = StepManifest.load(moved / "manifest.json")
    given = top.input_artifacts["images"].model_copy(update={"data_version": "e" * 64})
    changed = top.model_copy(update={"input_artifacts": {**top.input_artifacts, "images": given}})
    (moved / "manifest.json").write_bytes(changed.to_bytes())
    refused(moved, "images of data version")


def test_preprocessing_that_bundle_json_does_not_name_is_refused(bundle, tmp_path):
    forged = forge_json(
        bundle, tmp_path / "f", "bundle.json", lambda record: record["preprocessing"].update(crop_pct=0.5)
    )
    refused(forged, "preprocessing")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda r: r["policy"].update(type="gate"), "policy"),
        (lambda r: r["policy"].update(path="policy/other.json"), "policy"),
        (lambda r: r["policy"].update(path="../thresholds.json"), "policy"),
        (lambda r: r["operating_point"].update(threshold=0.9999), "operating point"),
        (lambda r: r["operating_point"].update(folded=False), "folded"),
        (lambda r: r["operating_point"].update(probability=0.4), "probability"),
        (lambda r: r.update(degenerate=["it says so"]), "degenerate"),
        (lambda r: r.update(label_names=["Roadwork", "None"]), "labels"),
        (lambda r: r["checksums"].pop("README.md"), "checksums"),
        (lambda r: r["checksums"].update({"README.md": "0" * 64}), "checksums"),
        (lambda r: r["checksums"].update({"manifest.json": "0" * 64}), "checksums"),
        (lambda r: r.update(more=1), "more"),
    ],
)
def test_a_bundle_json_that_says_something_else_is_refused(bundle, tmp_path, change, match):
    refused(forge_json(bundle, tmp_path / "f", "bundle.json", change), match)


@pytest.mark.parametrize("name", ["policy/thresholds.json", "splits.json", "evaluation.json", "config.json"])
def test_a_part_that_its_step_did_not_publish_is_refused(bundle, tmp_path, name):
    data = (bundle / name).read_bytes()
    other = json_bytes({**json.loads(data), "zzz": 0})
    refused(forge(bundle, tmp_path / "f", files={name: other}), "published it|writes it")


def test_a_bundle_without_a_policy_is_refused(bundle, tmp_path):
    forged = forge(bundle, tmp_path / "f", files={"policy/thresholds.json": None})
    refused(forged, "the folder 'policy'")
    (forged / "policy").rmdir()
    refused(forged, "exactly one policy")


@pytest.mark.parametrize("kind", ["gate", "scrc"])
def test_a_second_policy_is_refused(chain, bundle, tmp_path, kind):
    """It is the very policy of this chain, and a file that a bundle may hold, but not besides the first."""
    policy = POLICIES[kind]
    data = chain.upstream[policy.step].read_bytes(policy.file)
    refused(forge(bundle, tmp_path / "f", files={policy.path: data}), "exactly one policy")


def test_an_exchanged_manifest_in_the_lineage_is_refused(bundle, tmp_path):
    path = bundle / "lineage/backbone.json"
    other = StepManifest.load(path).model_copy(update={"seed": 99}).to_bytes()
    refused(forge(bundle, tmp_path / "f", files={"lineage/backbone.json": other}), "manifest of backbone")


def test_a_manifest_missing_from_the_lineage_is_refused(bundle, tmp_path):
    forged = forge(bundle, tmp_path / "f", files={"lineage/backbone.json": None})
    refused(forged, "every input")
    (forged / "lineage/private/backbone.json").unlink()
    pin_lineage(forged)
    refused(forged, "backbone")


@pytest.mark.parametrize(
    ("step", "change", "match"),
    [
        ("val_calib_logits", {"data_version": "e" * 64}, "thresholds was made from another val_calib_logits"),
        ("phase1_checkpoint", {"data_version": "e" * 64}, "val_calib_logits was made from another phase1"),
        ("splits", {"data_version": "e" * 64}, "phase1_checkpoint was made from another splits"),
        ("thresholds", {"input_artifacts": {}}, "does not say which"),
        ("splits", {"step_name": "other"}, "one of other"),
        ("phase1_checkpoint", {"roles": ["train", "val_test"]}, "read val_test"),
    ],
)
def test_a_broken_chain_is_refused_though_every_manifest_is_pinned(bundle, tmp_path, step, change, match):
    forged = copy(bundle, tmp_path / "f")
    path = forged / f"lineage/{step}.json"
    path.write_bytes(StepManifest.load(path).model_copy(update=change).to_bytes())
    pin_lineage(forged)
    refused(forged, match)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda e: e["pictures"][0].update(name="nowhere.jpg"), "not in val_test"),
        (lambda e: e["pictures"][0].update(file="../../secret.jpg"), "lists"),
        (lambda e: e["pictures"].pop(), "lists"),
        (lambda e: e["pictures"].clear(), "lists"),
        (lambda e: e.update(tolerance=1e9), "tolerance"),
        (lambda e: e["pictures"][0].update(sha256="0" * 64), "not the image"),
    ],
)
def test_golden_images_that_are_not_those_are_refused(bundle, tmp_path, change, match):
    refused(forge_json(bundle, tmp_path / "f", "golden/expected.json", change), match)


def test_other_finite_weights_are_found_by_the_golden_images(bundle, tmp_path):
    forged = forge_state(bundle, tmp_path / "f", lambda state: state["fc.weight"].mul_(-1))
    load_bundle(forged)
    with pytest.raises(BundleError, match="golden"):
        verify_bundle(forged, deep=True)


def test_predictor_refuses_what_verify_refuses(moved):
    (moved / "README.md").write_text("Trust me.")
    with pytest.raises(BundleError, match="README"):
        Predictor.load(moved)
