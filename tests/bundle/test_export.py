"""The content of an export, and every reason not to export."""

import json
import platform
import re
import socket
from dataclasses import replace

import pytest
from pydantic import ValidationError

from streetvision_core.bundle import BundleConfig, Evaluation, verify_bundle
from streetvision_core.bundle.card import DESCRIPTION
from streetvision_core.bundle.export import _require_relative
from streetvision_core.errors import BundleError, ConfigError
from streetvision_core.io import Artifact, bytes_digest
from tests.bundle.chain import RUN, Chain, decide_and_evaluate, names_in, publish, read_thresholds

OTHER_RUN = "20261122T101500-ffffffff"


@pytest.fixture
def branch(chain):
    """The same chain, on which a test may publish other steps in another run."""
    return Chain(chain.store, dict(chain.upstream))


@pytest.fixture
def own_store(chain, tmp_path):
    return type(chain.store)(tmp_path / "store")


def republish(branch, own_store, step, artifact, *, inputs=None, **options):
    """Put another artifact in a step's place, made from what `inputs` says (as before, if not given)."""
    published = branch.upstream[step]
    old = published.manifest
    given = {name: branch.upstream[name] for name in old.input_artifacts} | (inputs or {})
    options = {"inputs": given, "config": published.config(), "run_id": OTHER_RUN, **options}
    branch.upstream[step] = publish(own_store, step, artifact, **options)


def as_artifact(published):
    """The files of a published artifact as bytes."""
    return Artifact({name: published.read_bytes(name) for name in published.manifest.output_artifacts})


def other_weights(published, scale):
    """The checkpoint with its last layer scaled: another checkpoint."""
    from safetensors.torch import load, save

    state = load(published.read_bytes("model_best.safetensors"))
    changed = {name: tensor * scale if name.startswith("fc.") else tensor for name, tensor in state.items()}
    files = dict(as_artifact(published).files)
    return Artifact({**files, "model_best.safetensors": save(changed)})


def refused(chain, tmp_path, match, **options):
    with pytest.raises(BundleError) as caught:
        chain.export(tmp_path / "out", **options)
    assert re.search(match, f"{caught.value.expected}, but found {caught.value.found}"), caught.value


def test_the_layout_is_that_of_the_design(chain, bundle):
    names = names_in(bundle)
    golden = [name for name in names if name.startswith("golden/")]
    assert len(golden) == 9
    sides = sorted(f"lineage/private/{step}.json" for step in chain.upstream)
    manifests = [f"lineage/{step}.json" for step in chain.upstream]
    assert [name for name in names if name not in golden] == sorted([
        "LICENSE", "README.md", "bundle.json", "conditions.json", "config.json", "drift.json",
        "evaluation.json", *manifests, *sides, "lineage/provenance.json", "manifest.json",
        "model.safetensors", "model_card.json", "policy/thresholds.json", "private.json", "release.json",
        "splits.json", "tensors.json",
    ])  # fmt: skip


def test_lineage_policy_splits_and_report_are_byte_for_byte_what_was_published(chain, bundle):
    for step, published in chain.upstream.items():
        assert bytes_digest((bundle / f"lineage/{step}.json").read_bytes()) == published.manifest_sha256
    for name, step, file in [
        ("policy/thresholds.json", "thresholds", "thresholds.json"),
        ("splits.json", "splits", "splits.json"),
        ("evaluation.json", "evaluation", "evaluation.json"),
        ("config.json", "phase1_checkpoint", "config.json"),
        ("tensors.json", "phase1_checkpoint", "tensors.json"),
        ("drift.json", "val_calib_logits", "drift.json"),
    ]:
        assert (bundle / name).read_bytes() == chain.upstream[step].read_bytes(file)


def test_golden_images_are_pixels_of_val_test_of_both_classes(chain, bundle):
    expected = json.loads((bundle / "golden/expected.json").read_bytes())
    labels = {image.name: image.label for image in chain.index.pictures}
    assert {image["label"] for image in expected["pictures"]} == {0, 1}
    for image in expected["pictures"]:
        assert image["name"] in chain.splits.roles["val_test"]
        assert bytes_digest((bundle / image["file"]).read_bytes()) == image["sha256"]
        assert image["label"] == labels[image["name"]]


def test_the_same_chain_exported_twice_has_one_digest(chain, tmp_path):
    first, second = chain.export(tmp_path / "a"), chain.export(tmp_path / "other" / "b")
    assert first.digest == second.digest
    assert {name: bytes(data) for name, data in first.files.items() if isinstance(data, bytes)} == {
        name: bytes(data) for name, data in second.files.items() if isinstance(data, bytes)
    }


def test_republished_upstreams_of_the_same_content_give_the_same_digest(chain, branch, own_store, tmp_path):
    """Another run, other times, the same content: the lineage differs and the data version does not."""
    for step in ("images", "splits", "thresholds"):
        republish(branch, own_store, step, as_artifact(branch.upstream[step]))
    again = branch.export(tmp_path / "again")
    before = chain.export(tmp_path / "before")
    assert again.digest == before.digest
    assert again.files["lineage/splits.json"] != before.files["lineage/splits.json"]


