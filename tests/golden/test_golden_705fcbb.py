"""What commit 705fcbb wrote is read, verified, listed and compared by every later version."""

import json

import pytest

from streetvision_core.bundle import Predictor, load_bundle
from streetvision_core.cli import main
from streetvision_core.data.balance import balance_roles, balance_warnings
from streetvision_core.data.groups import ungrouped_frames
from streetvision_core.data.index import ImageIndex
from streetvision_core.data.shortcuts import find_shortcuts
from streetvision_core.data.splits import Splits
from streetvision_core.history.verify import verify_everything
from streetvision_core.inference.logits import Logits
from streetvision_core.policies.gate import Gate
from streetvision_core.policies.scrc import Scrc
from streetvision_core.policies.scrc_fit import verify_scrc
from streetvision_core.policies.threshold import Thresholds, verify_thresholds
from streetvision_core.report.evaluation import Evaluation
from streetvision_core.report.recount import recount_problems
from streetvision_core.training.checkpoint import Checkpoint
from tests.history.made import copy_store
from tests.io.test_take_over import take_over

WHOLE = "20261128T213636-222e6284"
BUNDLES = {
    "threshold": WHOLE,
    "gate": "20261128T213802-a5e4ce29",
    "scrc": "20261128T213945-423185ac",
}


@pytest.fixture
def store(golden_705fcbb):
    return golden_705fcbb


def run(store, capsys, *words):
    code = main([*words[:1], "--store", str(store.root), *words[1:]])
    return code, capsys.readouterr().out


def test_every_artifact_and_pointer_is_whole(store):
    result = verify_everything(store)
    assert result.good, result.text()
    assert len(result.checked) == 12


def test_what_is_current_is_of_one_chain(store, capsys):
    code, text = run(store, capsys, "verify")
    assert code == 0, text


@pytest.mark.parametrize(("policy", "run_id"), BUNDLES.items())
def test_each_bundle_verifies_and_still_answers_as_it_did(store, capsys, policy, run_id):
    folder = store.directory(run_id, "bundle")
    assert load_bundle(folder).policy.type == policy
    assert main(["verify", "--deep", str(folder)]) == 0
    assert f"policy     {policy}" in capsys.readouterr().out
    answers = list(Predictor.load(folder).predict(sorted(folder.glob("golden/*.jpg"))))
    expected = json.loads((folder / "golden/expected.json").read_text())["pictures"]
    assert [answer.decision for answer in answers] == [image["decision"] for image in expected]


def test_every_record_is_read_and_comes_out_the_same_when_computed_again(store):
    checkpoint = Checkpoint.from_artifact(store.resolve("phase1_checkpoint"))
    logits = Logits.from_artifact(store.resolve("val_calib_logits"))
    splits = Splits.from_artifact(store.resolve("splits"))
    index = ImageIndex.from_artifact(store.resolve("images"))
    thresholds = Thresholds.from_artifact(store.resolve("thresholds"))
    assert verify_thresholds(thresholds, checkpoint.val_select, logits) == []
    assert verify_scrc(Scrc.from_artifact(store.resolve("scrc")), checkpoint.val_select, logits) == []
    assert Gate.from_artifact(store.resolve("gate")).policy.confidence_by == "margin"
    evaluation = Evaluation.from_artifact(store.resolve("evaluation"))
    assert recount_problems(evaluation, names=splits.roles["val_test"], index=index) == []


def test_it_is_listed(store, capsys):
    code, text = run(store, capsys, "runs", "--all")
    assert code == 0
    for run_id in BUNDLES.values():
        assert run_id in text
    code, text = run(store, capsys, "lineage", "bundle")
    assert code == 0
    assert "phase1_checkpoint" in text


def test_its_runs_are_compared(store, capsys):
    code, text = run(store, capsys, "diff", BUNDLES["threshold"], BUNDLES["gate"])
    assert code == 0
    assert "policy" in text


def test_nothing_of_it_would_be_collected_while_it_is_new(store, capsys):
    code, text = run(store, capsys, "gc", "--json")
    assert code == 0
    assert json.loads(text)["artifacts"] == []


def test_its_manifests_name_the_machine_themselves(store):
    images = store.resolve("images")
    assert (images.manifest.schema_version, images.manifest.hostname) == (1, "golden")
    assert images.private() is None
    assert images.config() == images.manifest.config


def test_what_it_published_is_taken_over_as_it_was(golden_705fcbb, tmp_path):
    store = copy_store(golden_705fcbb, tmp_path / "store")
    taken = take_over(store, store.resolve("splits"), run_id="20261129T000000-00000001")
    assert (taken.manifest.schema_version, taken.manifest.hostname) == (2, "golden")
    assert taken.problems() == []


def test_what_it_did_not_record_is_no_reason_for_a_warning(store):
    """Its index has no format, brightness, 256-bit hashes or roles: absent is not suspect."""
    index = ImageIndex.from_artifact(store.resolve("images"))
    assert {(image.format, image.brightness, image.phash256, image.role) for image in index.pictures} == {
        ("", None, "", None)
    }
    splits = Splits.from_artifact(store.resolve("splits"))
    assert find_shortcuts(index) == ()
    assert ungrouped_frames(index.pictures) is None
    assert balance_warnings(balance_roles(index, splits), splits.config.shares) == []
    assert splits.groups_known
    assert "in 112 groups; 0 put aside" in index.summary
