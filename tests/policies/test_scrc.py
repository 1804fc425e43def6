"""Selective conformal risk control, fitted, stored, read and fitted again. Its promise: `tests/claims`."""

import json
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy.stats import beta, binom

from streetvision_core.errors import DataError, SchemaError
from streetvision_core.eval.calibration import choose_calibrator
from streetvision_core.eval.calibrators import METHODS, calibrator_from_json
from streetvision_core.eval.decisions import Policy, freeze_operating_point
from streetvision_core.eval.risk_control import BETWEEN, one_per_group
from streetvision_core.policies import scrc_fit
from streetvision_core.policies.config import (
    ErrorPromise,
    ExpectedPromise,
    ImageUnit,
    RecordedScrc,
    ScrcConfig,
)
from streetvision_core.policies.scrc import SCRC_NAME, Certified, Judged, Scrc, ScrcPolicy, digests
from streetvision_core.policies.scrc_fit import fit_scrc, sequence_table, size_table, verify_scrc
from tests.training.toy import publish

VERSIONS = {"checkpoint_version": "c" * 64, "logits_version": "d" * 64}
PROMISES = ("error", "two_sided", "expected")
TWO_SIDED = ScrcConfig(promise="two_sided", alpha_miss=0.06, alpha_alarm=0.08)
CONFIGS = {"error": ScrcConfig(), "two_sided": TWO_SIDED, "expected": ScrcConfig(promise="expected")}


@dataclass(frozen=True)
class Labelled:
    logits: np.ndarray
    labels: np.ndarray
    groups: tuple[str, ...]


def labelled(margins, labels, groups):
    margins = np.asarray(margins, dtype=np.float64)
    logits = np.stack([-margins / 2, margins / 2], axis=1).astype(np.float32)
    return Labelled(logits, np.asarray(labels, dtype=np.int64), tuple(groups))


def draw(seed, *, groups=400, frames=3, steps=None, distance=2.2, share=0.4):
    """Groups of `frames` images of one class; margins are multiples of 1 / steps where that is given."""
    random = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), frames)
    labels = (random.random(groups) < share)[group]
    margins = np.where(labels, distance, -distance) + random.normal(0, 1.5, group.size)
    if steps:
        margins = np.round(margins * steps) / steps
    return labelled(margins, labels, (f"drive {number}" for number in group))


def fit(select=None, calib=None, *, config=CONFIGS["error"]):
    parts = (draw(1) if select is None else select, draw(2) if calib is None else calib)
    return fit_scrc(*parts, **VERSIONS, config=config)


@pytest.fixture(scope="module", params=PROMISES)
def fitted(request):
    return fit(config=CONFIGS[request.param])


def test_where_no_groups_are_known_the_guarantee_takes_images_as_independent():
    """The words follow from the record, and the record from the data; an old record has the old words."""
    select, calib, config = draw(1), draw(2), CONFIGS["error"]
    known, unknown, older = (
        fit_scrc(select, calib, **VERSIONS, config=config, groups_known=known)
        for known in (True, False, None)
    )
    assert "images taken as independent, because no groups are known" in unknown.policy.promise()
    assert "randomly drawn group" not in unknown.policy.promise()
    assert "an image drawn at random (images taken as independent" in unknown.policy.guarantee.split(". ")[0]
    assert known.policy.promise() == older.policy.promise()
    assert verify_scrc(unknown, select, calib, groups_known=False) == []
    assert verify_scrc(older, select, calib, groups_known=False) == []  # an older version did not record it
    assert any("groups_known" in problem for problem in verify_scrc(known, select, calib, groups_known=False))
    record = unknown.policy.model_dump(mode="json")
    for forged in ({"groups_known": True}, {"groups_known": None}, {"guarantee": older.policy.guarantee}):
        with pytest.raises(SchemaError, match="words of the guarantee"):
            ScrcPolicy.from_json({**record, **forged}, where="here")
    without = older.policy.model_dump(mode="json")
    del without["groups_known"]
    assert ScrcPolicy.from_json(without, where="here") == older.policy


@pytest.fixture(scope="module")
def certified():
    return fit().policy


def judged(policy, pictures):
    """Return of each image the answer, its calibrated probability, and if it is wrong, plainly computed."""
    calibrator = calibrator_from_json(policy.calibrator, where="here")
    rows = []
    for (none, roadwork), label in zip(pictures.logits.astype(float), pictures.labels, strict=True):
        p = float(calibrator.apply([roadwork - none])[0])
        threshold = math.log(policy.point.threshold / (1 - policy.point.threshold))
        word = "roadwork" if (roadwork - none) / policy.point.temperature > threshold else "none"
        sure = p if word == "roadwork" else 1 - p
        rows.append((word, sure, (word == "roadwork") != bool(label)))
    return rows


