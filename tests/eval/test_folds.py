"""Folds as scikit-learn deals them, at a speed that 10^5 images in pairs can bear."""

import time

import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold

from streetvision_core.eval.folds import split_folds


def draw(seed, *, images, together, mixed):
    """Labels and group numbers, about `together` images a group; a group is `mixed` or of one class."""
    random = np.random.default_rng(seed)
    group = random.integers(0, int(images / together), images)
    truth = random.random(images) < 0.3 if mixed else (random.random(images) < 0.4)[group]
    return truth, group


@pytest.mark.parametrize("folds", [2, 3, 5, 11])
@pytest.mark.parametrize("mixed", [True, False])
@pytest.mark.parametrize("together", [1.5, 2, 7])
def test_the_folds_of_groups_are_scikit_learns_image_for_image(folds, mixed, together):
    """Published policies were fitted on them, and must come out the same when they are fitted again."""
    for seed in range(2):
        truth, group = draw(seed, images=400, together=together, mixed=mixed)
        oracle = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(truth, truth, group)
        dealt = split_folds(truth, group, folds=folds, seed=seed, purpose="the test")
        for (fitting, judging), (others, held_out) in zip(dealt, oracle, strict=True):
            np.testing.assert_array_equal(fitting, others)
            np.testing.assert_array_equal(judging, held_out)


def test_groups_of_very_unequal_size_are_dealt_as_scikit_learn_deals_them():
    random = np.random.default_rng(4)
    sizes = np.maximum(1, np.rint(6 * np.exp(1.3 * random.normal(size=300)))).astype(int)
    group = np.repeat(np.arange(300), sizes)
    truth = (random.random(300) < 0.3)[group]
    oracle = StratifiedGroupKFold(5, shuffle=True, random_state=1).split(truth, truth, group)
    dealt = split_folds(truth, group, folds=5, seed=1, purpose="the test")
    for (_, judging), (_, held_out) in zip(dealt, oracle, strict=True):
        np.testing.assert_array_equal(judging, held_out)


def test_50000_groups_are_dealt_in_seconds():
    truth = np.random.default_rng(0).random(100_000) < 0.3
    begun = time.process_time()
    parts = list(split_folds(truth, np.arange(100_000) // 2, folds=5, seed=0, purpose="the test"))
    assert sum(len(judging) for _, judging in parts) == 100_000
    assert time.process_time() - begun < 5  # scikit-learn takes 9 to 19
