"""A tuned threshold is adopted by luck as seldom as the interval says, and where it is better, it is.

Margins of both labels lie alike around 0 plus a shift, half of the images show roadwork: without a shift 0.5
is the best threshold, and no tuned one can be better. Seeds are fixed.
"""

import numpy as np
import pytest

from streetvision_core.errors import DataError
from streetvision_core.eval.metrics import confusion_by_group, mcc_of_counts
from streetvision_core.eval.objectives import Mcc
from streetvision_core.eval.thresholds import scan_margins
from streetvision_core.eval.use.adoption import cross_fitted_gain
from tests.claims.curves import allowed


def draw(rng, *, images, frames=1, shift=0.0, correlation=0.4):
    """Margins, labels and groups of `frames` images each, whose noise is shared in part."""
    groups = images // frames
    group = np.repeat(np.arange(groups), frames)
    labels = (rng.permutation(groups) < groups / 2)[group]
    shared, own = rng.normal(size=groups)[group], rng.normal(size=group.size)
    noise = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own
    return 2 * (labels - 0.5) + noise + shift, labels, group


def gain(margins, labels, group):
    choose = lambda fitting: scan_margins(margins[fitting], labels[fitting]).threshold  # noqa: E731
    return cross_fitted_gain(margins, labels, group, objective=Mcc(), choose=choose, seed=0)


def adopted_by_its_own_images(margins, labels, group, rng):
    """The rule that was simulated before: a bootstrap over groups of the images that chose the threshold."""
    tuned = scan_margins(margins, labels).threshold
    both = [confusion_by_group(labels, margins > threshold, group) for threshold in (0, tuned)]
    # Groups with the same counts are interchangeable: draw how many of each kind.
    kinds, members = np.unique(np.hstack(both), axis=0, return_counts=True)
    drawn = rng.multinomial(len(both[0]), members / members.sum(), 400) @ kinds
    return np.quantile(mcc_of_counts(drawn[:, 4:]) - mcc_of_counts(drawn[:, :4]), 0.025) > 0


@pytest.mark.parametrize(("images", "frames"), [(60, 1), (150, 1), (450, 10)])
def test_a_threshold_that_is_no_better_is_adopted_in_at_most_4_percent(images, frames, trials):
    """Cross-fitted it is .025 within three standard errors; by the images that chose it, .05 to .17."""
    rng, some = np.random.default_rng(40), trials // 6
    worlds = [draw(rng, images=images, frames=frames) for _ in range(some)]
    cross_fitted = sum(gain(*world).proven for world in worlds) / some
    by_its_own = sum(adopted_by_its_own_images(*world, rng) for world in worlds) / some
    assert cross_fitted <= allowed(0.025, some)
    assert by_its_own > max(0.045, 1.5 * cross_fitted)


def test_a_threshold_that_is_better_is_adopted(trials):
    """450 images with margins shifted by 1.2 show it nearly always, 60 images in a third of the draws."""
    rng, some = np.random.default_rng(41), trials // 20
    shares = {
        images: sum(gain(*draw(rng, images=images, shift=1.2)).proven for _ in range(some)) / some
        for images in (60, 450)
    }
    assert shares[450] > 0.9
    assert 0.15 < shares[60] < 0.6


def test_few_groups_prove_nothing_however_many_images_they_hold():
    """Two groups of each label, 400 frames: a percentile bootstrap would adopt what four videos suggest."""
    rng = np.random.default_rng(42)
    assert not any(gain(*draw(rng, images=400, frames=100, shift=0.8)).proven for _ in range(100))
    with pytest.raises(DataError, match="at least 2 images or groups"):
        gain(*draw(rng, images=200, frames=100))