def units_of(pictures, *, seed=0):
    chosen = one_per_group(pictures.groups, seed=seed)
    return Labelled(
        pictures.logits[chosen], pictures.labels[chosen], tuple(pictures.groups[at] for at in chosen)
    )


def test_it_is_a_policy_that_needs_nothing_but_logits(certified):
    policy: Policy = certified
    assert (policy.type, policy.extras) == ("scrc", ())
    assert policy.degeneracies() == []
    assert policy.infeasible() == []
    assert policy.promise() == policy.guarantee


def test_the_artifact_reads_back_as_it_was_published(tmp_path, fitted):
    artifact = fitted.to_artifact()
    assert Scrc.from_artifact(publish(artifact, tmp_path)) == fitted
    content = json.loads(artifact.files[SCRC_NAME])
    assert ScrcPolicy.from_json(content, where="here") == fitted.policy


def test_the_metrics_are_the_sums_of_the_certificates(fitted):
    metrics, parts = fitted.to_artifact().metrics, fitted.policy.certificates
    assert metrics["units"] == 400
    assert metrics["certified"] == int(all(part.threshold is not None for part in parts))
    assert metrics["accepted"] == sum(part.m for part in parts)
    assert metrics["errors"] == sum(part.k for part in parts)
    assert metrics["coverage"] == metrics["accepted"] / 400
    assert metrics["upper_bound"] == max(part.upper_bound for part in parts)


def test_fitting_again_gives_the_same_policy_and_nothing_to_report(fitted):
    select, calib = draw(1), draw(2)
    assert fit(select, calib, config=fitted.policy.chosen_by) == fitted
    assert verify_scrc(fitted, select, calib) == []


@pytest.mark.parametrize("steps", [None, 4])
@pytest.mark.parametrize("promise", PROMISES)
def test_it_decides_as_a_plain_loop_does(promise, steps):
    policy = fit(draw(4, steps=steps), draw(5, steps=steps), config=CONFIGS[promise]).policy
    pictures = draw(6, steps=steps)
    threshold = {
        word: certificate.threshold for certificate in policy.certificates for word in certificate.answers
    }
    rows = judged(policy, pictures)
    # Nothing lies so near to a threshold that rounding would decide.
    assert min(abs(sure - bound) for _, sure, _ in rows for bound in threshold.values() if bound) > 1e-9
    expected = tuple(
        word if threshold[word] is not None and sure >= threshold[word] else "defer" for word, sure, _ in rows
    )
    folded = policy.point.fold(pictures.logits)
    assert policy.decide(folded) == expected
    assert policy.decide(folded[:, 1] - folded[:, 0]) == expected
    assert {"defer", "none"} <= set(expected)
    np.testing.assert_allclose(policy.confidence(folded), [sure for _, sure, _ in rows], rtol=1e-9)


def test_probabilities_are_those_of_the_calibrator_on_the_checkpoints_logits(certified):
    pictures = draw(7)
    calibrator = calibrator_from_json(certified.calibrator, where="here")
    expected = calibrator.apply(pictures.logits.astype(float))
    np.testing.assert_allclose(
        certified.probabilities(certified.point.fold(pictures.logits)), expected, rtol=1e-9
    )


@pytest.mark.parametrize("steps", [None, 2, 4, 8])
@pytest.mark.parametrize("promise", PROMISES)
@pytest.mark.parametrize("seed", range(3))
def test_what_was_counted_is_what_is_decided_however_the_confidences_tie(seed, promise, steps):
    """A threshold on a tie would be decided by the rounding of folding and unfolding the logits."""
    calib = draw(seed + 100, steps=steps)
    policy = fit(draw(seed, steps=steps), calib, config=CONFIGS[promise]).policy
    units = units_of(calib)
    decisions = policy.decide(policy.point.fold(units.logits))
    for certificate in policy.certificates:
        answered = [word in certificate.answers for word in decisions]
        wrong = [
            covered and (word == "roadwork") != bool(label)
            for covered, word, label in zip(answered, decisions, units.labels, strict=True)
        ]
        assert (sum(answered), sum(wrong)) == (certificate.m, certificate.k)


@pytest.mark.parametrize("seed", range(8))
def test_images_within_rounding_of_the_threshold_are_counted_as_float32_weights_decide_them(seed):
    """Of 481 groups, 81 have margins one unit of rounding apart, across the only threshold."""
    select, calib = draw(seed, groups=200), draw(50, groups=481, frames=1)
    config = RecordedScrc(alpha=0.1, steps=1)
    policy = fit(select, calib, config=config).policy
    threshold = policy.certificates[0].threshold
    low, high = 0.0, 20.0
    for _ in range(60):  # the margin at which roadwork is just sure enough
        middle = (low + high) / 2
        sure = policy.confidence(policy.point.fold([[-middle / 2, middle / 2]]))[0]
        low, high = (low, middle) if sure >= threshold else (middle, high)
    near = np.float32(high / 2) + np.arange(-40, 41) * np.spacing(np.float32(high / 2))
    logits = np.concatenate([calib.logits[:400], np.stack([-near, near], axis=1)]).astype(np.float32)
    labels = np.concatenate([calib.labels[:400], np.ones(81, np.int64)])
    policy = fit(select, Labelled(logits, labels, calib.groups), config=config).policy
    (counted,) = policy.certificates
    assert counted.threshold == threshold
    decisions = policy.decide(policy.point.fold(logits).astype(np.float32))
    assert 0 < decisions[400:].count("roadwork") < 81
    assert counted.m == 481 - decisions.count("defer")


