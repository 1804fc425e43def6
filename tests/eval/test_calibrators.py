"""Three calibrators behind one interface: each is the one its paper describes, and JSON holds it."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streetvision_core.errors import DataError, SchemaError
from streetvision_core.eval.calibration import FITS, TEMPERATURE_BOUNDS, fit_temperature
from streetvision_core.eval.calibrators import (
    METHODS,
    Isotonic,
    Platt,
    Temperature,
    calibrator_from_json,
)

ALL = pytest.mark.parametrize("method", METHODS)
EVERYWHERE = np.array([-1e6, -800.0, -40, -3, -1, 0, 0.5, 2, 37, 800, 1e6])


def draw(seed=0, n=400, *, slope=1.0, intercept=0.0, levels=None):
    """Margins [N] and labels of which sigmoid(slope m + intercept) is the true probability."""
    random = np.random.default_rng(seed)
    margins = random.normal(0, 2, n)
    margins = np.round(margins * levels) / levels if levels else margins
    return margins, random.random(n) < 1 / (1 + np.exp(-(slope * margins + intercept)))


@ALL
def test_probabilities_are_probabilities_and_rise_with_the_margin(method):
    calibrated = FITS[method](*draw()).apply(EVERYWHERE)
    assert calibrated.dtype == np.float64
    assert ((calibrated >= 0) & (calibrated <= 1)).all()
    assert (np.diff(calibrated) >= 0).all()


@ALL
def test_two_logits_an_image_mean_the_same_as_their_margin(method):
    margins, labels = draw()
    logits = np.stack([-margins / 2, margins / 2], axis=1)
    fitted = FITS[method](logits, labels)
    assert fitted == FITS[method](margins, labels)
    assert fitted.apply(logits).tolist() == fitted.apply(margins).tolist()


@ALL
@pytest.mark.parametrize("levels", [None, 2])
def test_json_holds_all_of_it(method, levels):
    fitted = FITS[method](*draw(levels=levels))
    content = json.loads(json.dumps(fitted.to_json(), allow_nan=False))
    assert content["method"] == method == fitted.method
    again = calibrator_from_json(content, where="calibration.json")
    assert again == fitted
    assert again.apply(EVERYWHERE).tolist() == fitted.apply(EVERYWHERE).tolist()


@ALL
def test_the_parameters_are_few_enough_to_read(method):
    numbers = {"temperature": 1, "platt": 2, "isotonic": 200}[method]
    content = FITS[method](*draw(n=2000)).to_json()
    assert sum(len(value) if isinstance(value, list) else 1 for value in content.values()) - 1 <= numbers


@ALL
def test_separated_images_give_finite_parameters_and_keep_their_sides(method):
    margins, labels = np.array([-3.0, -2, -1, 1, 2, 3]), np.array([0, 0, 0, 1, 1, 1])
    fitted = FITS[method](margins, labels)
    assert np.isfinite(
        np.concatenate([np.ravel(v) for k, v in fitted.to_json().items() if k != "method"])
    ).all()
    assert ((fitted.apply(margins) > 0.5) == labels).all()
    assert ((fitted.apply(margins) > 0) & (fitted.apply(margins) < 1)).all()


@ALL
def test_a_model_that_is_always_wrong_is_not_turned_round(method):
    margins, labels = draw(slope=-1.0)
    calibrated = FITS[method](margins, labels).apply(np.sort(margins))
    assert (np.diff(calibrated) >= 0).all()


@ALL
def test_constant_scores_give_about_the_base_rate(method):
    fitted = FITS[method](np.full(100, 3.0), np.arange(100) < 30)
    expected = Temperature(1.0).apply([3.0])[0] if method == "temperature" else 0.3
    assert fitted.apply([3.0])[0] == pytest.approx(expected, abs=0.01)


@ALL
def test_one_class_is_refused_in_one_paragraph(method):
    with pytest.raises(DataError, match="images of both classes to fit a"):
        FITS[method]([1.0, 2.0, 3.0], [1, 1, 1])


@ALL
@pytest.mark.parametrize(
    ("logits", "labels", "fragment"),
    [
        ([1.0, float("nan")], [0, 1], "finite"),
        ([1.0, 2, 3], [0, 1], "3 logits and 2 labels"),
        ([], [], "least"),
    ],
)
def test_what_cannot_be_fitted_is_refused(method, logits, labels, fragment):
    with pytest.raises(DataError, match=fragment):
        FITS[method](logits, labels)


@ALL
@given(seed=st.integers(0, 1000), scale=st.floats(1e-3, 1e3), shift=st.floats(-50, 50))
def test_no_margins_make_a_fit_fail(method, seed, scale, shift):
    margins, labels = draw(seed, n=20)
    labels[:2] = [False, True]
    calibrated = FITS[method](margins * scale + shift, labels).apply(EVERYWHERE)
    assert np.isfinite(calibrated).all()
    assert (np.diff(calibrated) >= 0).all()


def test_temperature_is_the_fitted_one_and_1_where_the_images_determine_none():
    assert FITS["temperature"](*draw(slope=0.5)).temperature == fit_temperature(*draw(slope=0.5))
    assert fit_temperature([-1.0, 1.0], [0, 1]) == TEMPERATURE_BOUNDS[0]
    assert FITS["temperature"]([-1.0, 1.0], [0, 1]).temperature == 1.0


def test_platt_is_the_logistic_regression_on_platts_targets():
    from sklearn.linear_model import LogisticRegression

    margins, labels = draw(n=500, slope=0.6, intercept=-1.0)
    n1 = labels.sum()
    high, low = (n1 + 1) / (n1 + 2), 1 / (500 - n1 + 2)
    target = np.where(labels, high, low)
    twice = np.concatenate([margins, margins]).reshape(-1, 1)
    oracle = LogisticRegression(C=np.inf, tol=1e-10).fit(
        twice, np.repeat([1, 0], 500), sample_weight=np.concatenate([target, 1 - target])
    )
    fitted = FITS["platt"](margins, labels)
    assert fitted.slope == pytest.approx(oracle.coef_[0, 0], rel=1e-4)
    assert fitted.intercept == pytest.approx(oracle.intercept_[0], rel=1e-4)


def test_isotonic_is_that_of_scikit_learn_kept_off_0_and_1():
    from sklearn.isotonic import IsotonicRegression

    margins, labels = draw(levels=4)
    oracle = IsotonicRegression(y_min=1 / 402, y_max=401 / 402, out_of_bounds="clip").fit(margins, labels)
    calibrated = FITS["isotonic"](margins, labels).apply(EVERYWHERE)
    np.testing.assert_allclose(calibrated, oracle.predict(EVERYWHERE), atol=1e-12)
    assert (calibrated[0], calibrated[-1]) == (1 / 402, 401 / 402)


@pytest.mark.parametrize(
    "content",
    [
        None, [], {}, {"method": "spline", "knots": []}, {"method": "platt", "slope": 1.0},
        {"method": "platt", "slope": 1.0, "intercept": 0.0, "note": ""},
        {"method": "platt", "slope": "1.0", "intercept": 0.0},
        {"method": "platt", "slope": True, "intercept": 0.0},
        {"method": "platt", "slope": float("nan"), "intercept": 0.0},
        {"method": "platt", "slope": [1.0], "intercept": 0.0},
        {"method": "platt", "slope": -1.0, "intercept": 0.0},
        {"method": "temperature", "temperature": 0.0},
        {"method": "isotonic", "margins": 1.0, "probabilities": [0.5]},
        {"method": "isotonic", "margins": [], "probabilities": []},
        {"method": "isotonic", "margins": [1.0, 0.0], "probabilities": [0.2, 0.3]},
        {"method": "isotonic", "margins": [0.0, 1.0], "probabilities": [0.3, 0.2]},
        {"method": "isotonic", "margins": [0.0, 1.0], "probabilities": [0.0, 0.5]},
        {"method": "isotonic", "margins": [0.0, 1.0], "probabilities": [0.3]},
    ],
    ids=repr,
)  # fmt: skip
def test_content_that_no_calibrator_wrote_is_refused(content):
    with pytest.raises(SchemaError, match=r"calibration\.json"):
        calibrator_from_json(content, where="calibration.json")


@pytest.mark.parametrize("method", ["beta", "venn_abers"])
def test_a_method_of_earlier_versions_is_named_with_what_to_do(method):
    with pytest.raises(SchemaError, match=rf"found {method}, which only .* Materialize scrc again, or use"):
        calibrator_from_json({"method": method, "a": 1.0}, where="calibration.json")


def test_a_record_that_would_turn_the_ranking_round_cannot_be_made():
    for make in (
        lambda: Platt(-1.0, 0.0),
        lambda: Temperature(-1.0),
        lambda: Isotonic((0.0, 1.0), (0.9, 0.1)),
    ):
        with pytest.raises(ValueError, match=r"rise|greater than"):
            make()
