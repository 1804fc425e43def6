"""A certificate survives a review of all labels, and not one of the labels that the model contradicts.

The model is wrong on .08 of the images, a fifth of the labels is wrong whatever the model says, and a review
always finds the truth. Where only contradicted labels are looked at, what is wrong in both stays and counts
as right. Seeds are fixed.
"""

import numpy as np

from streetvision_core.eval.risk_control import certify_selective_risk
from tests.claims.curves import allowed

RISK, ALPHA, DELTA = 0.08, 0.07, 0.10


def certified(wrong):
    """A certificate for answering everything; it is false, because the true risk is above alpha."""
    sure = np.ones(wrong.size)
    certificate = certify_selective_risk(sure, wrong, thresholds=[0.0], alpha=ALPHA, delta=DELTA)
    return certificate.threshold is not None


def test_correcting_what_the_model_contradicts_certifies_falsely_and_reviewing_all_does_not(trials):
    rng, some, reviewed, contradicted = np.random.default_rng(50), trials // 4, 0, 0
    for _ in range(some):
        wrong, mislabelled = rng.random(1000) < RISK, rng.random(1000) < 0.2
        reviewed += certified(wrong)
        contradicted += certified(wrong & ~mislabelled)
    assert reviewed / some <= allowed(DELTA, some)
    assert reviewed / some < 0.03
    assert contradicted / some > 0.2