def frozen_part(policy):
    """Everything that must be known before val_calib is looked at."""
    return (
        policy.point, policy.calibrator, policy.frozen, policy.val_select,
        [
            (part.thresholds, part.K, part.start, part.alpha, part.delta, part.needed)
            for part in policy.certificates
        ],
    )  # fmt: skip


@pytest.mark.parametrize("promise", PROMISES)
def test_nothing_that_is_frozen_depends_on_val_calib(promise):
    """Other logits, other labels, other names: bit for bit the same, as long as there are as many units."""
    select, calib, config = draw(1), draw(2), CONFIGS[promise]
    policy = fit(select, calib, config=config).policy
    others = [
        replace(calib, labels=1 - calib.labels),
        replace(calib, logits=calib.logits[::-1] * np.float32(3)),
        draw(99, frames=1, distance=0.1, share=0.9),
        replace(draw(2, frames=7), groups=tuple(f"other {at // 7}" for at in range(2800))),
    ]
    policies = [fit(select, other, config=config).policy for other in others]
    assert all(frozen_part(other) == frozen_part(policy) for other in policies)
    assert all(other.certificates != policy.certificates for other in policies)


def test_the_operating_point_and_the_calibrator_are_those_of_val_select(certified):
    select = draw(1)
    assert certified.point == freeze_operating_point(select, between=BETWEEN)
    chosen = choose_calibrator(select.logits, select.labels, groups=select.groups)
    assert certified.calibrator == chosen.calibrator.to_json()
    judged_there, judged_here = (part.judged for part in (certified.val_select, chosen))
    assert [candidate.method for candidate in judged_there] == [candidate.method for candidate in judged_here]
    assert certified.val_select.n == 1200
    assert certified.frozen == digests(certified.point, certified.calibrator, certified.certificates)


@pytest.mark.parametrize("promise", PROMISES)
def test_one_image_of_each_group_is_counted(promise):
    calib, config = draw(2, frames=5), CONFIGS[promise]
    policy = fit(calib=calib, config=config).policy
    assert sum(certificate.n for certificate in policy.certificates) == len(set(calib.groups)) == 400
    assert policy.units == "groups"
    assert "an image drawn from a randomly drawn group" in policy.guarantee.split(". ")[0]


@pytest.mark.parametrize("promise", PROMISES)
def test_of_images_up_to_a_cap_so_many_groups_are_counted_as_their_size_says(promise):
    """300 groups of 2 images and 100 of 40: at cap 20 one in ten of the small ones, and all of the large."""
    small, large = draw(2, groups=300, frames=2), draw(3, groups=100, frames=40)
    calib = Labelled(
        np.concatenate([small.logits, large.logits]),
        np.concatenate([small.labels, large.labels]),
        (*small.groups, *(f"long {name}" for name in large.groups)),
    )
    config = CONFIGS[promise].model_copy(update={"unit": ImageUnit(cap=20)})
    policy = fit(calib=calib, config=config).policy
    counted = policy.val_calib
    assert counted.groups == 400
    assert sum(certificate.n for certificate in policy.certificates) == counted.units
    assert 100 + 12 <= counted.units <= 100 + 48
    assert policy.units == "images"
    assert "a group of more than 20 images, a longer video, counts as 20" in policy.guarantee.split(". ")[0]
    assert f"{counted.units} of 400 groups of val_calib are counted" in policy.drawn()
    assert verify_scrc(Scrc(policy), draw(1), calib) == []


def test_where_no_groups_are_known_a_cap_thins_nothing():
    calib = draw(2, groups=400, frames=1)
    config = ScrcConfig(unit={"kind": "image", "cap": 20})
    counted = fit_scrc(draw(1), calib, **VERSIONS, config=config, groups_known=False).policy.val_calib
    assert (counted.units, counted.groups) == (400, 400)


def test_a_cap_that_leaves_nothing_defers_everything_and_says_how_many_groups_it_would_take():
    calib = draw(2, groups=40, frames=1)
    config = ScrcConfig(unit={"kind": "image", "cap": 1_000_000})
    policy = fit(calib=calib, config=config).policy
    assert policy.val_calib.units == 0
    assert policy.certificates[0].n == 0
    assert policy.degeneracies()
    few = fit(calib=calib, config=ScrcConfig(unit={"kind": "image", "cap": 2})).policy
    groups = math.ceil(45 * 40 / few.val_calib.units)
    assert (
        f"there are only {few.val_calib.units}; about {groups} groups of such sizes would leave 45"
        in few.promise()
    )
    assert f"about {groups} groups of such sizes would leave" in few.drawn()


