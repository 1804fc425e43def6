"""The rule of the threshold is configuration: recorded with the policy, and used again to verify it."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

from streetvision_core.errors import SchemaError
from streetvision_core.eval.objectives import Cost, FBeta, Mcc, RecallAtLeast
from streetvision_core.eval.optimism import choose_margin
from streetvision_core.eval.thresholds import scan_margins
from streetvision_core.policies.config import RecordedThresholds
from streetvision_core.policies.threshold import ThresholdPolicy, fit_threshold_policy, verify_thresholds

OTHERS = [
    RecordedThresholds(objective="f_beta", beta=0.5),
    RecordedThresholds(objective="cost", false_alarm_cost=5.0),
    RecordedThresholds(objective="recall_at_least", min_recall=0.98),
    RecordedThresholds(at="bootstrap_median", resamples=50, seed=3),
]


# Margins are so far off that each of these is adopted.
@dataclass(frozen=True)
class Labelled:
    logits: np.ndarray
    labels: np.ndarray
    groups: tuple[str, ...]


def draw(seed, n=200, *, shift=2.5):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, n)
    margins = 3 * (labels - 0.5) + random.normal(0, 1.5, n) + shift
    groups = tuple(f"sequence {number // 2}" for number in range(n))
    return Labelled(np.stack([-margins / 2, margins / 2], axis=1).astype(np.float32), labels, groups)


def fit(config=None):
    given = {} if config is None else {"config": config}
    return fit_threshold_policy(
        draw(1), draw(2), checkpoint_version="c" * 64, logits_version="d" * 64, **given
    )


def test_the_defaults_give_the_exact_mcc_threshold():
    policy = fit().policy
    assert fit(RecordedThresholds()).policy == policy
    calib = draw(2)
    choice = scan_margins(calib.logits, calib.labels)
    assert (policy.margin, policy.val_calib.score) == (choice.threshold, choice.mcc)
    assert policy.val_calib.metrics["mcc"] == choice.mcc


@pytest.mark.parametrize("config", OTHERS, ids=lambda config: f"{config.objective}-{config.at}")
def test_the_policy_is_fitted_as_configured_says_so_and_verifies(config):
    fitted = fit(config)
    calib = draw(2)
    chosen = choose_margin(
        calib.logits, calib.labels, objective=config.objective.chosen(), at=config.at,
        resamples=config.resamples, seed=config.seed, groups=calib.groups,
    )  # fmt: skip
    policy = fitted.policy
    assert policy.chosen_by == config
    assert policy.margin == chosen.choice.threshold != fit().policy.margin
    assert (policy.val_calib.score, policy.val_calib.optimism) == (chosen.choice.score, chosen.optimism)
    assert verify_thresholds(fitted, draw(1), calib) == []


def test_the_optimism_is_a_metric_of_the_artifact():
    metrics = fit().to_artifact().metrics
    assert 0 < metrics["optimism"] < 0.1
    assert metrics["score"] == metrics["val_calib_mcc"]


def test_a_record_that_tells_another_rule_is_found_when_fitted_again():
    fitted = fit()
    for rule in OTHERS:
        changed = replace(fitted, policy=fitted.policy.model_copy(update={"chosen_by": rule}))
        assert verify_thresholds(changed, draw(1), draw(2))


@pytest.mark.parametrize(
    "change",
    [
        {"objective": {"kind": "accuracy"}},
        {"at": "left"},
        {"objective": {"kind": "f_beta", "beta": 0.0}},
        {"beta": 1.0},
        {"unknown": 1},
        {"seed": -1},
    ],
)
def test_a_record_with_an_impossible_rule_is_refused(change):
    content = json.loads(json.dumps(fit().policy.model_dump()))
    assert ThresholdPolicy.from_json(content, where="thresholds.json") == fit().policy
    content["chosen_by"] |= change
    with pytest.raises(SchemaError, match=rf"chosen_by\.{next(iter(change))}"):
        ThresholdPolicy.from_json(content, where="thresholds.json")


def test_every_objective_and_place_can_be_configured():
    made = [
        RecordedThresholds(
            objective=name, beta=2.0, miss_cost=3.0, false_alarm_cost=4.0, min_recall=0.5
        ).objective.chosen()
        for name in ("mcc", "f_beta", "cost", "recall_at_least")
    ]
    assert made == [Mcc(), FBeta(2.0), Cost(miss=3.0, false_alarm=4.0), RecallAtLeast(0.5, delta=0.1)]
    places = ["midpoint", "bootstrap_median"]
    assert [RecordedThresholds(at=place).at for place in places] == places


@pytest.mark.parametrize("setting", [{"objective": "accuracy"}, {"at": "left"}])
def test_another_objective_or_place_is_refused(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        RecordedThresholds(**setting)


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("beta", {"objective": {"kind": "f_beta", "beta": 0}}),
        ("miss", {"objective": {"kind": "cost", "miss": float("inf")}}),
        ("false_alarm", {"objective": {"kind": "cost", "false_alarm": -1}}),
        ("recall", {"objective": {"kind": "recall_at_least", "recall": 1.1}}),
        ("a recall of 1", {"objective": {"kind": "recall_at_least", "recall": 1.0}}),
        ("delta", {"objective": {"kind": "recall_at_least", "delta": 1.0}}),
        ("at: midpoint", {"objective": {"kind": "recall_at_least"}, "at": "bootstrap_median"}),
        ("beta", {"objective": {"kind": "mcc", "beta": 2.0}}),
        ("resamples", {"resamples": 9}),
        ("seed", {"seed": -1}),
        ("other", {"other": 1}),
    ],
)
def test_a_setting_outside_its_bounds_or_of_another_objective_is_refused(name, setting):
    with pytest.raises(ValueError, match=name):
        RecordedThresholds(**setting)
