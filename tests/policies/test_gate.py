"""The gate takes the margin's place only where it proves itself on errors it had no part in."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pydantic
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from streetvision_core.errors import DataError, SchemaError
from streetvision_core.eval.bootstrap import compare_augrc
from streetvision_core.eval.decisions import Policy, answers, freeze_operating_point
from streetvision_core.eval.ranking import risk_coverage_curve
from streetvision_core.eval.thresholds import scan_margins
from streetvision_core.policies import gate_fit, gate_head
from streetvision_core.policies.config import RecordedGate
from streetvision_core.policies.gate import GATE_NAME, Gate, GatePolicy
from streetvision_core.policies.gate_fit import (
    count_errors,
    fit_gate,
    is_fully_recorded,
    measure_gate,
    needs_measuring,
    verify_gate,
)
from streetvision_core.policies.gate_head import FIRST_INPUTS, INPUTS, ErrorOdds, FeatureReference
from tests.training.toy import publish

VERSION = "c" * 64
QUICK = RecordedGate(resamples=500)


@dataclass(frozen=True)
class Labelled:
    logits: np.ndarray
    labels: np.ndarray
    groups: tuple[str, ...]


def draw(*, seed=0, n=450, telling=True, together=1, tricked=0.15):
    """Images of which some trick the model: their margins are of the wrong class, and as large as any.

    With `telling` their features lie far from all that was trained on; else features are noise. The images
    of a group, `together` of them, share class and trick.

    Returns:
        The logits, the extras of these images, and the features and labels of the training images.
    """
    random = np.random.default_rng(seed)
    count = n // together
    group = np.repeat(np.arange(count), together)
    labels = random.integers(0, 2, count)[group]
    tricks = (random.random(count) < tricked)[group]
    margins = np.where(tricks, -1, 1) * (labels - 0.5) * 4 + random.normal(0, 0.8, n)
    centre = np.where(labels == 1, 1.0, -1.0)[:, None]
    far = 1 + 2 * (tricks & telling)[:, None]
    extras = {"features": (centre + random.normal(0, far, (n, 8))).astype("f4")}
    known = random.integers(0, 2, 300)
    reference = {
        "features": (np.where(known == 1, 1.0, -1.0)[:, None] + random.normal(0, 1, (300, 8))).astype("f4"),
        "labels": known,
    }
    logits = np.stack([-margins / 2, margins / 2], axis=1).astype(np.float32)
    return Labelled(logits, labels, tuple(f"g{number}" for number in group)), extras, reference


def learn(select, extras=None, reference=None, *, config=QUICK):
    """Fit the gate, with measurements where they are given."""
    measured = reference and measure_gate(reference["features"], reference["labels"], extras["features"])
    return fit_gate(select, checkpoint_version=VERSION, config=config, measured=measured)


def fit(*data, **settings):
    return learn(*data, **settings).policy


@pytest.fixture(scope="module")
def learned():
    return learn(*draw())


@pytest.fixture(scope="module")
def adopted(learned):
    assert learned.policy.confidence_by == "gate"
    return learned.policy, *draw()


def test_where_the_features_give_the_errors_away_the_gate_is_adopted(adopted):
    policy = adopted[0]
    assert policy.compared.high < 0
    assert policy.extras == ("features",)
    assert "lies below 0" in policy.reason
    # The margins know nothing of the tricks: of the accepted, far fewer are wrong than among all.
    given = policy.val_select
    assert given.errors_answered / given.answered < 0.6 * given.errors / given.n
    weights = dict(zip(INPUTS, policy.head.odds.weights, strict=True))
    assert abs(weights["distance"]) > abs(weights["margin"])


def test_features_that_are_noise_are_hardly_ever_adopted():
    """The interval covers 95 %: of the draws of noise, 1 in 300 passes, and here 1 in 12."""
    policies = [fit(*draw(seed=seed, telling=False)) for seed in range(12)]
    kept = [policy for policy in policies if policy.confidence_by == "margin"]
    assert len(kept) >= 11
    for policy in kept:
        assert (policy.head, policy.extras) == (None, ())
        assert f"{policy.compared.high:.5f}], does not lie below 0" in policy.reason


def test_a_gate_that_only_looks_better_is_not_adopted():
    """Better on average, but the interval holds 0: some draw of noise does that."""
    fits = [fit(*draw(seed=seed, telling=False, n=300)) for seed in range(20)]
    lucky = [
        policy
        for policy in fits
        if policy.compared and policy.compared.difference < 0 <= policy.compared.high
    ]
    assert lucky
    assert {policy.confidence_by for policy in lucky} == {"margin"}


def test_a_gate_is_never_trained_on_fewer_than_30_errors(monkeypatch):
    def refuse(*_):
        raise AssertionError("a head was trained")

    monkeypatch.setattr(ErrorOdds, "fit", refuse)
    select, extras, reference = draw(n=200, tricked=0.1)
    errors = count_errors(select, freeze_operating_point(select))
    assert 10 < errors < 30
    assert not needs_measuring(select, QUICK)
    policy = fit(select, extras, reference)
    assert (policy.confidence_by, policy.errors, policy.compared) == ("margin", errors, None)
    assert policy.reason == f"{errors} errors on val_select, at least 30 needed to learn from"
    assert policy == fit(select)


def test_one_error_decides_whether_a_gate_is_trained():
    select, extras, reference = draw()
    errors = count_errors(select, freeze_operating_point(select))
    enough = RecordedGate(resamples=100, min_errors=errors)
    one_more = RecordedGate(resamples=100, min_errors=errors + 1)
    assert needs_measuring(select, enough)
    assert fit(select, extras, reference, config=enough).compared is not None
    assert not needs_measuring(select, one_more)
    assert fit(select, config=one_more).compared is None


def test_out_of_fold_errors_must_be_enough_too(monkeypatch):
    select, extras, reference = draw()
    monkeypatch.setattr(gate_fit, "count_errors", lambda *_: 10**6)
    policy = fit(select, extras, reference, config=RecordedGate(min_errors=400))
    assert policy.confidence_by == "margin"
    assert "at least 400 out-of-fold errors needed" in policy.reason


def test_fewer_than_30_errors_cannot_be_configured():
    with pytest.raises(pydantic.ValidationError):
        RecordedGate(min_errors=29)


def cross_fit_plainly(select, extras, reference, *, folds=5, seed=0):
    """The protocol again, in plain loops and with scikit-learn's own standardisation."""
    margins = (select.logits[:, 1] - select.logits[:, 0]).astype(float)
    labels, groups = select.labels, np.array(select.groups)
    features, known = reference["features"].astype(float), reference["labels"]
    centres = [features[known == label].mean(axis=0) for label in (0, 1)]
    residual = features - np.stack(centres)[known]
    deviation = np.sqrt((residual**2).mean(axis=0))
    apart = [np.sqrt((((extras["features"] - c) / deviation) ** 2).mean(axis=1)) for c in centres]
    rest = [np.minimum(*apart)]
    split = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(labels, labels, groups)
    parts = [set(judging.tolist()) for _, judging in split]

    def judge(pictures, left_out):
        """|margin - threshold| and error of `pictures`, by a threshold on all but `left_out`."""
        fitting = [i for i in range(labels.size) if i not in left_out]
        shifted = margins[pictures] - scan_margins(margins[fitting], labels[fitting]).threshold
        return np.abs(shifted), (shifted > 0) != labels[pictures]

    size, wrong, score = np.empty(labels.size), np.empty(labels.size, bool), np.empty(labels.size)
    for part in parts:
        judged = sorted(part)
        size[judged], wrong[judged] = judge(judged, part)
        design, errors = [], []
        for other in parts:
            if other is not part:
                pictures = sorted(other)
                inner, mistaken = judge(pictures, other | part)
                design.append(np.column_stack([inner, *(column[pictures] for column in rest)]))
                errors.append(mistaken)
        head = make_pipeline(StandardScaler(), LogisticRegression(tol=1e-10, max_iter=10_000))
        head.fit(np.concatenate(design), np.concatenate(errors))
        inputs = np.column_stack([size[judged], *(column[judged] for column in rest)])
        score[judged] = -head.decision_function(inputs)
    return size, score, wrong