def test_which_images_are_counted_does_not_depend_on_their_labels():
    """Nor on their logits: the same units are drawn, so that changing all labels makes every error a hit."""
    calib, config = draw(2, frames=5), ScrcConfig(unit={"kind": "image", "cap": 20})
    counted = [
        fit(calib=replace(calib, labels=labels), config=config).policy.val_calib
        for labels in (calib.labels, 1 - calib.labels)
    ]
    assert counted[0].units == counted[1].units
    assert counted[0].roadwork == counted[1].units - counted[1].roadwork


@pytest.mark.parametrize(
    ("share", "settings", "texts"),
    [
        (0.02, {}, ["always answering none", "choose promise: two_sided"]),
        (0.98, {}, ["always answering roadwork", "choose promise: two_sided"]),
        (0.02, {"promise": "expected"}, ["always answering none", "choose promise: two_sided"]),
        (0.02, {"promise": "two_sided", "alpha_miss": 0.1}, ["always answering none", "promise less than"]),
        (0.4, {}, []),
        (0.12, {"promise": "two_sided"}, []),
    ],
)
def test_a_promise_that_one_constant_answer_keeps_is_called_empty(share, settings, texts):
    """Export refuses what is degenerate, unless it is told otherwise by name."""
    select, calib = (
        draw(1, distance=4, groups=1500, share=share),
        draw(2, distance=4, groups=1500, share=share),
    )
    policy = fit(select, calib, config=ScrcConfig(**settings)).policy
    assert any(certificate.threshold is not None for certificate in policy.certificates)
    reasons = policy.degeneracies()
    assert len(reasons) == bool(texts)
    for words in texts:
        assert words in reasons[0]
        assert words in policy.promise()
    if texts:
        assert f"of 1500 groups of val_calib show {'none' if share > 0.5 else 'roadwork'}" in reasons[0]


def test_confidence_that_is_ordered_wrongly_is_said_in_the_promise():
    """Of the surer half of the answers every other one is wrong, of the rest none."""
    calib = draw(2, groups=600, frames=1)
    sure = np.abs(calib.logits[:, 1] - calib.logits[:, 0])
    top = np.argsort(sure)[-300:]
    labels = (calib.logits[:, 1] > 0).astype(np.int64)
    labels[top] = np.where(np.arange(300) % 2, labels[top], 1 - labels[top])
    wrongly = fit(calib=replace(calib, labels=labels)).policy
    assert "Confidence is ordered wrongly" in wrongly.promise()
    assert "isotonic test over 600 groups of val_calib, p = 0.005" in wrongly.promise()
    assert "ordered wrongly" not in fit(calib=calib).policy.promise()


def test_risk_by_group_size_is_counted_over_one_image_of_each_group():
    small, large = draw(2, groups=300, frames=1, distance=5), draw(3, groups=100, frames=30, distance=1)
    calib = Labelled(
        np.concatenate([small.logits, large.logits]),
        np.concatenate([small.labels, large.labels]),
        (*small.groups, *(f"long {name}" for name in large.groups)),
    )
    scrc = fit(calib=calib, config=ScrcConfig(alpha=0.2))
    single, longer = size_table(scrc.policy, calib)
    assert (single["group_size"], single["groups"], single["images"]) == ("1 image", 300, 300)
    assert (longer["group_size"], longer["groups"], longer["images"]) == ("more than 20 images", 100, 3000)
    assert longer["risk"] == longer["wrong"] / longer["answered"] > single["risk"]
    assert longer["low"] < longer["risk"] < longer["high"]
    drawn = judged(scrc.policy, units_of(calib))
    assert longer["risk_of_all"] == np.mean([wrong for _, _, wrong in drawn[300:]])
    assert b"more than 20 images,100,3000," in scrc.curves["curves/risk_by_group_size.csv"]


def test_which_image_of_a_group_is_counted_follows_from_the_seed():
    calib = draw(2)
    counts = {
        tuple(
            (part.m, part.k) for part in fit(calib=calib, config=RecordedScrc(seed=seed)).policy.certificates
        )
        for seed in range(4)
    }
    assert len(counts) > 1


