"""The unit of a certificate of `scrc`, and its words where it promises little.

Groups are of lognormal size, and the larger a group the more often its answers are wrong. Images and curves
are those of `test_scrc`. Seeds are fixed; a rate that may be delta passes up to delta + 3 standard errors.
"""

from functools import cache

import numpy as np
import pytest

from streetvision_core.eval.calibration import FITS, CalibratorChoice
from streetvision_core.eval.ranking import rising_p_value
from streetvision_core.eval.risk_control import one_per_group
from streetvision_core.policies import scrc_fit
from streetvision_core.policies.config import ScrcConfig
from streetvision_core.policies.scrc_fit import fit_scrc
from tests.claims.curves import ALPHA, CURVES, allowed
from tests.claims.test_scrc import FREEZES, SELECT, SHARE, VERSIONS, draw, pictures

CAP = 20
BY_IMAGE = {"kind": "image", "cap": CAP}
# Groups on average are answered well enough, images are not: long groups are wrong more often.
EASY, HARD = 0.005, 0.079


def draw_sizes(rng, groups):
    return np.ceil(rng.lognormal(1.5, 1.2, groups)).astype(int)


def risk_in(sizes):
    """The chance that an answer in a group of such a size is wrong, whatever its confidence."""
    return EASY + (HARD - EASY) * (np.minimum(sizes, CAP) / CAP)


def draw_unequal(rng, groups):
    sizes = draw_sizes(rng, groups)
    group = np.repeat(np.arange(groups), sizes)
    wrong = rng.random(group.size) < risk_in(sizes)[group]
    return pictures(rng.random(group.size), rng.random(group.size) < SHARE, wrong, group)


@cache
def true_risks():
    """The risk of an image of a random group, and of any image where a group counts as CAP at the most."""
    sizes = draw_sizes(np.random.default_rng(99), 1_000_000)
    weights = np.minimum(sizes, CAP)
    return {"group": risk_in(sizes).mean(), "image": np.average(risk_in(sizes), weights=weights)}