@pytest.mark.parametrize("telling", [True, False])
def test_both_augrcs_are_those_of_the_curve_over_a_cross_fit_in_plain_loops(telling):
    data = draw(seed=3, telling=telling, together=3)
    size, score, wrong = cross_fit_plainly(*data)
    compared = fit(*data).compared
    assert compared.errors == np.count_nonzero(wrong)
    assert compared.margin == pytest.approx(risk_coverage_curve(size, wrong).augrc, rel=1e-12)
    assert compared.gate == pytest.approx(risk_coverage_curve(score, wrong).augrc, rel=1e-9)
    assert compared.difference == compared.gate - compared.margin


def test_no_group_is_in_two_folds(monkeypatch):
    select, extras, reference = draw(together=3)
    groups, dealt = np.array(select.groups), []
    original = gate_head.deal_folds

    def watched(*args, **settings):
        dealt.append(original(*args, **settings))
        return dealt[-1]

    monkeypatch.setattr(gate_head, "deal_folds", watched)
    fit(select, extras, reference)
    (fold,) = dealt
    assert np.unique(fold).tolist() == list(range(5))
    assert all(np.unique(fold[groups == group]).size == 1 for group in set(groups))


def test_copies_of_an_image_are_no_evidence():
    """A difference that convinces over single images does not over a few groups of copies."""
    random = np.random.default_rng(1)
    wrong = random.random(40) < 0.4
    better, worse = random.normal(0, 1, 40) - 0.8 * wrong, random.normal(0, 1, 40) - 0.3 * wrong
    copied = [np.repeat(values, 30) for values in (better, worse, wrong)]
    alone = compare_augrc(*copied, groups=np.arange(1200), seed=0)
    grouped = compare_augrc(*copied, groups=np.repeat(np.arange(40), 30), seed=0)
    assert alone.difference == grouped.difference
    width = [comparison.interval.high - comparison.interval.low for comparison in (alone, grouped)]
    assert width[1] > 4 * width[0]


