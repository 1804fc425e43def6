"""The promises of `scrc`, from logits to decisions, on images whose true risk is known.

An image has a margin of 8 u or -8 u, with u uniform on [0, 1] and roadwork said of 40 %, and the answer by
its sign is wrong with probability curve(u) (`curves`): the true risk of any policy is an integral over u.
Images of a group repeat its first one with probability sqrt(0.8), so that pairs correlate by 0.8.

Everything is fitted by `fit_scrc` and decided by its policy. val_calib is drawn anew in every trial,
val_select `FREEZES` times, and what follows from it alone is computed once. Seeds are fixed; a rate that may
be delta passes up to delta + 3 standard errors. The short form has 400 trials a case, or 1,000, the long
one five times as many.
"""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest

from streetvision_core.policies import scrc_fit
from streetvision_core.policies.config import ScrcConfig
from streetvision_core.policies.scrc_fit import fit_scrc
from tests.claims.curves import ALPHA, CURVES, allowed

VERSIONS = {"checkpoint_version": "c" * 64, "logits_version": "d" * 64}
FREEZES, SELECT = 5, 600
SHARE, SCALE, CORRELATION = 0.4, 8.0, 0.8
U = (np.arange(20_000) + 0.5) / 20_000
MARGINS = SCALE * np.concatenate([-U, U])
WEIGHTS = np.repeat([(1 - SHARE) / U.size, SHARE / U.size], U.size)


@dataclass(frozen=True, eq=False)
class Pictures:
    logits: np.ndarray
    labels: np.ndarray
    groups: tuple[str, ...]


def pictures(sure, predicted, wrong, group):
    margins = SCALE * np.where(predicted, sure, -sure)
    logits = np.stack([-margins / 2, margins / 2], axis=1).astype(np.float32)
    return Pictures(logits, (predicted ^ wrong).astype(np.int64), tuple(map(str, group.tolist())))


def draw(rng, curve, *, groups, frames=1, alternating=False):
    number = groups * frames
    first = np.repeat(np.arange(groups) * frames, frames)
    shown = np.where(rng.random(number) < np.sqrt(CORRELATION), first, np.arange(number))
    sure = rng.random(number)
    wrong = rng.random(number) < curve(sure)
    predicted = np.arange(number) % 2 == 0 if alternating else rng.random(number) < SHARE
    return pictures(sure[shown], predicted[shown], wrong[shown], first)


@dataclass(frozen=True)
class Truth:
    """The outcome of a policy over all images: true risk by answer, that of all, and its answers."""

    none: float
    roadwork: float
    risk: float
    coverage: float


def truth_of(policy, curve):
    """Integrate the policy's decisions over u."""
    folded = policy.point.fold(np.stack([-MARGINS / 2, MARGINS / 2], axis=1))
    decisions = np.array(policy.decide(folded))
    shown = np.concatenate([curve(U), 1 - curve(U)])  # how likely roadwork is
    mass = {word: WEIGHTS[decisions == word].sum() for word in ("none", "roadwork")}
    lost = {
        "none": (WEIGHTS * shown)[decisions == "none"].sum(),
        "roadwork": (WEIGHTS * (1 - shown))[decisions == "roadwork"].sum(),
    }
    by_word = {word: lost[word] / mass[word] if mass[word] else 0.0 for word in mass}
    answered = sum(mass.values())
    return Truth(**by_word, risk=sum(lost.values()) / answered if answered else 0.0, coverage=answered)


