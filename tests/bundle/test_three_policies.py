"""A bundle ships one of three policies, and keeps what that one promises wherever it is taken."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from streetvision_core.bundle import (
    Evaluation,
    Predictor,
    agreement,
    decision_problems,
    load_bundle,
    verify_bundle,
)
from streetvision_core.bundle.layout import CARD
from streetvision_core.bundle.verify import moved_bundle_problems
from streetvision_core.cli import main
from streetvision_core.errors import BundleError
from streetvision_core.escape import PARAGRAPH, for_markdown
from streetvision_core.graph import POLICIES
from streetvision_core.inference.predictor import ImageClassifier
from streetvision_core.io.tensors import read_tensors
from streetvision_core.policies import registry
from streetvision_core.policies.config import RecordedGate, RecordedScrc
from streetvision_core.policies.gate import Gate, GatePolicy
from streetvision_core.policies.gate_fit import fit_gate, measure_gate
from streetvision_core.policies.gate_head import FIRST_INPUTS, ErrorOdds, GateHead
from streetvision_core.policies.registry import published_policies
from streetvision_core.policies.scrc import Scrc
from tests.bundle.chain import Chain, certify, checkpoint_of, copy, evaluate_again, names_in
from tests.bundle.forging import forge_part, refused
from tests.bundle.made import draw

RUNS = {
    "threshold": "20261121T093001-00000001",
    "gate": "20261121T093002-00000002",
    "scrc": "20261121T093003-00000003",
    "learned": "20261121T093004-00000004",
}
OTHER_RUN = "20261122T101500-ffffffff"
# No 18 images certify one error in a thousand.
INFEASIBLE = RecordedScrc(alpha=0.001, delta=0.2)


EXTRAS = ("features", "disagreement", "sharpness", "brightness")


def learn_a_gate(chain):
    """Fit a head to drawn errors; return it as it is learned now, and as an older version learned it.

    The operating point is unlike the threshold's, so that an extra in the wrong units shows, and half of the
    images of val_test are deferred.
    """
    pictures = chain.pictures("val_test")
    data = [pictures.read(name) for name in chain.splits.roles["val_test"]]
    classifier = ImageClassifier(checkpoint_of(chain).load_model(), config=checkpoint_of(chain).config)
    ((_, real),) = classifier.measure(data, extras=EXTRAS)
    random, width = np.random.default_rng(0), real.extras["features"].shape[1]
    select, wrong = draw(5, 400), random.random(400) < 0.2
    tricked = replace(select, labels=np.where(wrong, 1 - select.labels, select.labels))
    training = random.normal(real.extras["features"].mean(), 1, (400, width)).astype(np.float32)
    features = training + random.normal(0, 2, (400, width)).astype(np.float32) * wrong[:, None]
    version = chain.upstream["phase1_checkpoint"].manifest.data_version
    fitted = fit_gate(
        tricked, checkpoint_version=version, config=RecordedGate(resamples=200),
        measured=measure_gate(training, select.labels, features),
    ).policy  # fmt: skip
    odds = ErrorOdds(
        inputs=FIRST_INPUTS,
        mean=(*fitted.head.odds.mean, 0.5, float(real.extras["sharpness"].mean()), 0.5),
        scale=(*fitted.head.odds.scale, 0.5, 0.5, 0.2),
        weights=(*fitted.head.odds.weights, 2.0, 0.2, 0.2),
        intercept=fitted.head.odds.intercept,
    )
    older = GateHead(reference=fitted.head.reference, odds=odds)
    return [defer_half(fitted.model_copy(update={"head": head}), real) for head in (fitted.head, older)]


def defer_half(policy, real):
    point = policy.point.model_copy(update={"temperature": 2.5, "threshold": 0.45})
    moved = policy.model_copy(update={"point": point})
    sure = np.sort(moved.confidence(point.fold(real.logits), real.extras))
    middle = len(sure) // 2
    bound = float(sure[middle - 1] + sure[middle]) / 2
    return GatePolicy.from_json(moved.model_copy(update={"bound": bound}).model_dump(mode="json"), where="")


@pytest.fixture(scope="module")
def learned(chain, tmp_path_factory):
    """The chain with a gate of an older version, whose head needs all extras."""
    own = Chain(type(chain.store)(tmp_path_factory.mktemp("learned") / "store"), dict(chain.upstream))
    _, policy = learn_a_gate(chain)
    own.publish("gate", Gate(policy).to_artifact(), inputs=("images", "splits", "phase1_checkpoint"))
    evaluate_again(own)
    return own


@pytest.fixture(scope="module", params=["gate", "scrc", "learned"])
def shipped(request, chain):
    """A chain, the kind of policy, and the bundle that ships it."""
    kind = {"learned": "gate"}.get(request.param, request.param)
    if request.param != "learned":
        yield chain, kind, chain.bundle(RUNS[kind], policy=kind)
        return
    own = request.getfixturevalue("learned")
    with pytest.MonkeyPatch.context() as patched:
        # It was learned from drawn logits, because no val_select of this size has 30 errors.
        patched.setitem(registry._KINDS, "gate", replace(registry._KINDS["gate"], refit=lambda *_: []))
        patched.setattr(agreement, "EQUAL", [pair for pair in agreement.EQUAL if "gate" not in pair[0]])
        yield own, kind, own.bundle(RUNS[request.param], policy=kind)


@pytest.fixture
def branch(chain, tmp_path):
    return Chain(type(chain.store)(tmp_path / "store"), dict(chain.upstream))


def evaluation_of(chain):
    return Evaluation.from_artifact(chain.upstream["evaluation"])


def test_a_moved_bundle_verifies_deeply_and_reproduces_the_report(shipped, tmp_path):
    own, kind, bundle = shipped
    moved = copy(bundle, tmp_path / "elsewhere")
    verification = verify_bundle(moved, deep=True)
    assert verification.golden == 8
    assert verification.bundle.policy == published_policies(own.upstream)[kind]
    loaded = Predictor.load(moved)
    evaluation, pictures = evaluation_of(own), own.pictures("val_test")
    assert decision_problems(loaded, evaluation, images=pictures) == []
    assert moved_bundle_problems(bundle, evaluation=evaluation, images=pictures) == []


def test_it_answers_some_images_and_defers_others_as_the_report_says(shipped):
    own, kind, bundle = shipped
    pictures, tested = own.pictures("val_test"), evaluation_of(own).tested
    answers = list(Predictor.load(bundle).predict(pictures.read(image.name) for image in tested))
    assert [answer.decision for answer in answers] == [image.decisions[kind] for image in tested]
    assert {"defer"} < {answer.decision for answer in answers}
    for answer in answers:
        assert answer.decision in ("defer", "roadwork" if answer.probability > 0.5 else "none")


def test_exactly_one_policy_lies_in_it_byte_for_byte_as_it_was_published(shipped):
    own, kind, bundle = shipped
    policy = POLICIES[kind]
    assert [name for name in names_in(bundle) if name.startswith("policy/")] == [policy.path]
    assert (bundle / policy.path).read_bytes() == own.upstream[policy.step].read_bytes(policy.file)
    assert {name for name in names_in(bundle) if name.startswith("lineage/")} == {
        "lineage/provenance.json",
        *(f"lineage/{place}{step}.json" for step in own.upstream for place in ("", "private/")),
    }


def test_card_readme_and_summary_tell_of_the_policy_that_is_shipped(shipped):
    own, kind, bundle = shipped
    report = evaluation_of(own).report.of(kind)
    card = json.loads((bundle / "model_card.json").read_bytes())
    assert card["metrics"]["coverage"] == report.coverage.share
    assert card["metrics"]["mcc"] == report.metrics["mcc"]
    readme = " ".join((bundle / "README.md").read_text().split())
    assert for_markdown(report.policy.promise(), limit=PARAGRAPH) in readme
    assert f"it answers {report.coverage.answered}, which is" in readme
    answered = report.metrics["tp"] + report.metrics["fn"]
    assert f"Of 6 images with roadwork it answers {answered} ({answered / 6:.1%}) and defers" in readme
    assert "defers to a person. Only `streetvision` and `streetvision_core` do that" in readme
    summary = verify_bundle(bundle).summary()
    assert report.policy.promise() in " ".join(summary.split())
    assert f"{report.coverage.answered} of 12 images answered" in summary


def test_a_bundle_of_the_threshold_policy_says_nothing_of_deferring(bundle):
    assert "defers" not in (bundle / "README.md").read_text()


def test_the_readme_of_scrc_holds_the_guarantee_in_words_with_its_conditions(chain, scrc_bundle):
    readme = " ".join((scrc_bundle / "README.md").read_text().split())
    for words in (
        "With probability at least 80", "at most 40", "an image drawn from a randomly drawn group, where",
        "Conditions: new images come as those of val_calib did",
        "A change of camera, place, season, share of roadwork or preprocessing voids it.",
    ):  # fmt: skip
        assert words in readme
    assert published_policies(chain.upstream)["scrc"].guarantee in readme


def test_the_command_line_says_defer(chain, scrc_bundle, capsys):
    pictures = sorted(map(str, (scrc_bundle / "golden").glob("0*")))
    assert main(["predict", str(scrc_bundle), *pictures]) == 0
    decisions = [json.loads(line)["decision"] for line in capsys.readouterr().out.splitlines()]
    expected = json.loads((scrc_bundle / "golden/expected.json").read_bytes())["pictures"]
    assert decisions == [image["decision"] for image in expected]
    assert "defer" in decisions


def test_scrc_decides_as_it_was_certified_on_the_logits_of_the_checkpoint(chain, scrc_bundle):
    """The folded weights accept m of the very units that were counted, and k of them wrongly."""
    from streetvision_core.eval.risk_control import one_per_group

    policy = load_bundle(scrc_bundle).policy
    (certificate,) = policy.certificates
    calib = chain.upstream["val_calib_logits"]
    names, groups = calib.read_json("ids.json"), calib.read_json("groups.json")
    labels = read_tensors(calib.read_bytes("logits.safetensors"))["labels"]
    pictures, units = chain.pictures("val_calib"), one_per_group(groups, seed=policy.chosen_by.seed)
    answers = list(Predictor.load(scrc_bundle).predict(pictures.read(names[unit]) for unit in units))
    accepted = [number for number, answer in enumerate(answers) if answer.decision != "defer"]
    wrong = [
        number for number in accepted
        if (answers[number].decision == "roadwork") != bool(labels[units[number]])
    ]  # fmt: skip
    assert (certificate.n, certificate.m, certificate.k) == (len(units), len(accepted), len(wrong))


@pytest.mark.parametrize("older", [False, True])
def test_a_learned_gate_is_told_the_extras_of_the_checkpoint_whatever_is_folded_in(learned, older):
    """The oracle measures the checkpoint as it was trained: neither temperature nor threshold are in it."""
    from streetvision_core.data.decoding.decode import decode
    from streetvision_core.inference.predict import measure_pixels
    from streetvision_core.models.preprocessing import eval_transform

    checkpoint = checkpoint_of(learned)
    transform = eval_transform(checkpoint.config["pretrained_cfg"])
    pictures, names = learned.pictures("val_test"), learned.splits.roles["val_test"]
    pixels = [transform.pixels(decode(pictures.read(name))) for name in names]
    policy = learn_a_gate(learned)[older]
    assert policy.extras == (EXTRAS if older else ("features",))
    (plain,) = measure_pixels(checkpoint.load_model(), pixels, transform, extras=policy.extras)
    predictor = Predictor.of_checkpoint(checkpoint, policy)
    ((_, measured),) = predictor.measure(map(pictures.read, names), extras=policy.extras)
    assert set(measured.extras) == set(policy.extras)
    for name in policy.extras:
        np.testing.assert_allclose(measured.extras[name], plain.extras[name], rtol=1e-3, atol=1e-4)
    folded = policy.point.fold(plain.logits)
    decisions = policy.decide(folded, plain.extras)
    assert decisions == tuple(answer.decision for answer in predictor.predict(map(pictures.read, names)))
    if older:
        assert decisions == tuple(image.decisions["gate"] for image in evaluation_of(learned).tested)
    assert decisions != policy.model_copy(update={"head": None}).decide(folded)


def test_a_scrc_that_defers_everything_is_never_exported_silently(branch, tmp_path):
    certify(branch, INFEASIBLE)
    evaluate_again(branch)
    with pytest.raises(BundleError, match="a degenerate one: it defers every image") as caught:
        branch.export(tmp_path / "out", policy="scrc")
    assert "it answers no image of val_test" in caught.value.found
    assert "allow_degenerate" in caught.value.action


def test_a_scrc_that_defers_everything_and_is_allowed_is_called_so_everywhere(branch, tmp_path):
    policy = certify(branch, INFEASIBLE)
    evaluate_again(branch)
    bundle = branch.bundle(OTHER_RUN, policy="scrc", allow_degenerate=True)
    verification = verify_bundle(bundle, deep=True)
    (needed,) = policy.degeneracies()
    assert verification.bundle.record.degenerate == (needed, "it answers no image of val_test")
    for name in ("bundle.json", "model_card.json", "README.md"):
        assert needed in (bundle / name).read_text()
    assert f"DEGENERATE {needed}" in verification.summary()
    readme, summary = (bundle / "README.md").read_text(), verification.summary()
    assert "It answers none of them." in readme
    assert "Of 6 images with roadwork it answers 0 (0.0%) and defers 6." in readme
    assert "No image is answered at any level." in readme
    assert re.search(r"^\| as_is \|( no answers \|){4} 0 \|$", readme, re.MULTILINE)
    assert "val_test   0 of 12 images answered" in summary
    assert "MCC" not in summary.partition("release")[0]
    assert json.loads((bundle / "model_card.json").read_bytes())["metrics"] == {"coverage": 0.0}
    for mcc in (0.0, 0.9):  # an older version wrote the zeros of no answers
        target = tmp_path / str(mcc)
        forged = forge_part(bundle, target, CARD, lambda card, mcc=mcc: card["metrics"].update(mcc=mcc))
        assert verify_bundle(forged) if mcc == 0 else refused(forged, "shows mcc 0.9, and its record gives 0")
    assert "MCC has no interval over groups, because no image was answered" in " ".join(summary.split())
    pictures = branch.pictures("val_test")
    answers = Predictor.load(bundle).predict(map(pictures.read, branch.splits.roles["val_test"]))
    assert {answer.decision for answer in answers} == {"defer"}


def test_a_scrc_whose_promise_a_constant_answer_keeps_is_exported_by_name_alone(branch, tmp_path):
    """Half of the units show roadwork, and six of ten may be wrong; it says what to promise instead."""
    policy = certify(branch, RecordedScrc(alpha=0.6, delta=0.2, steps=1))
    assert not policy.infeasible()
    evaluate_again(branch)
    with pytest.raises(
        BundleError, match=r"its promise is empty: always answering none would keep it"
    ) as caught:
        branch.export(tmp_path / "out", policy="scrc")
    assert "choose promise: two_sided" in caught.value.found
    bundle = branch.bundle(OTHER_RUN, policy="scrc", allow_degenerate=True)
    assert load_bundle(bundle).record.degenerate == tuple(policy.degeneracies())
    assert policy.empty()[0] in " ".join((bundle / "README.md").read_text().split())


def test_another_policy_of_that_chain_is_no_worse_for_it(branch, tmp_path):
    certify(branch, INFEASIBLE)
    evaluate_again(branch)
    branch.export(tmp_path / "out", policy="threshold")


@pytest.mark.parametrize("promise", ["two_sided", "expected"])
def test_a_bundle_ships_the_other_promises_in_their_own_words(branch, promise):
    config = RecordedScrc(promise=promise, alpha=0.4, alpha_miss=0.45, alpha_alarm=0.44, delta=0.4, steps=3)
    policy = certify(branch, config)
    evaluate_again(branch)
    bundle = branch.bundle(OTHER_RUN, policy="scrc", allow_degenerate=True)
    assert verify_bundle(bundle, deep=True).bundle.policy == policy
    readme = " ".join((bundle / "README.md").read_text().split())
    assert policy.guarantee in readme
    assert ("about this very calibration set nothing is promised" in readme) == (promise == "expected")


def test_an_evaluation_that_lacks_the_shipped_policy_is_refused(branch, tmp_path):
    evaluation = evaluation_of(branch)
    report = evaluation.report
    policies = {kind: entry for kind, entry in report.policies.items() if kind != "scrc"}
    levels = {kind: entry for kind, entry in report.conditions.policies.items() if kind != "scrc"}
    conditions = report.conditions.model_copy(update={"policies": levels})
    lacking = replace(
        evaluation, report=report.model_copy(update={"policies": policies, "conditions": conditions})
    )
    branch.publish(
        "evaluation", lacking.to_artifact(), inputs=branch.upstream["evaluation"].manifest.input_artifacts
    )
    with pytest.raises(BundleError, match="an evaluation of the policy scrc, but found one of"):
        branch.export(tmp_path / "out", policy="scrc")


def test_a_bundle_whose_report_lacks_its_policy_is_refused(scrc_bundle, tmp_path):
    def without(content):
        del content["policies"]["scrc"], content["conditions"]["policies"]["scrc"]

    forged = forge_part(scrc_bundle, tmp_path / "f", "evaluation.json", without)
    refused(forged, "an evaluation of the policy scrc")


def test_a_scrc_that_comes_out_otherwise_when_fitted_again_is_refused(branch, tmp_path):
    """It is sound in itself, and the report is of it; only the logits give it away."""
    policy = certify(branch, RecordedScrc(alpha=0.4, delta=0.2, steps=1))
    select = policy.val_select.model_copy(update={"nll_before": 0.1})
    other = Scrc(policy.model_copy(update={"val_select": select}))
    inputs = ("phase1_checkpoint", "val_calib_logits")
    branch.publish("scrc", other.to_artifact(), inputs=inputs, run_id=OTHER_RUN)
    evaluate_again(branch)
    with pytest.raises(BundleError, match="comes out the same when fitted again"):
        branch.export(tmp_path / "out", policy="scrc")
