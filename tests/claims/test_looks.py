"""Repeated looks: a budget keeps the promise of whichever certificate is kept; a best run is said to be one.

Ten models that are equally good, all a hair worse than alpha, are certified on the same images, and the first
certificate that is given is kept: each is wrong. Thirty runs that are equally good are judged by val_test.
"""

import numpy as np
import pytest

from streetvision_core.errors import ConfigError
from streetvision_core.eval.metrics import compute_mcc
from streetvision_core.eval.risk_control import certify_selective_risk
from streetvision_core.io import ArtifactStore, system
from streetvision_core.io.ledger import Subject, look_text, record_look
from streetvision_core.policies.config import ScrcConfig
from streetvision_core.policies.scrc import share_of, sides_of
from tests.claims.curves import ALPHA, CURVES, allowed, draw

MODELS, UNITS, DELTA = 10, 300, 0.1
GRID = tuple(np.linspace(0.7, 0.0, 15))
RUNS, IMAGES = 30, 297


def broken(config, *, trials, seed=0):
    """The share of trials in which some of the models is certified, as `config` certifies one."""
    rng, (side,) = np.random.default_rng(seed), sides_of(config)

    def certified():
        sure, wrong = draw(rng, CURVES["flat"], UNITS)
        given = certify_selective_risk(sure, wrong, thresholds=GRID, alpha=side.alpha, delta=side.delta)
        return given.threshold is not None

    return np.mean([any(certified() for _ in range(MODELS)) for _ in range(trials)])


def test_any_of_ten_certificates_on_the_same_images_breaks_the_promise_unless_looks_divide_delta(trials):
    single = ScrcConfig(promise="error", alpha=ALPHA, delta=DELTA)
    number = trials // 10
    assert broken(single, trials=number) > 0.3
    budgeted = single.model_copy(update={"looks": MODELS})
    assert broken(budgeted, trials=number) <= allowed(DELTA, number)


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(system, "THIS_SYSTEM", system.System(lambda _: None))
    return ArtifactStore(tmp_path / "store")


def looked(store, step, number, images, *, share=None):
    subject = Subject(step=step, checkpoint=f"{number:064x}", policy="0" * 64)
    return record_look(store, subject, images, run_id=f"run{number}", share=share)


def names(count):
    return [f"{number:064x}" for number in range(count)]


def test_the_certificate_beyond_the_looks_that_delta_was_divided_by_is_refused(store):
    """It is refused even where the images are not quite the same."""
    share = share_of(ScrcConfig(delta=DELTA, looks=MODELS))
    for number in range(MODELS):
        assert looked(store, "scrc", number, names(UNITS + number), share=share).number == number + 1
    with pytest.raises(ConfigError, match=r"this one takes 0\.01 of delta"):
        looked(store, "scrc", MODELS, names(UNITS + MODELS), share=share)


def mccs(rng, images, *, error=0.06):
    """The MCC of so many equal runs on the same images."""
    labels = rng.random(images) < 0.5
    wrong = rng.random((RUNS, images)) < error
    return np.array([compute_mcc(y_true=labels, y_pred=labels ^ mistakes) for mistakes in wrong])


def test_the_best_run_by_val_test_is_too_good_and_says_which_look_it_is(store, trials):
    """Chosen by val_select, which is what `streetvision runs` shows, the same figure is not too good."""
    rng, number, true = np.random.default_rng(1), trials // 20, 1 - 2 * 0.06
    by_test, by_select = [], []
    for _ in range(number):
        select, test = mccs(rng, IMAGES), mccs(rng, IMAGES)
        by_test.append(test.max() - true)
        by_select.append(test[select.argmax()] - true)
    assert np.mean(by_test) > 0.04
    assert abs(np.mean(by_select)) <= 3 * np.std(by_select) / np.sqrt(number)
    for run in range(RUNS):
        last = looked(store, "evaluation", run, names(IMAGES))
    assert look_text(last.metrics) == "look number 30"
    again = looked(store, "evaluation", 4, names(IMAGES))  # the best of them, published again
    assert look_text(again.metrics) == "look number 5 of 30 so far"
