"""Risk control against MAPIE, which others wrote."""

import numpy as np
import pytest
from mapie.risk_control import BinaryClassificationController
from mapie.risk_control.fwer_control import control_fwer
from mapie.risk_control.methods import (
    compute_hoeffding_bentkus_p_value,
    find_best_predict_param,
    get_r_hat_plus,
)

from streetvision_core.eval.risk_control import (
    certify_selective_risk,
    control_expected_risk,
    count_accepted,
    risk_grid,
    risk_p_value,
)

SEEDS = range(20)
DELTA = 0.1


def draw(seed, *, n=600, ties=False):
    """Confidences, whether the answers are wrong, and a frozen sequence."""
    random = np.random.default_rng(seed)
    sure = random.random(n).round(2 if ties else 12)
    wrong = random.random(n) < 0.25 * (1 - sure) ** random.uniform(0.2, 2)
    grid = risk_grid(random.random(300), calibration_size=n, alpha=0.05, delta=DELTA, steps=12)
    return sure, wrong, grid


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("alpha", [0.03, 0.05, 0.1])
def test_the_sequence_stops_where_mapies_does(seed, alpha):
    sure, wrong, grid = draw(seed, ties=seed % 2 == 0)
    accepted, errors = count_accepted(sure, wrong, np.array(grid))
    rejected = control_fwer(risk_p_value(errors, accepted, alpha=alpha), DELTA, "fixed_sequence")
    certificate = certify_selective_risk(sure, wrong, thresholds=grid, alpha=alpha, delta=DELTA)
    assert certificate.threshold == (grid[rejected[-1]] if rejected.size else None)


def test_the_exact_p_value_is_mapies_bentkus_of_a_binary_loss_and_never_above_hoeffdings():
    """MAPIE takes the smaller of the two; for the counts at which Bentkus is smaller both must agree."""
    accepted, errors = map(np.ravel, np.meshgrid(np.arange(5, 400, 5), np.arange(1, 20)))
    possible = errors <= accepted
    accepted, errors = accepted[possible], errors[possible]
    ours = risk_p_value(errors, accepted, alpha=0.05)
    # A hair below, because MAPIE rounds n (k / n) up.
    theirs = compute_hoeffding_bentkus_p_value(
        (errors - 1e-9) / accepted, accepted.astype(float), 0.05, binary=True
    )[:, 0]
    assert (theirs <= ours + 1e-12).all()
    agreeing = np.isclose(ours, theirs, rtol=1e-6)
    assert agreeing.mean() > 0.5
    assert (ours[agreeing] <= 1).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_the_expected_risk_is_controlled_where_mapies_rule_says(seed):
    """MAPIE's conformal risk control wants a loss that falls: of a threshold on the deferred share."""
    sure, wrong, grid = draw(seed)
    loose_first = np.array(grid)[::-1]
    losses = (wrong[:, None] & (sure[:, None] >= loose_first)).astype(float)
    _, corrected = get_r_hat_plus(losses, loose_first, "crc", None, None, None)
    alpha = 0.06
    theirs = find_best_predict_param(loose_first, corrected, np.array([alpha]))[0]
    chosen = control_expected_risk(sure, wrong, thresholds=grid, alpha=alpha)
    if chosen.threshold is None:
        assert (corrected > alpha).all()
    else:
        assert chosen.threshold == theirs


def test_a_threshold_that_mapies_controller_accepts_for_precision_is_certified_too():
    """MAPIE controls precision of p >= t; that is our selective risk with the rest deferred."""
    random = np.random.default_rng(0)
    p = random.random(2000)
    truth = random.random(2000) < p**0.3
    grid = np.linspace(0.95, 0.05, 19)
    controller = BinaryClassificationController(
        lambda x: np.column_stack([1 - x, x]), "precision", target_level=0.8, confidence_level=1 - DELTA,
        list_predict_params=grid, fwer_method="fixed_sequence",
    )  # fmt: skip
    controller.calibrate(p, truth.astype(int))
    theirs = np.asarray(controller.valid_predict_params)
    ours = certify_selective_risk(p, ~truth, thresholds=grid.tolist(), alpha=0.2, delta=DELTA)
    assert ours.threshold is not None
    # Hoeffding's bound is the looser or the tighter one by a step of the grid.
    assert abs(ours.threshold - theirs.min()) <= 0.05 + 1e-9
