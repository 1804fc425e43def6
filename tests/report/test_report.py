"""The report as numbers: each one is counted again here, image by image."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    log_loss,
    matthews_corrcoef,
    roc_auc_score,
)

from streetvision_core.errors import BundleError
from streetvision_core.eval.intervals import rate_interval
from streetvision_core.eval.metrics import METRICS_OF_FIRST_SCHEMA
from streetvision_core.io import json_bytes
from streetvision_core.io.records import read_record
from streetvision_core.report.figures import Groups, intervals_of, ranking_of
from streetvision_core.report.report import MOST_SLICES, Report, report_of
from streetvision_core.report.slices import SMALLEST_SLICE
from tests.bundle.made import ANSWERING, decide_all, make_policies, make_tested

SIZES = (1, 1, 2, 3, 5, 6, 7, 20, 21, 60, 90, 84)
GROUPS = [f"group {number}" for number, size in enumerate(SIZES) for _ in range(size)]
N = len(GROUPS)
ATTRIBUTES = {
    "time": [("day", "night", "dusk")[min(number // 140, 2)] for number in range(N)],
    "weather": [("rain", "dry", "fog", "snow")[number % 37 % 4] for number in range(N)],
    "camera": [f"camera {number % 21}" for number in range(N)],
    "source": [f"source {number % 20}" for number in range(N)],
}


@pytest.fixture(scope="module")
def policies():
    return make_policies()


@pytest.fixture(scope="module")
def tested():
    return make_tested(groups=GROUPS, attributes=ATTRIBUTES)


@pytest.fixture(scope="module")
def decided(policies, tested):
    return decide_all(policies, tested)


@pytest.fixture(scope="module")
def report(tested, decided):
    return report_of(tested, decided)


def over_groups(events, trials, groups):
    """The interval over groups of events among trials, bool [N] each, counted one group after the other."""
    rows = {name: [0, 0] for name in groups}
    for event, trial, name in zip(events, trials, groups, strict=True):
        rows[name][0] += bool(event and trial)
        rows[name][1] += bool(trial)
    interval = rate_interval(*np.array(list(rows.values())).T)
    return pytest.approx((interval.low, interval.high))


def answered_and_right(tested, decided, kind):
    decisions = np.array(decided[kind].decisions)
    taken = decisions != "defer"
    return taken, taken & ((decisions == "roadwork") == tested.labels)


def ends(interval):
    return (interval.low, interval.high)


def count(labels, decisions, members=None):
    """Count one image after the other: the four cells, and how many are answered."""
    cells = dict.fromkeys(("tp", "tn", "fp", "fn"), 0)
    for number, (label, decision) in enumerate(zip(labels, decisions, strict=True)):
        if decision == "defer" or (members is not None and not members[number]):
            continue
        right = (decision == "roadwork") == bool(label)
        cells[("t" if right else "f") + ("p" if decision == "roadwork" else "n")] += 1
    return cells, sum(cells.values())


def size_class(size):
    if size == 1:
        return "1 image"
    if size <= 5:
        return "2 to 5 images"
    return "6 to 20 images" if size <= 20 else "more than 20 images"


@pytest.mark.parametrize("kind", ANSWERING)
def test_metrics_are_of_the_answered_images_and_coverage_of_all(report, tested, decided, kind):
    policy, decisions = report.of(kind), decided[kind].decisions
    cells, answered = count(tested.labels, decisions)
    assert {name: policy.metrics[name] for name in cells} == cells
    taken = [number for number, decision in enumerate(decisions) if decision != "defer"]
    truth, predicted = tested.labels[taken], [decisions[number] == "roadwork" for number in taken]
    assert policy.metrics["mcc"] == pytest.approx(matthews_corrcoef(truth, predicted))
    assert policy.metrics["accuracy"] == pytest.approx(accuracy_score(truth, predicted))
    assert (policy.coverage.answered, policy.coverage.share) == (answered, answered / N)
    taken, _ = answered_and_right(tested, decided, kind)
    assert ends(policy.coverage.interval) == over_groups(taken, np.ones(N, bool), GROUPS)
    assert policy.coverage.groups == len(SIZES)
    assert answered == N if kind == "threshold" else 0 < answered < N


@pytest.mark.parametrize("kind", ANSWERING)
def test_intervals_are_of_the_answered_images_and_their_groups(report, tested, decided, kind):
    policy, decisions = report.of(kind), decided[kind].decisions
    intervals = policy.intervals
    taken, right = answered_and_right(tested, decided, kind)
    predicted, truth = np.array(decisions) == "roadwork", tested.labels
    assert ends(intervals.accuracy) == over_groups(right, taken, GROUPS)
    assert ends(intervals.fnr) == over_groups(~right, taken & truth, GROUPS)
    assert ends(intervals.recall) == over_groups(right, taken & truth, GROUPS)
    assert ends(intervals.fpr) == over_groups(~right, taken & ~truth, GROUPS)
    assert ends(intervals.precision) == over_groups(right, taken & predicted, GROUPS)
    jaccard = over_groups(right & predicted, taken & (predicted | truth), GROUPS).expected
    assert ends(intervals.f1) == pytest.approx([2 * end / (1 + end) for end in jaccard])
    holding = [{GROUPS[n] for n in np.flatnonzero(taken & which)} for which in (truth, ~truth)]
    assert intervals.groups == Groups(
        n=len(holding[0] | holding[1]), roadwork=len(holding[0]), none=len(holding[1])
    )
    assert intervals.mcc.low < policy.metrics["mcc"] < intervals.mcc.high
    assert (intervals.bootstrap, intervals.mcc_by_group) == (None, None)


@pytest.mark.parametrize("kind", ANSWERING)
def test_ranking_and_calibration_are_of_all_images_and_those_of_scikit_learn(
    report, tested, decided, policies, kind
):
    figures, policy = report.of(kind), policies[kind]
    folded = policy.point.fold(tested.logits)
    margins = folded[:, 1] - folded[:, 0]
    assert figures.ranking.auroc == pytest.approx(roc_auc_score(tested.labels, margins))
    assert figures.ranking.average_precision == pytest.approx(average_precision_score(tested.labels, margins))
    wrong = (margins > 0) != tested.labels
    failure, accuracy = roc_auc_score(~wrong, decided[kind].confidence), 1 - wrong.mean()
    augrc = (1 - failure) * accuracy * (1 - accuracy) + (1 - accuracy) ** 2 / 2
    assert figures.ranking.augrc == pytest.approx(augrc, abs=1e-9)
    for calibration, p in (
        (figures.calibration.shipped, 1 / (1 + np.exp(-margins))),
        (figures.calibration.calibrated, policy.probabilities(margins)),
    ):
        assert calibration.brier == pytest.approx(brier_score_loss(tested.labels, p))
        assert calibration.nll == pytest.approx(log_loss(tested.labels, p))
        assert 0 <= calibration.ece_equal_width <= 1
        assert calibration.mce_equal_width is None
    assert 0 < figures.calibration.perfect.mean < figures.calibration.perfect.high < 0.3
    assert figures.ranking.auroc_interval.low < figures.ranking.auroc < figures.ranking.auroc_interval.high
    assert figures.calibration.shipped != figures.calibration.calibrated


def test_the_calibrated_probability_of_a_threshold_is_that_after_the_temperature_alone(
    report, tested, policies
):
    margins = (tested.logits[:, 1] - tested.logits[:, 0]) / policies["threshold"].temperature
    calibrated = report.of("threshold").calibration.calibrated
    assert calibrated.brier == pytest.approx(brier_score_loss(tested.labels, 1 / (1 + np.exp(-margins))))


@pytest.mark.parametrize("kind", ANSWERING)
def test_each_slice_is_counted_and_a_small_one_is_marked(report, tested, decided, kind):
    sizes = [size_class(SIZES[int(group.split()[1])]) for group in GROUPS]
    columns = {**ATTRIBUTES, "group size": sizes}
    del columns["camera"]
    slices = {(part.attribute, part.value): part for part in report.of(kind).slices}
    assert set(slices) == {(name, value) for name, column in columns.items() for value in column}
    assert len(report.of(kind).slices) == len(slices)
    for (name, value), part in slices.items():
        members = [cell == value for cell in columns[name]]
        cells, answered = count(tested.labels, decided[kind].decisions, members)
        assert {cell: part.metrics[cell] for cell in cells} == cells
        assert (part.n, part.answered, part.too_small) == (sum(members), answered, answered < 30)
        if answered:
            taken, right = answered_and_right(tested, decided, kind)
            assert ends(part.accuracy) == over_groups(right, taken & np.array(members), GROUPS)
            assert part.groups.n == len({GROUPS[n] for n in np.flatnonzero(taken & np.array(members))})
        else:
            assert part.accuracy is None


@pytest.mark.parametrize("kind", ANSWERING)
def test_the_worst_slice_that_can_be_read_comes_first(report, kind):
    slices = report.of(kind).slices
    small = [part.too_small for part in slices]
    assert small == sorted(small)
    for some in (False, True):
        accuracies = [part.metrics["accuracy"] for part in slices if part.too_small == some and part.answered]
        assert accuracies == sorted(accuracies)
        assert len(set(accuracies)) > 1


@pytest.mark.parametrize("size", [SMALLEST_SLICE - 1, SMALLEST_SLICE])
def test_a_slice_of_thirty_can_be_read_and_one_of_twenty_nine_cannot(policies, size):
    groups = [f"g{number}" for number in range(100)]
    tested = make_tested(groups=groups, attributes={"time": ["night"] * size + ["day"] * (100 - size)})
    slices = report_of(tested, decide_all(policies, tested)).of("threshold").slices
    (night,) = [part for part in slices if part.value == "night"]
    assert (night.n, night.too_small) == (size, size < 30)


def test_a_slice_in_which_nothing_is_answered_follows_those_that_can_be_judged(tested, decided):
    scrc = decided["scrc"]
    rain = [ATTRIBUTES["weather"][number] == "rain" for number in range(N)]
    deferring = ["defer" if wet else decision for wet, decision in zip(rain, scrc.decisions, strict=True)]
    report = report_of(tested, {**decided, "scrc": replace(scrc, decisions=deferring)})
    slices = report.of("scrc").slices
    place = next(number for number, part in enumerate(slices) if part.value == "rain")
    assert (slices[place].answered, slices[place].accuracy, slices[place].too_small) == (0, None, True)
    assert all(part.too_small for part in slices[place:])


def test_an_attribute_of_too_many_values_is_named_and_not_sliced(report):
    assert len(set(ATTRIBUTES["camera"])) == MOST_SLICES + 1
    assert len(set(ATTRIBUTES["source"])) == MOST_SLICES
    assert report.not_sliced == ("camera",)


def test_what_val_calib_says_more_than_val_test_has_an_interval_of_both(report, policies):
    calib, test = policies["threshold"].val_calib.metrics, report.of("threshold")
    gap = report.calib_minus_test
    assert gap.difference == pytest.approx(calib["mcc"] - test.metrics["mcc"])
    above = np.hypot(calib["mcc_high"] - calib["mcc"], test.metrics["mcc"] - test.intervals.mcc.low)
    assert gap.interval.high == pytest.approx(gap.difference + above)
    assert gap.interval.low < gap.difference
    assert report.optimism is None


def test_a_policy_that_did_not_record_its_interval_leaves_the_difference_without_one(tested, policies):
    policy = policies["threshold"]
    metrics = {name: policy.val_calib.metrics[name] for name in METRICS_OF_FIRST_SCHEMA}
    older = policy.model_copy(update={"val_calib": policy.val_calib.model_copy(update={"metrics": metrics})})
    report = report_of(tested, decide_all({"threshold": older}, tested))
    assert report.calib_minus_test.interval is None


def test_the_promise_of_each_policy_stands_beside_its_figures(report, policies):
    assert {kind: report.of(kind).promise for kind in ANSWERING} == {
        kind: policies[kind].promise() for kind in ANSWERING
    }


def test_a_policy_that_answers_nothing_has_no_intervals_and_is_called_degenerate(tested):
    policies = make_policies(alpha=0.0001)
    assert policies["scrc"].infeasible()
    policy = report_of(tested, decide_all(policies, tested)).of("scrc")
    assert (policy.intervals, policy.coverage.answered, policy.coverage.share) == (None, 0, 0.0)
    assert ends(policy.coverage.interval) == over_groups(np.zeros(N, bool), np.ones(N, bool), GROUPS)
    assert all(part.accuracy is None and part.answered == 0 for part in policy.slices)
    assert policy.ranking.auroc is not None
    assert policy.degeneracies() == ["it answers no image of val_test"]


@pytest.mark.parametrize("word", ["none", "roadwork"])
def test_a_policy_whose_answers_are_all_the_same_is_called_degenerate(report, tested, decided, word):
    """All of its answers are of one kind, though it defers images of the other."""
    scrc = decided["scrc"]
    kept = [decision if decision == word else "defer" for decision in scrc.decisions]
    policy = report_of(tested, {**decided, "scrc": replace(scrc, decisions=kept)}).of("scrc")
    assert len(policy.degeneracies()) == 1
    assert "image of val_test roadwork" in policy.degeneracies()[0]
    assert [report.of(kind).degeneracies() for kind in ANSWERING] == [[] for _ in ANSWERING]


@pytest.mark.parametrize("label", [True, False])
def test_images_of_one_class_give_a_report_without_a_ranking_of_classes(policies, label):
    groups = ["one"] * 40
    tested = make_tested(groups=groups, attributes={}, labels=[label] * 40)
    report = report_of(tested, decide_all(policies, tested))
    for kind in ANSWERING:
        assert (report.of(kind).ranking.auroc, report.of(kind).ranking.average_precision) == (None, None)
        assert ends(report.of(kind).intervals.mcc) == (-1, 1)
        assert ends(report.of(kind).intervals.accuracy) == (0, 1)
        assert report.of(kind).ranking.auroc_interval is None
        assert "Few groups: 1, of which" in report.reading_of(report.of(kind))
    assert (report.counts.n, report.counts.roadwork) == (40, 40 * label)


def test_a_figure_that_the_images_do_not_have_is_missing_and_not_made_up():
    labels, margins = np.array([True, True, True]), np.array([1.0, 2.0, -1.0])
    ranking = ranking_of(labels, margins, confidence=np.abs(margins), groups=np.arange(3))
    assert (ranking.auroc, ranking.average_precision, ranking.auroc_interval) == (None, None, None)
    intervals = intervals_of(np.array([[2, 0, 0, 1]]))
    assert (intervals.fpr.low, intervals.fpr.high) == (0.0, 1.0)


def test_a_policy_that_was_not_evaluated_is_asked_for_in_vain(tested, decided):
    report = report_of(tested, {"threshold": decided["threshold"]})
    with pytest.raises(BundleError, match="an evaluation of the policy scrc"):
        report.of("scrc")


def test_a_report_round_trips_through_json(report):
    content = report.model_dump(mode="json")
    assert read_record(Report, json_bytes(content), where="evaluation.json") == report


def without(*path):
    def change(content):
        for name in path[:-1]:
            content = content[name]
        del content[path[-1]]

    return change


def own(content):
    return content["policies"]["threshold"]


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        (without("policies", "threshold", "intervals"), "intervals"),
        (without("policies", "scrc", "intervals", "groups", "roadwork"), "roadwork"),
        (without("policies", "gate", "ranking", "auroc"), "auroc"),
        (without("policies", "gate", "coverage"), "coverage"),
        (without("policies", "threshold"), "optimism"),
        (lambda c: own(c)["ranking"].update(auroc="0.9"), "auroc"),
        (lambda c: own(c)["ranking"].update(augrc=1.5), "augrc"),
        (lambda c: own(c)["ranking"].update(extra=1), "extra"),
        (lambda c: own(c)["calibration"]["shipped"].update(brier=None), "brier"),
        (lambda c: own(c)["intervals"]["mcc"].update(low=0.99, high=0.1), "0.99 is above 0.1"),
        (lambda c: own(c)["intervals"]["mcc"].update(method="guessed"), "method"),
        (lambda c: own(c)["intervals"].update(guess=own(c)["intervals"]["mcc"]), "intervals of guess"),
        (lambda c: own(c)["slices"][0].update(guess=own(c)["intervals"]["mcc"]), "intervals of guess"),
        (lambda c: own(c)["slices"][0].update(guess=1), "guess"),
        (lambda c: own(c)["metrics"].pop("mcc"), "no mcc"),
        (lambda c: own(c)["coverage"].update(share=1.5), "share"),
        (lambda c: c["policies"].update(gate=c["policies"]["scrc"]), "each under its type"),
        (lambda c: c["policies"]["scrc"]["policy"]["certificates"][0].update(k=0), "0 errors in"),
        (lambda c: c.update(schema_version=[3]), "schema_version"),
        (lambda c: c.update(schema_version=2), "it is 2, where this version reads 3"),
    ],
)
def test_a_report_with_other_fields_is_refused(report, change, fragment):
    content = report.model_dump(mode="json")
    change(content)
    with pytest.raises(BundleError) as caught:
        read_record(Report, json_bytes(content), where="evaluation.json")
    assert fragment in str(caught.value)


def test_groups_are_spoken_of_where_the_data_names_them(tested, decided):
    """Groups of one image each are groups; an older report did not record it and tells by number."""
    alone = replace(tested, groups=[str(number) for number in range(N)])
    for given, known, words in (
        (alone, True, f"{N} groups"),
        (alone, False, f"{N} images (no groups known)"),
        (alone, None, f"{N} images (no groups known)"),
        (tested, None, f"{len(SIZES)} groups"),
    ):
        report = report_of(replace(given, groups_known=known), {"threshold": decided["threshold"]})
        assert report.groups_of(report.lead) == words
    older = report.model_dump(mode="json")
    del older["groups_known"]
    assert read_record(Report, json_bytes(older), where="here").groups_known is None