@pytest.mark.parametrize("promise", PROMISES)
def test_where_nothing_can_be_certified_everything_is_deferred_and_it_says_how_many_are_needed(promise):
    """44 groups, or 58 or 18: one less than the promise takes, however many frames a group has."""
    few = {"error": 44, "two_sided": 58, "expected": 18}[promise]
    settings = {"promise": promise, "alpha_miss": 0.05, "alpha_alarm": 0.05}
    policy = fit(calib=draw(3, groups=few, frames=30, distance=20), config=ScrcConfig(**settings)).policy
    folded = policy.point.fold(draw(8).logits)
    assert set(policy.decide(folded)) == {"defer"}
    assert {certificate.threshold for certificate in policy.certificates} == {None}
    assert all(certificate.needed == few + 1 for certificate in policy.certificates)
    (reason,) = policy.degeneracies()
    assert reason.startswith("it defers every image: 5% takes at least")
    for sentence in [reason, *policy.infeasible()]:
        assert f"5% takes at least {few + 1} groups of val_calib" in sentence
        assert "more with each error, and there are only" in sentence
    assert sum(certificate.n for certificate in policy.certificates) == few
    assert Scrc(policy).to_artifact().metrics["certified"] == 0


def test_where_one_answer_cannot_be_certified_only_that_one_is_deferred():
    calib = draw(3, groups=300, share=0.1, distance=4)
    policy = fit(draw(1, distance=4), calib, config=TWO_SIDED).policy
    none, roadwork = policy.certificates
    assert (none.answers, roadwork.answers) == (("none",), ("roadwork",))
    assert none.threshold is not None
    assert roadwork.threshold is None
    decisions = policy.decide(policy.point.fold(draw(9, distance=4).logits))
    assert set(decisions) == {"none", "defer"}
    assert policy.degeneracies() == []
    (reason,) = policy.infeasible()
    assert reason.startswith(
        "What would be answered roadwork is always deferred, because it cannot be certified"
    )
    assert reason.endswith(
        "8% takes at least 36 groups of val_calib accepted without an error, more with each"
        f" error, and there are only {roadwork.n}."
    )
    assert policy.promise() == f"{reason} {policy.guarantee}"


def test_an_answer_that_val_calib_does_not_hold_is_deferred():
    calib = draw(3)
    only = np.abs(calib.logits[:, :1]) * np.float32([1, -1]) - np.float32([0, 30])
    policy = fit(calib=replace(calib, logits=only), config=TWO_SIDED).policy
    none, roadwork = policy.certificates
    assert (none.n, roadwork.n) == (400, 0)
    assert (roadwork.threshold, roadwork.tested, roadwork.upper_bound) == (None, 0, 1.0)
    assert (roadwork.coverage_low, roadwork.coverage_high) == (0.0, 1.0)


def test_a_promise_about_the_mean_has_no_delta_and_says_what_it_does_not_promise():
    policy = fit(config=CONFIGS["expected"]).policy
    (certificate,) = policy.certificates
    assert certificate.delta is None
    assert certificate.upper_bound == (certificate.k + 1) / (certificate.n + 1) <= certificate.alpha
    words = policy.promise()
    assert words.startswith("On average over calibration sets, an image drawn from a randomly drawn group is")
    assert "is answered wrongly with probability at most 5%; about this" in words
    assert "about this very calibration set nothing is promised" in words
    assert "With probability" not in words


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({}, ["at least 90%", "where it is answered, is answered wrongly with probability at most 5%."]),
        ({"alpha": 0.00125, "delta": 0.004}, ["at least 99.6%", "with probability at most 0.125%."]),
        ({"alpha": 0.07, "delta": 0.0001}, ["at least 99.99%", "with probability at most 7%."]),
        (
            {"promise": "two_sided", "alpha_miss": 0.0155, "alpha_alarm": 0.2},
            ["at least 90%", "where it is answered none, shows roadwork with probability at most 1.55%",
             "where it is answered roadwork, shows none with probability at most 20%."],
        ),
        ({"promise": "expected", "alpha": 0.033}, ["is answered wrongly with probability at most 3.3%"]),
    ],
)  # fmt: skip
def test_the_words_hold_alpha_and_delta_to_the_last_digit_and_the_conditions(settings, parts):
    words = fit(config=ScrcConfig(**settings)).policy.promise()
    for part in parts:
        assert part in words
    assert "an image drawn from a randomly drawn group" in words
    assert "the groups independent of each other" in words
    assert "no other certificate was tried on the same images" in words
    assert "A change of camera, place, season, share of roadwork or preprocessing voids it." in words


def test_a_val_select_too_small_for_folds_takes_the_temperature_and_says_so_by_judging_nothing():
    select = draw(1, groups=9, frames=40)
    policy = fit(select).policy
    assert policy.calibrator["method"] == "temperature"
    assert policy.val_select.judged == ()
    assert policy.calibrator["temperature"] == policy.point.temperature
    assert verify_scrc(Scrc(policy), select, draw(2)) == []
    enough = fit(draw(1, groups=40)).policy
    assert len(enough.val_select.judged) == len(METHODS)