@pytest.mark.parametrize("decimals", [0, 1, 12])
@pytest.mark.parametrize("together", [1, 4])
def test_the_fast_bootstrap_is_that_of_the_curve_with_ties_and_groups(decimals, together):
    random = np.random.default_rng(2)
    n = 240
    wrong = random.random(n) < 0.2
    first, second = (np.round(random.normal(0, 1, n) - shift * wrong, decimals) for shift in (1.0, 0.5))
    groups = np.arange(n) // together

    def difference(chosen):
        curves = [risk_coverage_curve(scores[chosen], wrong[chosen]).augrc for scores in (first, second)]
        return curves[0] - curves[1]

    members = np.arange(n).reshape(-1, together)
    drawn = [difference(members[random.integers(0, len(members), len(members))].ravel()) for _ in range(4000)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    comparison = compare_augrc(first, second, wrong, groups=groups, seed=1, resamples=4000)
    width = high - low
    assert comparison.difference == pytest.approx(difference(np.arange(n)), abs=1e-15)
    assert comparison.interval.low == pytest.approx(low, abs=0.06 * width)
    assert comparison.interval.high == pytest.approx(high, abs=0.06 * width)


def test_resampling_each_unit_once_gives_the_figures_themselves(monkeypatch):
    from streetvision_core.eval import bootstrap as augrc_bootstrap

    random = np.random.default_rng(4)
    wrong, first = random.random(60) < 0.3, random.integers(0, 6, 60).astype(float)
    times = random.integers(0, 4, 60)

    def chosen(*_, **__):
        yield times[None]

    monkeypatch.setattr(augrc_bootstrap, "_resampled_weights", chosen)
    comparison = compare_augrc(first, np.zeros(60), wrong, groups=np.arange(60), seed=0)
    copies = np.repeat(np.arange(60), times)
    expected = (
        risk_coverage_curve(first[copies], wrong[copies]).augrc
        - risk_coverage_curve(np.zeros(copies.size), wrong[copies]).augrc
    )
    assert comparison.interval.low == pytest.approx(expected, abs=1e-15)


def test_the_margin_defers_the_images_nearest_to_the_operating_point():
    select, *_ = draw(telling=False)
    policy = fit(select, config=RecordedGate(min_errors=400))
    folded = policy.point.fold(select.logits)
    decisions = policy.decide(folded)
    size = np.abs(folded[:, 1] - folded[:, 0])
    deferred = np.array([decision == "defer" for decision in decisions])
    assert deferred.sum() == 45
    assert size[deferred].max() < policy.bound < size[~deferred].min()
    right_words = np.where(answers(folded), "roadwork", "none")
    assert all(
        word == decision for word, decision in zip(right_words, decisions, strict=True) if decision != "defer"
    )
    assert policy.val_select.roadwork == decisions.count("roadwork")
    assert policy.val_select.none == decisions.count("none")


@pytest.mark.parametrize("coverage", [0.01, 0.55, 0.9, 1.0])
def test_coverage_on_val_select_is_the_asked_one_within_a_tie(coverage):
    select, extras, reference = draw(n=400)
    for config in (
        RecordedGate(coverage=coverage, resamples=100),
        RecordedGate(coverage=coverage, min_errors=390),
    ):
        policy = fit(select, extras, reference, config=config)
        assert policy.val_select.answered == round(400 * coverage)
    rounded = replace(select, logits=np.round(select.logits))
    policy = fit(rounded, config=RecordedGate(coverage=coverage, min_errors=390))
    size = np.abs(np.diff(policy.point.fold(rounded.logits))[:, 0])
    answered = size >= policy.bound
    assert answered.sum() == policy.val_select.answered >= 400 * coverage
    assert not set(size[answered]) & set(size[~answered])
    # Without the last tie it would have been too few.
    assert np.sum(size > size[answered].min()) < 400 * coverage


def test_rounding_moves_no_image_of_val_select_across_the_bound():
    select, *_ = draw()
    policy = fit(select, config=RecordedGate(min_errors=400))
    folded = policy.point.fold(select.logits)
    assert policy.decide(folded) == policy.decide(folded.astype(np.float32))


def test_a_gate_decides_by_the_odds_of_an_error_and_defers_what_looks_like_one(adopted):
    policy, select, extras, _ = adopted
    folded = policy.point.fold(select.logits)
    confidence = policy.confidence(folded, extras)
    decisions = policy.decide(folded, extras)
    assert [decision == "defer" for decision in decisions] == (confidence < policy.bound).tolist()
    assert all(
        decision in {"defer", "roadwork" if positive else "none"}
        for decision, positive in zip(decisions, answers(folded), strict=True)
    )
    wrong = answers(folded) != select.labels
    odds = np.exp(-confidence)
    assert np.mean(odds / (1 + odds)) == pytest.approx(wrong.mean(), abs=0.02)
    # The same answers, to images like those of training.
    usual = {"features": np.broadcast_to(np.float32(policy.head.reference.none), (len(decisions), 8))}
    assert (policy.confidence(folded, usual) > confidence).all()


def test_probabilities_are_those_of_the_temperature_alone(adopted):
    policy, select, *_ = adopted
    margins = np.diff(select.logits.astype(float))[:, 0] / policy.point.temperature
    folded = policy.point.fold(select.logits)
    np.testing.assert_allclose(policy.probabilities(folded), 1 / (1 + np.exp(-margins)), rtol=1e-9)


def test_the_operating_point_is_the_frozen_one(adopted):
    policy, select, *_ = adopted
    assert policy.point == freeze_operating_point(select)
    assert policy.errors == count_errors(select, policy.point)


def test_fitting_again_from_recorded_numbers_gives_the_same_policy_and_nothing_to_report(learned, adopted):
    _, select, extras, reference = adopted
    assert learn(select, extras, reference) == learned
    assert is_fully_recorded(learned, select)
    assert verify_gate(learned, select) == []


@pytest.mark.parametrize(
    ("change", "field"),
    [({"bound": 0.25}, "bound"), ({"reason": "because"}, "reason"), ({"note": "because"}, "note")],
)
def test_an_edited_policy_is_found_out(learned, adopted, change, field):
    edited = replace(learned, policy=learned.policy.model_copy(update=change))
    (problem,) = verify_gate(edited, adopted[1])
    assert problem.startswith(f"{field} is recorded as ")


def test_edited_measurements_are_found_out(learned, adopted):
    distance = (learned.measured.distance[0] + 5, *learned.measured.distance[1:])
    edited = replace(learned, measured=learned.measured.model_copy(update={"distance": distance}))
    assert any(problem.startswith("compared is recorded as") for problem in verify_gate(edited, adopted[1]))


@pytest.mark.parametrize("telling", [True, False])
def test_a_gate_whose_measurements_were_not_recorded_is_held_against_the_rest_alone(telling):
    """As older versions published it: never condemned for what they did not record."""
    select, extras, reference = draw(telling=telling)
    older = replace(learn(select, extras, reference), measured=None)
    assert (older.policy.head is not None) == telling
    assert not is_fully_recorded(older, select)
    assert verify_gate(older, select) == []
    moved = older.policy.point.model_copy(update={"threshold": 0.9})
    edited = replace(older, policy=older.policy.model_copy(update={"point": moved, "bound": 0.25}))
    names = [problem.split()[0] for problem in verify_gate(edited, select)]
    assert names == (["point"] if telling else ["point", "bound"])


def first_head(head):
    """A head as older versions learned it, from five inputs."""
    odds = head.odds.model_dump() | {
        "inputs": FIRST_INPUTS,
        "mean": (*head.odds.mean, 0.3, 7.0, 0.6),
        "scale": (*head.odds.scale, 0.2, 0.7, 0.1),
        "weights": (*head.odds.weights, 1.5, -0.5, 0.2),
    }
    return head.model_copy(update={"odds": ErrorOdds(**odds)})


def test_a_head_of_an_older_version_is_read_and_decides_by_all_that_it_learned_from(adopted):
    policy, select, extras, _ = adopted
    content = policy.model_copy(update={"head": first_head(policy.head)}).model_dump(mode="json")
    older = GatePolicy.from_json(content, where="here")
    assert older.extras == ("features", "disagreement", "sharpness", "brightness")
    random, folded = np.random.default_rng(0), policy.point.fold(select.logits)
    more = {name: random.random(450) for name in older.extras[1:]}
    distance = policy.head.reference.distance(extras["features"])
    size = np.abs(folded[:, 1] - folded[:, 0])
    inputs = [size, distance, np.log1p(more["disagreement"]), more["sharpness"], more["brightness"]]
    odds = older.head.odds
    expected = sum(
        (value - mean) / scale * weight
        for value, mean, scale, weight in zip(inputs, odds.mean, odds.scale, odds.weights, strict=True)
    )
    np.testing.assert_allclose(older.confidence(folded, {**extras, **more}), -expected - odds.intercept)
    with pytest.raises(DataError, match="none called disagreement"):
        older.decide(folded, extras)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"reason": "because"}, "the reason is not what the comparison says"),
        ({"compared": {"low": 5.0}}, "is none of"),
        ({"compared": {"difference": -0.4}}, "is none of"),
        ({"compared": {"errors": 29}}, "not the one that was chosen"),
        ({"compared": {"level": 0.91}}, "not the one that was chosen"),
    ],
)
def test_a_policy_that_contradicts_its_comparison_is_refused(adopted, changes, text):
    content = adopted[0].model_dump(mode="json")
    for name, value in changes.items():
        content[name] = {**content[name], **value} if isinstance(value, dict) else value
    with pytest.raises(SchemaError, match=text):
        GatePolicy.from_json(content, where="here")