def test_content_names_no_machine_no_run_no_time_and_no_absolute_path(chain, bundle):
    images = chain.upstream["images"]
    traces = [
        str(chain.store.root), images.config()["folder"]["path"], "/tmp/", "/home/", RUN, "0a1b2c3d-0000",
        f'"{socket.gethostname()}"', platform.platform(), images.manifest.started_at[:10],
    ]  # fmt: skip
    for name in names_in(bundle):
        # Images are the bytes that somebody gave; what they hold is theirs.
        beside = ("lineage/", "manifest.json", "private.json")
        if name.endswith((".json", ".md", "LICENSE")) and not name.startswith(beside):
            data = (bundle / name).read_bytes()
            assert [trace for trace in traces if trace.encode() in data] == [], name


# A well-known address of tests.
HOTKEY = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"


def test_the_model_card_has_the_fields_that_the_field_asks_for(chain, tmp_path):
    artifact = chain.export(
        tmp_path / "out", model_name="mine", version="1.2.3", submitted_by=HOTKEY,
        submission_time="2026-11-21T09:30:00Z",
    )  # fmt: skip
    card = json.loads(artifact.files["model_card.json"])
    assert {key: card[key] for key in list(card) if key not in {"metrics", "degenerate", "license"}} == {
        "model_name": "mine", "description": DESCRIPTION, "version": "1.2.3", "submitted_by": HOTKEY,
        "submission_time": "2026-11-21T09:30:00Z",
    }  # fmt: skip
    assert card["license"] == "MIT"
    assert b"# mine 1.2.3" in artifact.files["README.md"]


@pytest.mark.parametrize(
    "settings",
    [
        {"policy": "guess"},
        {"version": "1.0"},
        {"version": "\u0663.1.1"},
        {"submission_time": "yesterday"},
        {"submission_time": "1795253400000"},
        {"submission_time": "20261121"},
        {"submitted_by": "5Hot"},
        {"submitted_by": HOTKEY.replace("t", "u")},
        {"submitted_by": "15oF4uVJwmo4TdGW7VfQxNLavjCXviqxT9S1MgbjMNHr6Sp5"},
        {"submitted_by": "0x" + "ab" * 32},
        {"datasets": ["https://huggingface.co/datasets/a/b"]},
        {"datasets": [f"me/{'a' * 94}"]},
        {"datasets": ["me/streets"] * 501},
        {"golden": -1},
        {"golden": 65},
        {"other": 1},
    ],
)
def test_settings_that_mean_nothing_are_refused(settings):
    with pytest.raises((ConfigError, ValidationError)):
        BundleConfig(**settings)


def test_a_missing_step_is_named(chain, tmp_path):
    for step in chain.upstream.keys() - {"evaluation"}:
        rest = {name: artifact for name, artifact in chain.upstream.items() if name != step}
        refused(chain, tmp_path, f"(no {step}|made from {step}, whose manifest is missing)", upstream=rest)


def test_a_step_that_nothing_here_was_made_from_is_refused(chain, tmp_path):
    rest = {name: artifact for name, artifact in chain.upstream.items() if name != "evaluation"}
    refused(chain, tmp_path, "nothing here was made from (gate|scrc)", upstream=rest)


def test_missing_policy_files_are_named(chain, branch, own_store, tmp_path):
    sweep = chain.upstream["thresholds"].read_bytes("threshold_sweep.csv")
    republish(branch, own_store, "thresholds", Artifact({"threshold_sweep.csv": sweep}))
    refused(branch, tmp_path, r"thresholds\.json")


@pytest.mark.parametrize(
    ("step", "consumers"),
    [
        ("phase1_checkpoint", ("val_calib_logits", "thresholds", "gate", "scrc", "evaluation")),
        ("val_calib_logits", ("thresholds", "scrc")),
        ("thresholds", ("evaluation",)),
        ("gate", ("evaluation",)),
        ("scrc", ("evaluation",)),
        ("splits", ("phase1_checkpoint", "val_calib_logits", "gate", "evaluation")),
        ("images", ("splits", "phase1_checkpoint", "val_calib_logits", "gate", "evaluation")),
        ("backbone", ("phase1_checkpoint",)),
    ],
)
def test_a_part_of_another_chain_is_refused_by_name(branch, own_store, tmp_path, step, consumers):
    """The step was published again with other content; who read the old one does not belong to it."""
    files = as_artifact(branch.upstream[step]).files
    republish(branch, own_store, step, Artifact({**files, "note.txt": b"other content"}))
    with pytest.raises(BundleError) as caught:
        branch.export(tmp_path / "out")
    for consumer in consumers:
        assert f"{consumer} was made from another {step}" in caught.value.found


