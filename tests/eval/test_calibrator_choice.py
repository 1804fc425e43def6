"""The calibrator is chosen by what it does to images it was not fitted on."""

import numpy as np
import pytest

from streetvision_core.errors import ConfigError, DataError
from streetvision_core.eval import calibration
from streetvision_core.eval.calibration import FITS, choose_calibrator
from streetvision_core.eval.calibrators import METHODS


def draw(seed=0, n=400, *, distort=lambda true: 2.5 * true):
    """Margins [N] that are distorted true log-odds, and labels that follow the true ones."""
    random = np.random.default_rng(seed)
    true = random.normal(-0.5, 2, n)
    return distort(true), random.random(n) < 1 / (1 + np.exp(-true))


def test_the_chosen_one_is_fitted_on_all_images_and_every_method_is_judged():
    margins, labels = draw()
    choice = choose_calibrator(margins, labels)
    assert choice.calibrator == FITS[choice.calibrator.method](margins, labels)
    assert [candidate.method for candidate in choice.judged] == list(METHODS)
    assert min(candidate.excess for candidate in choice.judged) == 0
    assert all(candidate.standard_error > 0 for candidate in choice.judged if candidate.excess > 0)


def test_the_simplest_within_one_standard_error_of_the_best_is_taken():
    for seed in range(8):
        choice = choose_calibrator(*draw(seed, 200))
        close = [
            candidate.method for candidate in choice.judged if candidate.excess <= candidate.standard_error
        ]
        assert choice.calibrator.method == close[0]


def test_the_loss_is_that_of_images_left_out():
    """Against a plain loop over the same folds."""
    from sklearn.metrics import log_loss
    from sklearn.model_selection import StratifiedKFold

    margins, labels = draw(n=200)
    left_out = np.empty(200)
    for fitting, judging in StratifiedKFold(4, shuffle=True, random_state=3).split(labels, labels):
        left_out[judging] = FITS["platt"](margins[fitting], labels[fitting]).apply(margins[judging])
    judged = {
        candidate.method: candidate
        for candidate in choose_calibrator(margins, labels, folds=4, seed=3).judged
    }
    assert judged["platt"].nll == pytest.approx(log_loss(labels, left_out))


def test_the_same_seed_gives_the_same_choice():
    assert choose_calibrator(*draw(), seed=4) == choose_calibrator(*draw(), seed=4)


def test_no_group_is_in_two_folds(monkeypatch):
    margins, labels = draw(n=90)
    groups = np.array([f"g{i // 3}" for i in range(90)])
    seen = []
    original = calibration.split_folds

    def watched(*args, **settings):
        for fitting, judging in original(*args, **settings):
            seen.append((set(groups[fitting]), set(groups[judging])))
            yield fitting, judging

    monkeypatch.setattr(calibration, "split_folds", watched)
    choose_calibrator(margins, labels, groups=groups)
    assert len(seen) == 5
    assert all(not fitting & judging for fitting, judging in seen)
    assert set().union(*(judging for _, judging in seen)) == set(groups)


def test_the_standard_error_is_that_of_the_mean_of_independent_groups():
    values = np.random.default_rng(0).normal(5, 2, 300)
    alone = calibration._standard_error(values, np.arange(300))
    assert alone == pytest.approx(values.std(ddof=1) / np.sqrt(300))
    copies = calibration._standard_error(np.repeat(values, 4), np.repeat(np.arange(300), 4))
    assert copies == pytest.approx(alone)


def test_copies_in_one_group_do_not_make_isotonic_look_good():
    """Ungrouped, the copies of an image are in both parts, and the most flexible fit has seen them all."""
    margins, labels = draw(n=60)
    repeated, of = np.repeat(margins, 10), np.repeat(labels, 10)
    groups = np.repeat([f"g{i}" for i in range(60)], 10)
    assert choose_calibrator(repeated, of).calibrator.method == "isotonic"
    assert choose_calibrator(repeated, of, groups=groups).calibrator.method != "isotonic"


def test_separated_images_and_constant_scores_get_a_calibrator():
    margins, labels = np.linspace(-2, 2, 40), np.arange(40) >= 20
    assert (choose_calibrator(margins, labels).calibrator.apply(margins) > 0.5).tolist() == labels.tolist()
    constant = choose_calibrator(np.full(100, 3.0), np.arange(100) < 30).calibrator
    assert constant.method == "platt"
    assert constant.apply([3.0])[0] == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize(
    ("labels", "settings", "error", "fragment"),
    [
        ([1] * 40, {}, DataError, "both classes to choose a calibration"),
        ([1] * 4 + [0] * 36, {}, DataError, "at least 5 images or groups of Roadwork for 5 folds"),
        ([1] * 20 + [0] * 20, {"folds": 1}, ConfigError, "at least 2 folds"),
        ([1] * 20 + [0] * 20, {"groups": ["a"] * 39}, DataError, "40 labels and 39 groups"),
        ([1] * 20 + [0] * 20, {"groups": ["a", "b"] * 20}, DataError, "of Roadwork for 5 folds"),
    ],
)
def test_what_cannot_be_cross_validated_is_refused(labels, settings, error, fragment):
    with pytest.raises(error) as caught:
        choose_calibrator(np.linspace(-1, 1, 40), labels, **settings)
    assert fragment in str(caught.value)
