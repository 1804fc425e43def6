"""A bundle says under which conditions it was tuned, ships images as they arrive there, and proves both."""

import json

import numpy as np
import pytest

from streetvision_core.bundle import Evaluation, Predictor, load_bundle, verify_bundle
from streetvision_core.bundle.verify import moved_bundle_problems
from streetvision_core.data.conditions import Conditions, ConditionsConfig
from streetvision_core.data.decoding.decode import decode
from streetvision_core.errors import BundleError
from streetvision_core.inference.logits import predict_role
from streetvision_core.io import ArtifactStore
from tests.bundle.chain import SEEN, Chain, checkpoint_of, decide_and_evaluate, forge
from tests.bundle.test_export import as_artifact

DARK = ConditionsConfig(
    profile={
        "kind": "own", "name": "tunnel", "size": 40,
        "levels": [{"name": "dark", "operations": [{"gain": [0.5]}]}, {"name": "plain"}],
    }
).conditions()  # fmt: skip
RUN = "20261121T093006-00000006"


@pytest.fixture(scope="module")
def tuned(chain, tmp_path_factory):
    """The same weights, said to be trained under conditions, and everything after them made under these."""
    store = ArtifactStore(tmp_path_factory.mktemp("tuned") / "store")
    own = Chain(store, {**chain.upstream})
    own.publish("conditions", DARK.to_artifact(), inputs=(), run_id=RUN)
    same = as_artifact(chain.upstream["phase1_checkpoint"])
    own.publish("phase1_checkpoint", same, inputs=(*SEEN, "backbone"), run_id=RUN)
    checkpoint = checkpoint_of(own)
    calib = own.splits.roles["val_calib"]
    logits = predict_role(checkpoint, calib, index=own.index, images=own.pictures("val_calib"))
    own.publish("val_calib_logits", logits.to_artifact(), inputs=(*SEEN, "phase1_checkpoint"), run_id=RUN)
    decide_and_evaluate(own, run_id=RUN)
    return own


@pytest.fixture(scope="module")
def dark_bundle(tuned):
    return tuned.bundle(RUN)


def test_the_bundle_names_its_conditions_everywhere(dark_bundle, bundle):
    assert load_bundle(dark_bundle).conditions == DARK
    assert verify_bundle(dark_bundle, deep=True).bundle.evaluation.conditions.tuned
    text = " ".join((dark_bundle / "README.md").read_text().split())
    assert "tuned under the conditions tunnel of 2026-11-28: dark, plain" in text
    assert "were fitted under tunnel of 2026-11-28: dark, plain and hold there" in text
    assert load_bundle(bundle).conditions == ConditionsConfig().conditions()
    plain = " ".join((bundle / "README.md").read_text().split())
    assert "tuned under the conditions" not in plain
    assert "promise nothing at the other levels" in plain


def test_golden_images_are_as_they_arrive_in_use(tuned, dark_bundle):
    expected = json.loads((dark_bundle / "golden/expected.json").read_text())["pictures"]
    digests = {image.name: image.sha256 for image in tuned.index.pictures}
    reader = tuned.pictures("val_test")
    for image in expected:
        shipped = np.asarray(decode((dark_bundle / image["file"]).read_bytes())).astype(float)
        seen = np.asarray(DARK.see(decode(reader.read(image["name"])), digests[image["name"]])).astype(float)
        assert shipped.shape == seen.shape
        assert np.abs(shipped - seen).mean() < 4  # it was encoded anew
    answers = Predictor.load(dark_bundle).predict(dark_bundle / image["file"] for image in expected)
    assert [answer.decision for answer in answers] == [image["decision"] for image in expected]


def test_the_moved_bundle_decides_as_reported_under_its_conditions_alone(tuned, chain, dark_bundle):
    report = Evaluation.from_artifact(tuned.upstream["evaluation"])
    assert moved_bundle_problems(dark_bundle, evaluation=report, images=tuned.pictures("val_test")) == []
    assert moved_bundle_problems(dark_bundle, evaluation=report, images=chain.pictures("val_test"))


def test_other_conditions_in_a_bundle_are_refused(dark_bundle, tmp_path):
    other = DARK.model_copy(update={"seed": 7}).to_artifact().files["conditions.json"]
    for number, forged in enumerate((other, None)):
        target = forge(dark_bundle, tmp_path / str(number), files={"conditions.json": forged})
        with pytest.raises(BundleError, match=r"conditions\.json as the step conditions published it"):
            load_bundle(target)


def test_hostile_conditions_in_a_bundle_are_refused_before_they_are_used(tmp_path):
    from streetvision_core.io import json_bytes
    from streetvision_core.io.records import read_record

    record = DARK.model_dump(mode="json")
    record["profile"]["size"] = 10**9
    with pytest.raises(BundleError, match=r"profile\.size"):
        read_record(Conditions, json_bytes(record), where=str(tmp_path))


def test_runs_under_other_conditions_are_not_compared(tuned, chain):
    from streetvision_core.history.paired import _drawn_under

    under, plain = (_drawn_under(branch.upstream["evaluation"]) for branch in (tuned, chain))
    assert plain is None
    assert under == tuned.upstream["conditions"].manifest.data_version
