"""The interval of a repeated cross-validation: it knows of groups, and repeats make it no narrower."""

import numpy as np
import pytest

from streetvision_core.eval.metrics import compute_mcc
from streetvision_core.training.out_of_fold.record import CrossValidation

SIZE, REPEATS = 5, 5


def draw(groups, rng):
    """Groups that share a label and a difficulty; the deals of the folds differ by a little, as models do."""
    shared = np.repeat(rng.random((groups, 1)) < 0.35, SIZE, axis=1)
    own = rng.random((groups, SIZE)) < 0.35
    labels = np.where(rng.random((groups, SIZE)) < 0.3, own, shared)
    base = 0.9 * (2 * labels - 1) + 0.8 * rng.normal(size=(groups, 1)) + 0.5 * rng.normal(size=labels.shape)
    noise = 0.5 * rng.normal(size=(REPEATS, *labels.shape)) + 0.15 * rng.normal(size=(REPEATS, 1, 1))
    return labels.ravel(), (base + noise).reshape(REPEATS, -1)


def cross_validation(labels, margins):
    names = tuple(map(str, range(labels.size)))
    return CrossValidation(
        ids=names,
        groups=tuple(str(number // SIZE) for number in range(labels.size)),
        labels=labels.astype(np.int64),
        fold=np.zeros((REPEATS, labels.size), np.int64),
        logits=np.stack([-margins, margins], axis=-1).astype(np.float32),
        curve=np.empty((0, labels.size, 2), np.float32),
        shares=(1.0,),
        trained_on=(0.0,),
        roles=("train", "val_select"),
        method="probe",
    )


@pytest.mark.parametrize("groups", [20, 80])
def test_the_pooled_interval_covers_the_mcc_of_the_recipe(groups, trials):
    rng = np.random.default_rng(groups)
    labels, margins = draw(20_000, rng)
    true = np.mean([compute_mcc(labels, row > 0) for row in margins])
    figures = [cross_validation(*draw(groups, rng)).pooled for _ in range(trials // 10)]
    covered = np.mean([figure.low <= true <= figure.high for figure in figures])
    assert covered >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / len(figures))
