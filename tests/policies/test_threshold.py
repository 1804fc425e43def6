"""The threshold policy: fitted where it says, decided strictly, recomputed exactly."""

from dataclasses import replace

import numpy as np
import pytest

from streetvision_core.errors import DataError, SchemaError
from streetvision_core.eval import (
    compute_mcc,
    fit_temperature,
    positive_probability,
    select_threshold_max_mcc,
)
from streetvision_core.eval.decisions import decisions
from streetvision_core.eval.thresholds import scan_margins
from streetvision_core.io import ArtifactStore
from streetvision_core.policies.threshold import (
    ThresholdPolicy,
    Thresholds,
    fit_threshold_policy,
    verify_thresholds,
)
from tests.bundle.chain import publish
from tests.bundle.made import CHECKPOINT, LOGITS, Labelled, draw


@pytest.fixture(scope="module")
def fitted():
    select, calib = draw(1), draw(2)
    thresholds = fit_threshold_policy(select, calib, checkpoint_version=CHECKPOINT, logits_version=LOGITS)
    return thresholds, select, calib


def test_the_temperature_comes_from_val_select_and_the_exact_threshold_from_val_calib(fitted):
    thresholds, select, calib = fitted
    policy = thresholds.policy
    _, mcc = select_threshold_max_mcc(calib.logits, calib.labels)
    assert policy.temperature == fit_temperature(select.logits, select.labels)
    assert policy.threshold == pytest.approx(positive_probability([policy.margin / policy.temperature])[0])
    assert policy.val_calib.metrics["mcc"] == pytest.approx(mcc)
    assert policy.plateau_low <= policy.threshold < policy.plateau_high
    assert policy.val_select.nll_after <= policy.val_select.nll_before
    assert (policy.val_calib.roadwork, policy.val_calib.n) == (int(calib.labels.sum()), 200)


def test_a_temperature_that_val_select_does_not_determine_changes_no_decision():
    """A separated val_select would sharpen without end, until every probability is 0 or 1."""
    separated = Labelled(np.array([[9, -9], [8, -8], [-8, 8], [-9, 9]], np.float32), np.array([0, 0, 1, 1]))
    calib = draw(2, shift=6.0)
    fitted = fit_threshold_policy(separated, calib, checkpoint_version=CHECKPOINT, logits_version=LOGITS)
    best = scan_margins(calib.logits, calib.labels).mcc
    assert fitted.policy.temperature == 1.0
    assert fitted.policy.val_calib.metrics["mcc"] == pytest.approx(best)
    folded = fitted.policy.point.fold(calib.logits)
    said = [one == "roadwork" for one in fitted.policy.decide(folded)]
    assert compute_mcc(calib.labels, said) == pytest.approx(best)


def test_margins_that_saturate_as_probabilities_are_told_apart():
    labels = np.array([0, 0, 0, 1, 1, 1])
    margins = np.array([38.0, 39, 40, 60, 61, 62], np.float32)
    choice = scan_margins(margins, labels)
    assert (choice.mcc, choice.threshold) == (1.0, 50.0)


def test_a_margin_at_the_operating_point_is_not_roadwork():
    margins = [0.0, np.nextafter(0.0, 1), -1.0, 1.0]
    assert decisions(margins) == ("none", "roadwork", "none", "roadwork")
    assert decisions(margins, accepted=[False, True, True, False]) == ("defer", "roadwork", "none", "defer")


def test_folded_logits_are_decided_as_the_margin_that_was_fitted(fitted):
    thresholds, select, calib = fitted
    policy = thresholds.policy
    for one in (select, calib):
        above = one.logits[:, 1] - one.logits[:, 0] > policy.margin
        assert policy.decide(policy.point.fold(one.logits)) == tuple(
            np.where(above, "roadwork", "none").tolist()
        )


def test_thresholds_round_trip_through_the_store(fitted, tmp_path):
    thresholds, _, _ = fitted
    published = publish(ArtifactStore(tmp_path), "thresholds", thresholds.to_artifact(), inputs={})
    assert Thresholds.from_artifact(published) == thresholds


def test_what_was_fitted_verifies(fitted):
    assert verify_thresholds(*fitted) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [("temperature", 1.0), ("threshold", 0.5), ("plateau_low", 0.0), ("plateau_high", 1.0)],
)
def test_a_changed_number_is_found_when_fitted_again(fitted, field, value):
    thresholds, select, calib = fitted
    changed = replace(thresholds, policy=thresholds.policy.model_copy(update={field: value}))
    faults = verify_thresholds(changed, select, calib)
    assert len(faults) == 1
    assert field in faults[0]


def test_a_changed_sweep_and_other_logits_are_found(fitted):
    thresholds, select, calib = fitted
    assert verify_thresholds(replace(thresholds, sweep=thresholds.sweep[:-1]), select, calib)
    assert verify_thresholds(thresholds, select, draw(3))
    assert verify_thresholds(thresholds, draw(3), calib)


@pytest.mark.parametrize(
    "change",
    [
        {"schema_version": 2}, {"unknown": 1}, {"threshold": 1.0}, {"temperature": 0.0}, {"type": "gate"},
        {"temperature": "1"}, {"fitted_on": {}},
    ],
)  # fmt: skip
def test_a_record_that_is_not_of_this_version_is_refused(fitted, change):
    content = {**fitted[0].policy.model_dump(), **change}
    with pytest.raises(SchemaError, match=r"thresholds\.json"):
        ThresholdPolicy.from_json(content, where="thresholds.json")


def test_constant_logits_give_a_policy_that_says_it_is_degenerate():
    calib = replace(draw(2), logits=np.zeros((200, 2), np.float32))
    thresholds = fit_threshold_policy(draw(1), calib, checkpoint_version=CHECKPOINT, logits_version=LOGITS)
    assert thresholds.policy.degeneracies()


def test_logits_that_no_threshold_can_use_are_an_error():
    """All roadwork at probability 0 and all none at 1: the best answer is never roadwork."""
    labels = np.array([1, 0] * 20)
    margins = np.where(labels == 1, -9000.0, 9000.0).astype(np.float32)
    calib = Labelled(np.stack([-margins / 2, margins / 2], axis=1), labels)
    with pytest.raises(DataError, match="between 0 and 1"):
        fit_threshold_policy(draw(1), calib, checkpoint_version=CHECKPOINT, logits_version=LOGITS)