def test_an_edited_head_is_found_out(learned, adopted):
    content = learned.policy.model_dump(mode="json")
    content["head"]["odds"]["weights"][1] *= 1.001
    edited = replace(learned, policy=GatePolicy.from_json(content, where="here"))
    assert verify_gate(edited, adopted[1])[0].startswith("head is recorded")


def test_the_artifact_reads_back_as_it_was_published(tmp_path, learned):
    few = learn(draw()[0], config=RecordedGate(min_errors=400))
    for gate in (learned, few):
        published = publish(gate.to_artifact(), tmp_path / gate.policy.confidence_by)
        assert Gate.from_artifact(published) == gate
    assert set(few.to_artifact().files) == {GATE_NAME}


def test_the_metrics_say_what_was_adopted(adopted):
    policy = adopted[0]
    assert Gate(policy).to_artifact().metrics == {
        "adopted": 1,
        "errors": policy.errors,
        "bound": policy.bound,
        "coverage": 405 / 450,
        "augrc_difference": policy.compared.difference,
    }
    plain = Gate(fit(draw()[0], config=RecordedGate(min_errors=400))).to_artifact()
    assert plain.metrics["adopted"] == 0
    assert "augrc_difference" not in plain.metrics


def spoil(content, keys, value):
    *path, last = keys
    for key in path:
        content = content[key]
    content[last] = value


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (["schema_version"], 2),
        (["type"], "scrc"),
        (["more"], 1),
        (["bound"], "1"),
        (["head"], None),
        (["confidence_by"], "margin"),
        (["compared"], None),
        (["compared", "high"], 0.001),
        (["val_select", "errors"], 29),
        (["head", "odds", "weights"], [1.0]),
        (["head", "odds", "weights"], ["1", "1"]),
        (["head", "odds", "scale"], [1.0, 0.0]),
        (["head", "odds", "inputs"], ["distance", "margin"]),
        (["head", "reference", "none"], [0.0]),
        (["head", "reference", "deviation"], [-1.0] * 8),
        (["chosen_by", "more"], 1),
        (["fitted_on", "phase1_checkpoint"], "abc"),
    ],
)
def test_a_gate_that_is_not_of_the_schema_or_not_proven_is_refused(adopted, keys, value):
    content = json.loads(Gate(adopted[0]).to_artifact().files[GATE_NAME])
    assert GatePolicy.from_json(content, where="here") == adopted[0]
    spoil(content, keys, value)
    with pytest.raises(SchemaError):
        GatePolicy.from_json(content, where="here")