@pytest.mark.parametrize("labels", [np.zeros, np.ones])
def test_one_class_in_val_select_is_refused(labels):
    select = draw(1)
    with pytest.raises(DataError, match="both classes"):
        fit(replace(select, labels=labels(1200, dtype=np.int64)))


@pytest.mark.parametrize("role", ["select", "calib"])
def test_logits_that_are_not_finite_are_refused(role):
    broken = draw(1)
    broken.logits[6:9, 1] = np.nan  # a whole group
    with pytest.raises(DataError, match="finite"):
        fit(**{role: broken})


def plain_sequence(policy, calib):
    """Count each threshold of each certificate in a plain loop."""
    units = units_of(calib) if policy.units == "groups" else calib
    rows = []
    for certificate in policy.certificates:
        mine = [(sure, wrong) for word, sure, wrong in judged(policy, units) if word in certificate.answers]
        for threshold in certificate.thresholds:
            taken = [wrong for sure, wrong in mine if sure >= threshold]
            m, k = len(taken), sum(taken)
            if certificate.delta is None:
                bound, p_value = (k + 1) / (certificate.n + 1), ""
            else:
                bound = 1.0 if k == m else float(beta.ppf(1 - certificate.delta, k + 1, m - k))
                p_value = float(binom.cdf(k, m, certificate.alpha))
            rows.append({
                "answers": " or ".join(certificate.answers), "confidence": threshold,
                "accepted": m, "wrong": k,
                "upper_bound": pytest.approx(bound), "alpha": certificate.alpha,
                "p_value": p_value if p_value == "" else pytest.approx(p_value),
                "certified": "yes" if threshold == certificate.threshold else "",
            })  # fmt: skip
    return rows


def test_the_table_of_the_sequence_is_a_plain_count_of_every_threshold(fitted):
    calib = draw(2)
    assert sequence_table(fitted.policy, calib) == plain_sequence(fitted.policy, calib)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("promise", ["error", "two_sided"])
def test_certified_is_the_last_threshold_before_the_first_that_does_not_hold(seed, promise):
    select, calib = draw(seed), draw(seed + 50, distance=1.6)
    policy = fit(select, calib, config=CONFIGS[promise]).policy
    rows = plain_sequence(policy, calib)
    for certificate in policy.certificates:
        mine = [row for row in rows if row["answers"] == " or ".join(certificate.answers)]
        best = None
        for row in mine:
            if row["accepted"] == 0 or float(row["p_value"].expected) > certificate.delta:
                break
            best = row
        assert certificate.threshold == (best and best["confidence"])
        assert (certificate.m, certificate.k) == ((best["accepted"], best["wrong"]) if best else (0, 0))


def test_a_loose_threshold_that_holds_behind_one_that_does_not_is_not_certified():
    """Ten sure mistakes, then hundreds of right answers: over all, the error would be low enough."""
    select = draw(1)
    margins = np.concatenate([np.full(10, -14.0), np.linspace(-14, -3, 140), np.linspace(-2.9, -2, 850)])
    labels = np.arange(1000) < 10
    calib = labelled(margins, labels, map(str, range(1000)))
    policy = fit(select, calib).policy
    rows = sequence_table(policy, calib)
    assert any(row["upper_bound"] <= 0.05 for row in rows)
    assert rows[0]["upper_bound"] > 0.05
    assert set(policy.decide(policy.point.fold(calib.logits))) == {"defer"}


def change(content, keys, value):
    *path, last = keys
    for key in path:
        content = content[key]
    content[last] = value(content[last]) if callable(value) else value