def certified_share(monkeypatch, unit, *, groups, trials, seed=0):
    """The share of trials that certify these images; their risk is the same at every confidence."""
    rng, certified = np.random.default_rng(seed), []
    config = ScrcConfig(alpha=ALPHA, unit=unit)
    for _ in range(FREEZES):
        select = draw(rng, CURVES["hard"], groups=SELECT)
        with monkeypatch.context() as once:
            for name in ("freeze_operating_point", "_choose_calibrator"):
                once.setattr(scrc_fit, name, cache(getattr(scrc_fit, name)))
            for _ in range(trials // FREEZES):
                policy = fit_scrc(select, draw_unequal(rng, groups), **VERSIONS, config=config).policy
                certified.append(not policy.degeneracies())
    return np.mean(certified)


@pytest.mark.parametrize("groups", [300, 1000])
def test_of_images_the_promise_holds_where_long_videos_are_harder(monkeypatch, groups, trials):
    """One image of each group certifies what is true of groups, and false of images."""
    some = trials // (10 if groups == 300 else 20)
    assert true_risks()["group"] < ALPHA < true_risks()["image"]
    assert certified_share(monkeypatch, {"kind": "group"}, groups=groups, trials=some) > allowed(0.1, some)
    assert certified_share(monkeypatch, BY_IMAGE, groups=groups, trials=some) <= allowed(0.1, some)


def test_of_a_thinned_sample_every_image_comes_as_often_as_its_group_weighs(trials):
    """A member of a group of s comes with probability min(s, cap) / (cap s)."""
    sizes = np.array([1, 2, 7, 20, 50])
    names = np.repeat(np.arange(sizes.size), sizes).astype(str)
    came = np.zeros(names.size)
    for seed in range(trials):
        came[one_per_group(names, seed=seed, cap=CAP)] += 1
    expected = np.repeat(np.minimum(sizes, CAP) / (CAP * sizes), sizes)
    assert (np.abs(came / trials - expected) <= 5 * np.sqrt(expected / trials)).all()


def test_a_cap_leaves_many_more_of_300_groups_than_none(trials):
    """About 139 with cap 20 for sizes whose median is 9, and about 30 where nothing is capped."""
    rng, left = np.random.default_rng(1), {"capped": [], "whole": []}
    for seed in range(trials // 100):
        sizes = np.ceil(rng.lognormal(np.log(7), 1.0, 300)).astype(int)
        names = np.repeat(np.arange(300), sizes).astype(str)
        for name, cap in (("capped", CAP), ("whole", int(sizes.max()))):
            left[name].append(one_per_group(names, seed=seed, cap=cap).size)
    assert 125 < np.mean(left["capped"]) < 155
    assert 10 < np.mean(left["whole"]) < 45


def rare(seed, *, groups, unsure):
    """One image in 50 shows roadwork; the model is sure of all that do not, and of few that do."""
    rng = np.random.default_rng(seed)
    shown = rng.random(groups) < 0.02
    missed = shown & (rng.random(groups) < unsure)
    return pictures(0.3 + 0.7 * rng.random(groups), shown & ~missed, missed, np.arange(groups))


def test_at_one_in_fifty_a_kept_promise_on_all_errors_is_called_empty(trials):
    """It finds hardly any roadwork and keeps its word; two_sided, below the prevalence, is not empty."""
    empty, recalls, two_sided = [], [], []
    select = rare(0, groups=2000, unsure=0.9)
    for seed in range(1, trials // 100):
        calib = rare(seed, groups=2000, unsure=0.9)
        policy = fit_scrc(select, calib, **VERSIONS, config=ScrcConfig(alpha=ALPHA)).policy
        decided = np.array(policy.decide(policy.point.fold(calib.logits)))
        assert np.mean((decided == "none") & (calib.labels == 1)) <= ALPHA
        recalls.append(np.mean(decided[calib.labels == 1] == "roadwork"))
        empty.append(any("always answering none" in text for text in policy.degeneracies()))
        other = {"kind": "two_sided", "miss": 0.01, "alarm": 0.3}
        sides = fit_scrc(select, calib, **VERSIONS, config=ScrcConfig(promise=other)).policy
        two_sided.append(bool(sides.empty()))
    assert np.mean(recalls) < 0.2
    assert np.mean(empty) == 1
    assert not any(two_sided)


def quantised(seed, *, steps, size, spread=2.0):
    """Margins that are multiples of 1 / steps, as those of an int8 model."""
    rng = np.random.default_rng(seed)
    labels = rng.random(size) < 0.4
    margins = np.round((np.where(labels, 2.2, -2.2) + rng.normal(0, spread, size)) * steps) / steps
    return pictures(np.abs(margins) / 8, margins > 0, (margins > 0) != labels, np.arange(size))


def differing_fits(monkeypatch, method, *, schema, fits):
    """The number of fits whose policy decides units of val_calib otherwise than they were counted."""
    differ = 0
    fit = FITS[method]
    monkeypatch.setattr(
        scrc_fit,
        "_choose_calibrator",
        lambda images, _: CalibratorChoice(fit(images.logits, images.labels), ()),
    )
    for seed in range(fits):
        steps = (1, 2, 4, 8)[seed % 4]
        select, calib = quantised(seed, steps=steps, size=40), quantised(seed + 1000, steps=steps, size=300)
        policy = scrc_fit._freeze_and_certify(
            select,
            calib,
            scrc_fit._choose_calibrator(select, None),
            fitted_on=scrc_fit.FittedOn(phase1_checkpoint="c" * 64, val_calib_logits="d" * 64),
            config=scrc_fit.RecordedScrc(alpha=0.2),
            groups_known=True,
            schema=schema,
        )
        folded = policy.point.fold(calib.logits)
        near = folded.astype(np.float32)
        ways = (folded, near, np.nextafter(near, np.float32(99)), np.nextafter(near, np.float32(-99)))
        (counted,) = policy.certificates
        for logits in ways:
            decided = np.array(policy.decide(logits))
            wrong = (decided != "defer") & ((decided == "roadwork") != (calib.labels == 1))
            if (np.count_nonzero(decided != "defer"), np.count_nonzero(wrong)) != (counted.m, counted.k):
                differ += 1
                break
    return differ


@pytest.mark.parametrize("method", FITS)
def test_what_was_certified_is_what_decides_however_coarse_the_margins(monkeypatch, method, trials):
    """Decisions are the counted ones in float64, in float32 and one unit of rounding beside it."""
    assert differing_fits(monkeypatch, method, schema=2, fits=trials // 20) == 0


def test_thresholds_in_the_very_middle_were_decided_by_rounding(monkeypatch, trials):
    assert differing_fits(monkeypatch, "isotonic", schema=1, fits=trials // 20) > 0


def test_confidence_that_is_ordered_wrongly_is_said(trials):
    """Errors that rise are found in 9 of 10 sets of 300, flat ones in 1 of 20, falling ones hardly ever."""
    some, shares = trials // 10, {}
    for name, curve in {
        "rising": lambda u: 0.02 + 0.2 * u**2,
        "flat": CURVES["flat"],
        "falling": CURVES["hard"],
    }.items():
        rng = np.random.default_rng(7)
        p_values = []
        for seed in range(some):
            sure = rng.random(300)
            p_values.append(rising_p_value(sure, rng.random(300) < curve(sure), seed=seed))
        shares[name] = np.mean(np.array(p_values) <= 0.05)
    assert shares["rising"] > 0.9
    assert shares["flat"] <= allowed(0.05, some)
    assert shares["falling"] < 0.01


def test_the_page_of_a_wrongly_ordered_policy_says_so():
    """The same images with their errors turned around say nothing."""
    rng = np.random.default_rng(3)
    sure = rng.random(600)
    wrong, select = rng.random(600) < 0.3 * sure**2, draw(rng, CURVES["hard"], groups=SELECT)
    calib = pictures(sure, rng.random(600) < SHARE, wrong, np.arange(600))
    turned = pictures(1 - sure, rng.random(600) < SHARE, wrong, np.arange(600))
    promise, silent = (fit_scrc(select, images, **VERSIONS).policy.promise() for images in (calib, turned))
    assert "Confidence is ordered wrongly" in promise
    assert "ordered wrongly" not in silent
