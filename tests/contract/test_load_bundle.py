"""`load_bundle(bundle_path, output_dir)` and what the bundle says of itself."""

import json
import os
import shutil
from datetime import datetime

import pytest

from streetvision_core.bundle import Predictor, load_bundle, verify_bundle
from streetvision_core.errors import BundleError
from tests.bundle.chain import forge


def test_the_path_of_bundle_json_and_its_folder_give_the_same_verified_object(bundle):
    whole = load_bundle(bundle)
    for same in (
        load_bundle(bundle / "bundle.json", bundle),
        load_bundle(bundle_path=str(bundle / "bundle.json"), output_dir=str(bundle)),
        load_bundle(bundle / "bundle.json"),
        load_bundle(bundle, bundle),
    ):
        assert same.record == whole.record
        assert same.contents == whole.contents
    assert Predictor.load(bundle / "bundle.json", bundle).policy == whole.policy
    assert verify_bundle(bundle / "bundle.json").bundle.record == whole.record
    assert verify_bundle(bundle_path=bundle / "bundle.json", output_dir=bundle).bundle.record == whole.record


def test_a_bundle_json_that_lies_elsewhere_is_taken_with_the_folder_it_describes(bundle, tmp_path):
    shutil.copy(bundle / "bundle.json", tmp_path / "bundle.json")
    assert load_bundle(tmp_path / "bundle.json", bundle).record == load_bundle(bundle).record


def test_a_bundle_json_of_another_bundle_is_refused(bundle, tmp_path):
    other = tmp_path / "bundle.json"
    other.write_bytes((bundle / "bundle.json").read_bytes().replace(b'"Roadwork"', b'"roadworks"'))
    with pytest.raises(BundleError, match="another one"):
        load_bundle(other, bundle)
    with pytest.raises(BundleError, match="No such file"):
        load_bundle(tmp_path / "nowhere" / "bundle.json", bundle)


def test_a_bundle_json_of_another_name_is_taken_with_its_folder(bundle, tmp_path):
    shutil.copy(bundle / "bundle.json", tmp_path / "copy.json")
    assert load_bundle(tmp_path / "copy.json", bundle).record == load_bundle(bundle).record


def test_a_bundle_json_without_an_end_costs_nothing(bundle, tmp_path):
    (tmp_path / "zero").mkdir()
    (tmp_path / "zero/bundle.json").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "bundle.json")
    for path in (tmp_path / "zero/bundle.json", tmp_path / "bundle.json"):
        with pytest.raises(BundleError, match="not a regular file"):
            load_bundle(path, bundle)


def test_the_bundle_says_where_its_parts_lie_all_of_them_relative(bundle):
    record = json.loads((bundle / "bundle.json").read_bytes())
    loaded = load_bundle(bundle)
    for name in ("model_checkpoint", "policy_file", "splits_json"):
        assert record[name] == getattr(loaded, name)
        assert (bundle / record[name]).is_file()
        assert not record[name].startswith(("/", ".."))
    assert (record["backbone_id"], record["num_classes"]) == ("test_resnet", 2)
    assert (loaded.backbone_id, loaded.num_classes) == ("test_resnet", 2)
    assert datetime.fromisoformat(loaded.created_at).year >= 2026


@pytest.mark.parametrize("name", ["gate.json", "scrcparams.json"])
def test_exactly_one_policy_is_told_by_the_file_that_is_there(bundle, tmp_path, name):
    assert load_bundle(bundle).policy_file == "policy/thresholds.json"
    data = (bundle / "policy/thresholds.json").read_bytes()
    two = forge(bundle, tmp_path / "two", files={f"policy/{name}": data})
    with pytest.raises(BundleError, match="exactly one policy"):
        load_bundle(two)
    other = forge(bundle, tmp_path / "other", files={f"policy/{name}": data, "policy/thresholds.json": None})
    with pytest.raises(BundleError, match="exactly one policy"):
        load_bundle(other)
    none = forge(bundle, tmp_path / "none", files={"policy/thresholds.json": None})
    (none / "policy").rmdir()
    with pytest.raises(BundleError, match="exactly one policy"):
        load_bundle(none)
