"""Drift: equal images are called different in at most 5 % of the trials, a shift is noticed within 200."""

import numpy as np
import pytest

from streetvision_core.eval.risk_control import one_per_group
from streetvision_core.eval.use.drift import compare_samples, directions, sample_of

WIDTH = 64
AXES = directions(WIDTH, seed=0)


def sample(random, groups, *, frames=1, shift=0.0):
    """Features with a part that the images of a group have in common, whose first eight are shifted."""
    group = np.repeat(np.arange(groups), frames)
    shared, own = random.normal(size=(groups, WIDTH))[group], random.normal(size=(group.size, WIDTH))
    features = 0.8 * shared + 0.6 * own
    features[:, :8] += shift
    chosen = one_per_group(group.astype(str).tolist(), seed=1)
    return sample_of(features[:, 0] * 2, features @ AXES, chosen)


@pytest.mark.parametrize("frames", [1, 10])
@pytest.mark.parametrize(("reference", "new"), [(100, 30), (300, 200)])
def test_equal_images_are_called_different_in_at_most_5_percent(frames, reference, new, trials):
    random, some = np.random.default_rng(3), trials // 10
    void = [
        compare_samples(sample(random, reference, frames=frames), sample(random, new, frames=frames)).void
        for _ in range(some)
    ]
    assert np.mean(void) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / some)


def test_a_shift_is_noticed_within_200_images(trials):
    random = np.random.default_rng(4)
    void = [
        compare_samples(sample(random, 150), sample(random, 200, shift=0.7)).void for _ in range(trials // 50)
    ]
    assert np.mean(void) > 0.9