def simulate(monkeypatch, curve, config, *, trials, groups, frames=1, alternating=False, named=True, seed=0):
    """The truth about the policy of each trial; policies with the same thresholds are integrated once."""
    rng, truths = np.random.default_rng(seed), []
    for _ in range(FREEZES):
        select, known = draw(rng, curve, groups=SELECT), {}
        with monkeypatch.context() as once:
            for name in ("freeze_operating_point", "_choose_calibrator"):
                made = cache(getattr(scrc_fit, name))
                once.setattr(scrc_fit, name, made)
            for _ in range(trials // FREEZES):
                calib = draw(rng, curve, groups=groups, frames=frames, alternating=alternating)
                if not named:
                    calib = replace(calib, groups=tuple(map(str, range(len(calib.groups)))))
                policy = fit_scrc(select, calib, **VERSIONS, config=config, groups_known=named).policy
                alone = "images taken as independent" in policy.guarantee.partition(". Conditions")[0]
                assert alone != named
                chosen = tuple(certificate.threshold for certificate in policy.certificates)
                if chosen not in known:
                    known[chosen] = truth_of(policy, curve)
                truths.append(known[chosen])
    return truths


def rate(truths, broken):
    return np.mean([broken(truth) for truth in truths])


@pytest.mark.parametrize("name", CURVES)
def test_on_correlated_frames_the_whole_policy_breaks_its_promise_no_more_often_than_delta(
    monkeypatch, name, trials
):
    """250 groups of 8 frames; where the data does not name them, the flat curve breaks it more often.

    The sentence of that promise says then that images were taken as independent.
    """
    settings = {"trials": trials // 5, "groups": 250, "frames": 8}
    curve, config = CURVES[name], ScrcConfig(alpha=ALPHA, delta=0.1)
    truths = simulate(monkeypatch, curve, config, **settings)
    assert rate(truths, lambda truth: truth.risk > ALPHA) <= allowed(0.1, len(truths))
    if name == "steep":
        assert np.mean([truth.coverage for truth in truths]) > 0.3
    if name == "flat":
        fooled = simulate(monkeypatch, curve, config, named=False, **settings)
        assert rate(fooled, lambda truth: truth.risk > ALPHA) > allowed(0.1, len(fooled))


@pytest.mark.parametrize("delta", [0.05, 0.1])
@pytest.mark.parametrize("name", CURVES)
def test_misses_and_false_alarms_are_bounded_together(monkeypatch, name, delta, trials):
    """1,000 groups: either side's true risk is above its alpha no more often than delta."""
    curve, limits = CURVES[name], {"alpha_miss": 0.05, "alpha_alarm": 0.05}
    config = ScrcConfig(promise="two_sided", delta=delta, **limits)
    truths = simulate(monkeypatch, curve, config, trials=trials // 5, groups=1000)
    broken = rate(truths, lambda truth: truth.none > 0.05 or truth.roadwork > 0.05)
    assert broken <= allowed(delta, len(truths))
    if name == "steep":
        assert np.mean([truth.coverage for truth in truths]) > 0.3


def test_two_promises_hold_together_because_each_gets_half_of_delta(monkeypatch, trials):
    """The flat curve, with as many groups for an answer as its share of delta takes without an error.

    A promise is then broken as often as it may be: two of 0.1 each are broken more often than 0.1.
    """
    broken = {}
    for delta, groups in ((0.1, 60), (0.2, 46)):
        config = ScrcConfig(promise="two_sided", delta=delta)
        truths = simulate(
            monkeypatch, CURVES["flat"], config, trials=trials // 2, groups=2 * groups, alternating=True
        )
        broken[delta] = rate(truths, lambda truth: truth.none > ALPHA or truth.roadwork > ALPHA)
    assert broken[0.1] <= allowed(0.1, trials // 2)
    assert broken[0.2] > allowed(0.1, trials // 2)


@pytest.mark.parametrize("name", ["steep", "hard"])
def test_the_promise_about_the_mean_holds_in_the_mean_and_only_there(monkeypatch, name, trials):
    """At most alpha of all images are answered wrongly, and far more of the answered ones."""
    config = ScrcConfig(promise="expected", alpha=ALPHA)
    truths = simulate(monkeypatch, CURVES[name], config, trials=trials // 5, groups=1000)
    lost = np.array([truth.risk * truth.coverage for truth in truths])
    assert lost.mean() <= ALPHA + 3 * lost.std() / np.sqrt(lost.size)
    assert lost.mean() > 0.5 * ALPHA
    assert rate(truths, lambda truth: truth.risk > ALPHA) > allowed(0.1, len(truths))


@pytest.mark.parametrize("promise", ["error", "two_sided"])
@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
def test_with_too_few_groups_the_policy_always_defers(alpha, promise):
    """It does however many frames they have, though no answer is wrong; with one group more it answers."""
    limits = {"alpha": alpha, "alpha_miss": alpha, "alpha_alarm": alpha}
    config = ScrcConfig(promise=promise, **limits)
    level = 0.1 if promise == "error" else 0.05
    needed = int(np.ceil(np.log(level) / np.log(1 - alpha)))

    def policy_of(groups, *, seed):
        rng = np.random.default_rng(seed)
        select = draw(rng, np.zeros_like, groups=SELECT)
        group = np.repeat(np.arange(groups), 5)
        # Sure answers of one word, so that all groups count for one certificate.
        calib = pictures(
            0.9 + rng.random(group.size) / 10, np.zeros(group.size, bool), np.zeros(group.size, bool), group
        )
        return fit_scrc(select, calib, **VERSIONS, config=config)

    for seed in range(5):
        few = policy_of(needed - 1, seed=seed).policy
        assert truth_of(few, np.zeros_like).coverage == 0
        assert f"at least {needed} groups of val_calib accepted without" in few.degeneracies()[0]
        assert "none" in set(policy_of(needed, seed=seed).policy.decide(MARGINS))
