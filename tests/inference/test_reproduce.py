"""Equality on another machine: logits within the tolerance, and a decision they can lead to."""

from dataclasses import dataclass

import numpy as np
import pytest

from streetvision_core.inference.predict import Measured
from streetvision_core.inference.reproduce import TOLERANCE, Recorded, reproduction_problems
from tests.bundle.made import make_policies


@dataclass
class Asked:
    """A predictor that returns the given logits, in batches of two."""

    policy: object
    logits: list

    def measure(self, pictures, *, extras):
        assert not extras
        assert len(list(pictures)) == len(self.logits)
        for begin in range(0, len(self.logits), 2):
            batch = self.logits[begin : begin + 2]
            yield [f"image {number}" for number in range(len(batch))], Measured(np.array(batch, "f4"))


@pytest.fixture(scope="module")
def policies():
    return make_policies()


def pair(margin):
    return (-margin / 2, margin / 2)


def problems(policy, was, now, decision, **options):
    return reproduction_problems(Asked(policy, [now]), [Recorded("a", was, decision)], [b""], **options)


def deferral_boundary(policy, *, start=1e-3):
    """The positive margin above which scrc or gate answers, to about eight digits."""
    low, high = start, 40.0
    assert policy.decide([low]) == ("defer",)
    assert policy.decide([high]) == ("roadwork",)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if policy.decide([middle]) == ("defer",) else (low, middle)
    return high


def test_logits_within_the_tolerance_are_the_same_and_others_are_not(policies):
    policy = policies["threshold"]
    assert problems(policy, (-0.5, 0.5), (-0.5, 0.5 + 0.9 * TOLERANCE), "roadwork") == []
    assert problems(policy, (-0.5, 0.5), (-0.5, 0.5 + 1.1 * TOLERANCE), "roadwork")
    assert problems(policy, (-0.5, 0.5), (-0.5 - 1.1 * TOLERANCE, 0.5), "roadwork")


def test_the_tolerance_of_large_logits_is_relative(policies):
    policy = policies["threshold"]
    assert problems(policy, (-500.0, 500.0), (-500.0, 500.4), "roadwork") == []
    assert problems(policy, (-500.0, 500.0), (-500.0, 501.0), "roadwork")


@pytest.mark.parametrize("tolerance", [1e-3, 1e-2])
def test_an_answer_on_the_other_side_of_the_operating_point_passes_only_near_it(policies, tolerance):
    policy = policies["threshold"]
    for margin, fine in ((0.5 * tolerance, True), (3 * tolerance, False)):
        for sign, other in ((1, "none"), (-1, "roadwork")):
            differences = problems(
                policy, pair(sign * margin), pair(sign * margin), other, tolerance=tolerance
            )
            assert (differences == []) == fine


@pytest.mark.parametrize("kind", ["scrc", "gate"])
def test_an_answer_on_the_other_side_of_the_deferral_boundary_passes_only_near_it(policies, kind):
    policy = policies[kind]
    edge = deferral_boundary(policy)
    reach = 2 * TOLERANCE * max(1.0, edge / 2)
    for margin, was in ((edge + reach / 2, "defer"), (edge - reach / 2, "roadwork")):
        assert policy.decide([margin]) != (was,)
        assert problems(policy, pair(margin), pair(margin), was) == []
    for margin, was in ((edge + 2 * reach, "defer"), (edge - 2 * reach, "roadwork")):
        assert len(problems(policy, pair(margin), pair(margin), was)) == 1


@pytest.mark.parametrize("kind", ["scrc", "gate"])
def test_near_the_deferral_boundary_the_other_answer_does_not_pass(policies, kind):
    """Rounding can turn roadwork into defer there, but not into none."""
    policy = policies[kind]
    edge = deferral_boundary(policy)
    assert problems(policy, pair(edge), pair(edge), "none")


def test_a_decision_in_the_open_must_be_the_very_same(policies):
    for policy in policies.values():
        for margin, right in ((30.0, "roadwork"), (-30.0, "none")):
            for recorded in ("none", "roadwork", "defer"):
                differences = problems(policy, pair(margin), pair(margin), recorded)
                assert (differences == []) == (recorded == right)


def test_each_problem_is_one_sentence_that_names_the_image(policies):
    logits = [pair(3.0), pair(-3.0), pair(3.0)]
    recorded = [Recorded(name, row, "roadwork") for name, row in zip(("a", "b", "c"), logits, strict=True)]
    differences = reproduction_problems(Asked(policies["threshold"], logits), recorded, [b""] * 3)
    assert len(differences) == 1
    assert differences[0].startswith(
        "b was decided roadwork with logits (1.5000, -1.5000), and is now decided none"
    )