def test_features_that_are_missing_or_do_not_fit_are_named(adopted):
    policy, select, extras, _ = adopted
    folded, features = policy.point.fold(select.logits), extras["features"]
    for extras in (None, {}):
        with pytest.raises(DataError, match="none called features"):
            policy.decide(folded, extras)
    with pytest.raises(DataError, match="449 of features"):
        policy.decide(folded, {"features": features[:-1]})
    broken = features.copy()
    broken[3] = np.nan
    with pytest.raises(DataError):
        policy.decide(folded, {"features": broken})


def test_features_of_another_width_are_refused(adopted):
    policy, select, extras, _ = adopted
    with pytest.raises(DataError, match=r"features \[450, 8\]"):
        policy.decide(policy.point.fold(select.logits), {**extras, "features": extras["features"][:, :7]})


def test_measurements_that_are_needed_must_be_given_and_fit(learned):
    select, *_ = draw()
    with pytest.raises(DataError, match="of 450 images of val_select, but found none"):
        fit(select)
    cut = learned.measured.model_copy(update={"distance": learned.measured.distance[:-1]})
    with pytest.raises(DataError, match="those of 449"):
        fit_gate(select, checkpoint_version=VERSION, measured=cut)


def test_too_few_groups_are_a_reason_and_no_crash():
    select, extras, reference = draw(together=90)
    policy = fit(select, extras, reference)
    assert policy.confidence_by == "margin"
    assert "groups of" in policy.reason


