"""The promise of recall: how often the recall of new images is below it, in worlds whose truth is known.

A roadwork image has the margin `3 + group + image - harder * size`, all of them normal, where `size` is the
standardised logarithm of how many images its group has. So the recall of an image drawn from a randomly drawn
group is known for every threshold: it is the unit that the promise speaks about. Kept is the promise in a
trial where that recall is reached. Seeds are fixed.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import norm

from streetvision_core.policies.config import EnoughRecall, RecordedThresholds
from streetvision_core.policies.threshold import choose_threshold

RECALL, DELTA, CENTRE = 0.95, 0.10, 3.0
PROMISED = RecordedThresholds(objective=EnoughRecall(recall=RECALL, delta=DELTA), resamples=10)
AS_ON_CALIB = RecordedThresholds(objective=EnoughRecall(recall=RECALL, delta=None), resamples=10)


@dataclass(frozen=True)
class World:
    """Groups of roadwork, their mean size and its spread, and what makes their images alike or hard."""

    groups: int
    size: float = 1.0
    spread: float = 0.0
    within: float = 0.0  # the share of the variance that the images of a group have in common
    harder: float = 0.0
    levels: float = 0.0  # steps of a margin of whole numbers times this, so that margins are tied

    def draw(self, random):
        """Logits, labels and groups: this many groups of roadwork, and twice as many without."""
        standard = random.normal(size=3 * self.groups)
        sizes = np.maximum(1, np.rint(self.size * np.exp(self.spread * standard))).astype(int)
        group = np.repeat(np.arange(3 * self.groups), sizes)
        labels = group < self.groups
        noise = np.sqrt(self.within) * random.normal(size=3 * self.groups)[group]
        noise += np.sqrt(1 - self.within) * random.normal(size=group.size)
        margins = np.where(labels, CENTRE - self.harder * standard[group], 0.0) + noise
        if self.levels:
            margins = np.ceil(margins / self.levels) * self.levels
        logits = np.stack([np.zeros(group.size), margins], axis=1).astype(np.float32)
        return Drawn(logits, labels.astype(np.int64), tuple(map(str, group.tolist())))

    def recall(self, threshold):
        """Recall of a roadwork image drawn from a randomly drawn group, above a threshold on the margin."""
        if self.levels:
            threshold = np.floor(threshold / self.levels) * self.levels
        return norm.sf((threshold - CENTRE) / np.hypot(1, self.harder))


@dataclass(frozen=True)
class Drawn:
    logits: np.ndarray
    labels: np.ndarray
    groups: tuple[str, ...]


def kept(world, config, trials, seed=31):
    """Share of the trials in which the recall is reached."""
    random = np.random.default_rng(seed)
    reached = [
        world.recall(choose_threshold(world.draw(random), config).choice.threshold) for _ in range(trials)
    ]
    return float(np.mean(np.array(reached) >= RECALL))


WORLDS = {
    "60 images": World(60),
    "100 images": World(100),
    "400 images": World(400),
    "margins tied": World(100, levels=0.25),
    "groups of ten alike": World(60, size=10, within=0.6),
    "groups of unequal size": World(100, size=6, spread=1.0, within=0.6),
    "long groups are easier": World(100, size=6, spread=1.0, within=0.4, harder=-0.5),
}
HARDER = World(100, size=6, spread=1.0, within=0.4, harder=0.5)


@pytest.mark.parametrize("world", [*WORLDS.values(), HARDER], ids=[*WORLDS, "long groups are harder"])
def test_the_recall_is_reached_as_often_as_promised(world, trials):
    some = trials // 8
    slack = 2 * np.sqrt(DELTA * (1 - DELTA) / some)
    assert kept(world, PROMISED, some) >= 1 - DELTA - slack


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_the_recall_of_val_calib_is_reached_by_half_of_its_thresholds(world, trials):
    """It is what the objective did without a promise, and what makes these worlds tell the two apart."""
    assert kept(world, AS_ON_CALIB, trials // 20) < 0.75


def test_45_groups_are_what_a_recall_of_95_percent_takes():
    random = np.random.default_rng(3)
    for groups, feasible in ((44, False), (45, True)):
        drawn = World(groups, size=4).draw(random)
        called = drawn.logits[:, 1] > choose_threshold(drawn, PROMISED).choice.threshold
        assert called[drawn.labels == 1].mean() > 0.9
        assert called.all() != feasible