FIRST = ["certificates", 0]
CONTRADICTIONS = [
    ([*FIRST, "K"], lambda k: k + 1, r"K is 16, but there are 15 thresholds"),
    ([*FIRST, "thresholds"], lambda t: t[::-1], "do not fall"),
    ([*FIRST, "thresholds"], lambda t: [t[0], *t[:-1]], "do not fall"),
    ([*FIRST, "k"], lambda k: k + 1, "upper_bound"),
    ([*FIRST, "k"], lambda k: k - 1, "upper_bound"),
    ([*FIRST, "k"], 10**6, "do not rise"),
    ([*FIRST, "m"], lambda m: m + 1, "give upper_bound"),
    ([*FIRST, "m"], 10**6, "do not rise"),
    ([*FIRST, "n"], lambda n: n + 50, "give coverage_low"),
    ([*FIRST, "upper_bound"], lambda b: b - 0.001, "give upper_bound"),
    ([*FIRST, "coverage_low"], lambda c: c + 0.01, "give coverage_low"),
    ([*FIRST, "coverage_high"], lambda c: c - 0.01, "give coverage_high"),
    ([*FIRST, "needed"], lambda n: n - 1, "give needed"),
    ([*FIRST, "threshold"], lambda t: t - 0.001, "is not where"),
    ([*FIRST, "threshold"], None, "accepted without a threshold"),
    ([*FIRST, "tested"], 1, "is not where 1 tests would end"),
    ([*FIRST, "alpha"], 0.02, "certificates"),
    ([*FIRST, "alpha"], 0.5, "certificates"),
    ([*FIRST, "delta"], 0.5, "certificates"),
    ([*FIRST, "delta"], None, "certificates"),
    ([*FIRST, "answers"], ["none"], "chosen to certify"),
    (["certificates"], lambda c: c * 2, "chosen to certify"),
    (["certificates"], [], "certificates"),
    (["frozen", "point"], "0" * 64, "not those that were frozen"),
    (["frozen", "calibrator"], "0" * 64, "not those that were frozen"),
    (["frozen", "sequences"], "0" * 64, "not those that were frozen"),
    (["point", "threshold"], lambda t: t * 0.99, "not those that were frozen"),
    (["point", "temperature"], lambda t: t * 1.01, "not those that were frozen"),
    (["calibrator", "method"], "guess", "not those that were frozen"),
    (["promised"], "expected", "it promises expected of groups, but error was chosen"),
    (["units"], "pictures", "it promises error of pictures, but error was chosen"),
    (["chosen_by", "unit"], {"kind": "image", "cap": 5}, "it promises error of groups"),
    (["chosen_by", "unit"], {"kind": "every_image"}, "it promises error of groups"),
    (["val_calib", "units"], 399, "400 units are certified, but 399 of 400 groups"),
    (["val_calib", "groups"], 500, "400 units are certified, but 400 of 500 groups"),
    (["val_calib", "roadwork"], 401, "do not rise"),
    (["val_calib"], None, "does not count"),
    (["chosen_by", "promise", "alpha"], 0.01, "chosen to certify"),
    (["chosen_by", "alpha"], 0.01, "chosen_by.alpha"),
    (["chosen_by", "delta"], 0.01, "chosen to certify"),
    (["chosen_by", "promise"], "two_sided", "but two_sided was chosen"),
    (["chosen_by", "promise"], "all", "promise"),
    (["chosen_by", "more"], 1, "chosen_by.more"),
    (["schema_version"], 1, "does not count"),
    (["schema_version"], 3, "schema_version"),
    (["type"], "gate", "type"),
    (["more"], 1, "more"),
    ([*FIRST, "more"], 1, "more"),
    ([*FIRST, "m"], "300", "certificates.0.m"),
    (["fitted_on", "phase1_checkpoint"], "abc", "fitted_on.phase1_checkpoint"),
]


@pytest.mark.parametrize(("keys", "value", "text"), CONTRADICTIONS)
def test_a_policy_that_contradicts_itself_is_refused_in_one_paragraph(certified, keys, value, text):
    content = json.loads(Scrc(certified).to_artifact().files[SCRC_NAME])
    change(content, keys, value)
    with pytest.raises(SchemaError) as caught:
        ScrcPolicy.from_json(content, where="scrcparams.json")
    message = str(caught.value)
    assert text in message
    assert message.startswith("Expected a ScrcPolicy of this schema version, but found ")
    assert message.endswith(
        "(scrcparams.json). Materialize the policy again with this version, or update this installation."
    )
    assert len(message) < 700


@pytest.mark.parametrize("name", list(ScrcPolicy.model_fields))
def test_a_missing_field_is_refused_unless_its_value_is_the_only_one(certified, name):
    content = certified.model_dump(mode="json")
    del content[name]
    if name in {"type", "groups_known"}:
        assert ScrcPolicy.from_json(content, where="here") == certified
    else:
        text = "does not count" if name == "val_calib" else f"{name}: Field required"
        with pytest.raises(SchemaError, match=text):
            ScrcPolicy.from_json(content, where="here")


def test_a_calibrator_that_is_none_is_refused_even_with_its_own_digest(certified):
    content = certified.model_dump(mode="json")
    content["calibrator"] = {"method": "temperature", "temperature": -1.0}
    changed = digests(certified.point, content["calibrator"], certified.certificates)
    content["frozen"] = changed.model_dump()
    with pytest.raises(SchemaError, match="temperature: Input should be greater than 0"):
        ScrcPolicy.from_json(content, where="here")


@pytest.mark.parametrize("method", ["beta", "venn_abers"])
def test_a_policy_calibrated_by_a_method_of_earlier_versions_says_what_to_do(certified, method):
    content = certified.model_dump(mode="json") | {"calibrator": {"method": method, "a": 1.0}}
    with pytest.raises(SchemaError) as caught:
        ScrcPolicy.from_json(content, where="here")
    assert f"found {method}, which only earlier versions do (here). Materialize scrc again" in str(
        caught.value
    )