def test_a_policy_that_only_claims_to_be_of_this_checkpoint_is_refused(branch, own_store, tmp_path):
    """The records are those of this chain; only the manifest says what it was really made from."""
    other = publish(
        own_store, "phase1_checkpoint", other_weights(branch.upstream["phase1_checkpoint"], 2.0), inputs={}
    )
    republish(
        branch, own_store, "thresholds", as_artifact(branch.upstream["thresholds"]),
        inputs={"phase1_checkpoint": other},
    )  # fmt: skip
    refused(branch, tmp_path, "thresholds was made from another phase1_checkpoint")


@pytest.mark.parametrize("step", ["phase1_checkpoint", "val_calib_logits"])
def test_a_policy_that_says_itself_it_is_of_another_chain_is_refused(branch, own_store, tmp_path, step):
    thresholds = read_thresholds(branch)
    fitted_on = thresholds.policy.fitted_on.model_copy(update={step: "e" * 64})
    changed = replace(thresholds, policy=thresholds.policy.model_copy(update={"fitted_on": fitted_on}))
    republish(branch, own_store, "thresholds", changed.to_artifact())
    republish(branch, own_store, "evaluation", as_artifact(branch.upstream["evaluation"]))
    refused(branch, tmp_path, f"fitted on this {step}")


def test_a_policy_that_is_another_when_fitted_again_is_refused(branch, own_store, tmp_path):
    thresholds = read_thresholds(branch)
    calib = thresholds.policy.val_calib.model_copy(update={"optimism": 0.123})
    changed = replace(thresholds, policy=thresholds.policy.model_copy(update={"val_calib": calib}))
    republish(branch, own_store, "thresholds", changed.to_artifact())
    republish(branch, own_store, "evaluation", as_artifact(branch.upstream["evaluation"]))
    refused(branch, tmp_path, "comes out the same when fitted again.*'optimism': 0.123")


def test_a_report_of_another_policy_is_refused(branch, own_store, tmp_path):
    evaluation = Evaluation.from_artifact(branch.upstream["evaluation"])
    own = evaluation.report.of("threshold")
    other = own.model_copy(update={"policy": own.policy.model_copy(update={"note": "another"})})
    policies = {**evaluation.report.policies, "threshold": other}
    changed = replace(evaluation, report=evaluation.report.model_copy(update={"policies": policies}))
    republish(branch, own_store, "evaluation", changed.to_artifact())
    refused(branch, tmp_path, "one of another policy")


def test_a_report_that_leaves_images_out_is_refused(branch, own_store, tmp_path):
    evaluation = Evaluation.from_artifact(branch.upstream["evaluation"])
    republish(
        branch, own_store, "evaluation", replace(evaluation, tested=evaluation.tested[1:]).to_artifact()
    )
    refused(branch, tmp_path, "all of val_test")


def test_a_report_that_the_model_does_not_reproduce_is_refused(branch, own_store, tmp_path):
    evaluation = Evaluation.from_artifact(branch.upstream["evaluation"])
    moved = tuple(replace(image, logit_none=image.logit_none + 0.1) for image in evaluation.tested)
    republish(branch, own_store, "evaluation", replace(evaluation, tested=moved).to_artifact())
    refused(branch, tmp_path, "this very model and policy")


def test_a_step_that_read_a_role_it_may_not_is_refused(branch, own_store, tmp_path):
    artifact = as_artifact(branch.upstream["val_calib_logits"])
    republish(branch, own_store, "val_calib_logits", artifact, roles=("val_calib", "val_test"))
    refused(branch, tmp_path, "val_calib_logits read val_test")


@pytest.fixture
def degenerate(branch, own_store):
    """A chain whose checkpoint gives every image the same logits."""
    from streetvision_core.inference.logits import predict_role
    from streetvision_core.training.checkpoint import Checkpoint

    old = branch.upstream["phase1_checkpoint"]
    republish(branch, own_store, "phase1_checkpoint", other_weights(old, 0.0))
    checkpoint = Checkpoint.from_artifact(branch.upstream["phase1_checkpoint"])
    names = branch.splits.roles["val_calib"]
    logits = predict_role(checkpoint, names, index=branch.index, images=branch.pictures("val_calib"))
    republish(branch, own_store, "val_calib_logits", logits.to_artifact())
    own = Chain(own_store, branch.upstream)
    decide_and_evaluate(own, run_id=OTHER_RUN)
    return own


def test_a_degenerate_policy_is_never_exported_silently(degenerate, tmp_path):
    refused(degenerate, tmp_path, r"(no|every) image of val_calib roadwork")


def test_a_degenerate_policy_that_is_allowed_is_called_so_everywhere(degenerate):
    bundle = degenerate.bundle(OTHER_RUN, allow_degenerate=True)
    for name in ("bundle.json", "model_card.json", "README.md"):
        assert "image of val_test roadwork" in (bundle / name).read_text()
    assert "DEGENERATE" in verify_bundle(bundle, deep=True).summary()


@pytest.mark.parametrize("name", ["/home/me/a.jpg", "C:\\pictures\\a.jpg", "../a.jpg"])
def test_names_that_tell_where_images_lie_are_refused(name):
    with pytest.raises(BundleError, match="relative"):
        _require_relative([name], role="val_test")