def test_folds_that_hold_all_errors_are_a_reason_and_no_crash():
    """All the tricks come in one group, so no head could learn from the other folds."""
    select, extras, reference = draw(tricked=0)
    margins = 8.0 * (select.labels - 0.5) + np.linspace(-0.5, 0.5, 450)
    margins[:40] *= -1
    one_group = tuple("tricks" if i < 40 else name for i, name in enumerate(select.groups))
    tricky = Labelled(
        np.stack([-margins / 2, margins / 2], axis=1).astype(np.float32), select.labels, one_group
    )
    policy = fit(tricky, extras, reference)
    assert policy.errors >= 30
    assert policy.confidence_by == "margin"
    assert "errors and right answers outside each fold needed" in policy.reason


def test_a_feature_that_does_not_vary_in_training_is_left_out():
    features = np.random.default_rng(0).normal(0, 1, (100, 3)).astype("f4")
    # All the same but for the last digit of a float32.
    features[:, 1] = np.where(
        np.arange(100) % 3, np.float32(1000), np.nextafter(np.float32(1000), np.float32(0))
    )
    labels = np.arange(100) % 2
    reference = FeatureReference.of(features, labels)
    assert reference.deviation[1] == 0
    moved = features.copy()
    moved[:, 1] = 2000
    np.testing.assert_array_equal(reference.distance(features), reference.distance(moved))


def test_the_deviation_is_that_within_the_classes_however_many_rows():
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 9000)
    features = (100.0 * labels[:, None] + random.normal(0, [1.0, 2.0], (9000, 2))).astype("f4")
    reference = FeatureReference.of(features, labels)
    np.testing.assert_allclose(reference.deviation, [1, 2], rtol=0.03)
    np.testing.assert_allclose(np.mean(reference.distance(features) ** 2), 1, rtol=0.03)


def test_a_policy_that_answers_one_class_only_says_so():
    random = np.random.default_rng(0)
    labels = (random.random(300) < 0.1).astype(int)
    margins = np.where(labels == 1, random.normal(0.4, 0.1, 300), random.uniform(-12, -1, 300))
    select = Labelled(
        np.stack([-margins / 2, margins / 2], axis=1).astype("f4"), labels, tuple(map(str, range(300)))
    )
    policy = fit(select, config=RecordedGate(coverage=0.05))
    assert (policy.val_select.roadwork, policy.val_select.none) == (0, 15)
    assert policy.degeneracies() == ["it answers no image of val_select with roadwork"]
    assert fit(select, config=RecordedGate(coverage=1.0)).degeneracies() == []


def test_it_promises_nothing_about_new_images_and_says_how_it_decides(adopted):
    policy: Policy = adopted[0]
    assert "neither the share answered nor its errors" in policy.promise()
    assert policy.reason in policy.promise()