@pytest.mark.parametrize("nll", [0.0, 9.0])
def test_a_record_that_judged_methods_of_earlier_versions_is_fitted_again(certified, nll):
    """It does not matter if one of them was the best; the known figures of the others are still compared."""
    known = certified.val_select.judged
    retired = Judged(method="beta", nll=nll, excess=0.0, standard_error=0.0)
    best = min(candidate.nll for candidate in (*known, retired))
    rows = [
        candidate.model_copy(update={"excess": candidate.nll - best, "standard_error": 99.0})
        for candidate in (*known, retired)
    ]
    recorded = certified.val_select.model_copy(update={"judged": (*rows[:2], rows[-1], *rows[2:-1])})
    policy = certified.model_copy(update={"val_select": recorded})
    assert verify_scrc(Scrc(policy), draw(1), draw(2)) == []
    rows[0] = rows[0].model_copy(update={"nll": rows[0].nll + 1e-3})
    changed = recorded.model_copy(update={"judged": tuple(rows)})
    (problem,) = verify_scrc(Scrc(policy.model_copy(update={"val_select": changed})), draw(1), draw(2))
    assert problem.startswith("val_select is recorded as ")


def test_a_bound_above_alpha_certifies_nothing(certified):
    """Consistent in itself, but not what was promised."""
    certificate = certified.certificates[0]
    with pytest.raises(ValueError, match=r"is not at most alpha, 0\.01"):
        Certified(**certificate.model_dump() | {"alpha": 0.01, "needed": 230})


CHANGES = [
    {"guarantee": "It is always right."},
    {"chosen_by": {"steps": 14}}, {"chosen_by": {"folds": 4}}, {"chosen_by": {"seed": 3}},
    {"chosen_by": {"promise": ErrorPromise(alpha=0.06)}}, {"chosen_by": {"promise": ExpectedPromise()}},
    {"chosen_by": {"delta": 0.2}}, {"chosen_by": {"unit": ImageUnit(cap=2)}},
    {"point": {"threshold": 0.51}}, {"point": {"temperature": 1.1}},
    {"calibrator": {"method": "temperature", "temperature": 0.9}},
    {"val_select": {"n": 1201}}, {"val_select": {"nll_before": 0.3}}, {"val_select": {"judged": ()}},
    {"units": "pictures"}, {"promised": "two_sided"}, {"frozen": {"point": "0" * 64}},
]  # fmt: skip


@pytest.mark.parametrize("changed", CHANGES, ids=str)
def test_a_record_that_was_changed_is_found_when_it_is_fitted_again(certified, changed):
    ((name, value),) = changed.items()
    recorded = getattr(certified, name)
    if isinstance(value, dict) and name != "calibrator":
        value = recorded.model_copy(update=value)
    problems = verify_scrc(Scrc(certified.model_copy(update={name: value})), draw(1), draw(2))
    assert problems
    assert all("is recorded as" in problem and "when fitted again" in problem for problem in problems)


@pytest.mark.parametrize("name", list(Certified.model_fields))
def test_every_number_of_a_certificate_is_found_when_it_was_changed(certified, name):
    certificate = certified.certificates[0]
    other = {
        "answers": ("none",),
        "thresholds": certificate.thresholds[:-1],
        "threshold": certificate.thresholds[0],
    }
    recorded = getattr(certificate, name)
    value = other[name] if name in other else recorded + (1 if isinstance(recorded, int) else 1e-6)
    changed = certified.model_copy(update={"certificates": (certificate.model_copy(update={name: value}),)})
    (problem,) = verify_scrc(Scrc(changed), draw(1), draw(2))
    assert problem.startswith("certificates is recorded as ")


@pytest.mark.parametrize("role", ["select", "calib"])
def test_other_logits_than_those_it_was_fitted_on_are_found(certified, role):
    parts = {"select": draw(1), "calib": draw(2)}
    parts[role] = replace(parts[role], labels=1 - parts[role].labels[::-1])
    assert verify_scrc(Scrc(certified), **parts)


def test_a_steps_configuration_is_recorded_as_the_recipe_alone():
    class Step(ScrcConfig):
        fresh: bool = False

    assert type(fit(config=Step(alpha=0.1)).policy.chosen_by) is RecordedScrc
    assert fit(config=Step(alpha=0.1)) == fit(config=ScrcConfig(alpha=0.1))


def test_val_calib_is_looked_at_after_everything_is_frozen(monkeypatch):
    """Its logits and labels are read only when point and calibrator exist; see also the bit for bit test."""
    frozen = []
    for name in ("freeze_operating_point", "_choose_calibrator"):
        original = getattr(scrc_fit, name)

        def watched(*args, _original=original, _name=name, **settings):
            frozen.append(_name)
            return _original(*args, **settings)

        monkeypatch.setattr(scrc_fit, name, watched)

    class Watched:
        groups = draw(2).groups

        def __getattr__(self, name):
            assert set(frozen) == {"freeze_operating_point", "_choose_calibrator"}
            return getattr(draw(2), name)

    assert fit(calib=Watched()) == fit()
