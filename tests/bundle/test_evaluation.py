"""The report: every figure can be counted again from the decisions it keeps."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    log_loss,
    matthews_corrcoef,
    roc_auc_score,
)

from streetvision_core.bundle import Evaluation, Predictor, decision_problems, evaluate
from streetvision_core.bundle.evaluation import EVALUATION_NAME, MOST_SLICES, SMALLEST_SLICE, Report
from streetvision_core.bundle.figures import intervals_of, ranking_of
from streetvision_core.bundle.records import read_record
from streetvision_core.data import ROLES
from streetvision_core.errors import BundleError, DataError, IntegrityError
from streetvision_core.io import json_bytes
from tests.bundle.chain import publish, read_thresholds


@pytest.fixture(scope="module")
def evaluation(chain):
    return Evaluation.from_artifact(chain.upstream["evaluation"])


def with_attributes(index, names):
    """The time is by day for 30 pictures and by night for the others; every picture has its own id."""
    order = {name: number for number, name in enumerate(names)}
    pictures = tuple(
        replace(one, attributes={"time": "day" if order.get(one.name, 0) < 30 else "night", "id": one.name})
        for one in index.pictures
    )
    return replace(index, pictures=pictures)


def test_the_figures_are_those_of_the_decisions_on_all_of_val_test(chain, evaluation):
    labels = {one.name: one.label for one in chain.index.pictures}
    truth = [labels[one.name] for one in evaluation.tested]
    decided = [int(one.decision == "roadwork") for one in evaluation.tested]
    assert tuple(one.name for one in evaluation.tested) == chain.splits.roles["val_test"]
    assert evaluation.report.metrics["mcc"] == pytest.approx(matthews_corrcoef(truth, decided))
    assert evaluation.report.metrics["accuracy"] == pytest.approx(accuracy_score(truth, decided))
    assert evaluation.report.counts.roadwork == sum(truth)
    calibrated = read_thresholds(chain).policy.val_calib.metrics["mcc"]
    assert evaluation.report.optimism == pytest.approx(calibrated - evaluation.report.metrics["mcc"])


@pytest.mark.parametrize("which", ["evaluation", "everything"])
def test_it_round_trips_through_the_store(which, chain, tmp_path, request):
    evaluation = request.getfixturevalue(which)
    published = publish(type(chain.store)(tmp_path), "evaluation", evaluation.to_artifact(), inputs={})
    assert Evaluation.from_artifact(published) == evaluation


@pytest.fixture(scope="module")
def everything(chain, predictor):
    """All pictures of the chain in 12 groups of equal size, so that the report has errors and groups."""
    names = sorted(name for role in ROLES for name in chain.splits.roles[role])
    group = {name: f"street {number % 12}" for number, name in enumerate(names)}
    pictures = tuple(replace(one, group=group[one.name]) for one in chain.index.pictures)
    index = replace(chain.index, pictures=pictures)
    return evaluate(predictor, names, index=index, pictures=chain.pictures(*ROLES))


def columns(evaluation):
    labels = np.array([one.label for one in evaluation.tested])
    margins = np.array([one.logit_roadwork - one.logit_none for one in evaluation.tested])
    return labels, margins, [one.group for one in evaluation.tested]


def test_intervals_are_those_of_the_counts_and_of_the_groups(everything):
    labels, margins, groups = columns(everything)
    report, found = everything.report, everything.report.intervals
    rates = {
        "fnr": (report.metrics["fn"], report.counts.roadwork),
        "fpr": (report.metrics["fp"], report.counts.none),
        "accuracy": (report.metrics["tp"] + report.metrics["tn"], report.counts.n),
    }
    for name, rate in rates.items():
        expected = binomtest(*rate).proportion_ci(0.95, method="exact")
        one = getattr(found, name)
        assert (one.low, one.high) == pytest.approx((expected.low, expected.high))
        assert (one.method, one.level) == ("clopper-pearson", 0.95)
    assert 0 < report.metrics["accuracy"] < 1
    for one in (found.mcc, found.mcc_by_group):
        assert one.low < report.metrics["mcc"] < one.high
    assert (found.bootstrap.groups, found.bootstrap.resamples) == (12, 2000)
    assert found == intervals_of(labels == 1, margins > 0, groups)
    assert found.mcc_by_group != intervals_of(labels == 1, margins > 0, list(range(labels.size))).mcc_by_group


def test_ranking_and_calibration_are_those_of_scikit_learn_on_the_kept_decisions(everything):
    labels, margins, _ = columns(everything)
    ranking, calibration = everything.report.ranking, everything.report.calibration
    assert ranking.auroc == pytest.approx(roc_auc_score(labels, margins))
    assert ranking.average_precision == pytest.approx(average_precision_score(labels, margins))
    accuracy, wrong = everything.report.metrics["accuracy"], (margins > 0) != labels
    failure = roc_auc_score(~wrong, np.abs(margins))
    augrc = (1 - failure) * accuracy * (1 - accuracy) + (1 - accuracy) ** 2 / 2
    assert ranking.augrc == pytest.approx(augrc, abs=1e-9)
    threshold = everything.report.policy.threshold
    for found, folded_in in (
        (calibration.shipped, 0.0),
        (calibration.before_threshold, np.log(threshold / (1 - threshold))),
    ):
        p = 1 / (1 + np.exp(-(margins + folded_in)))
        assert found.brier == pytest.approx(brier_score_loss(labels, p))
        assert found.nll == pytest.approx(log_loss(labels, p))
        assert 0 <= found.ece_equal_width <= found.mce_equal_width <= 1
    assert calibration.shipped != calibration.before_threshold


def test_the_probability_before_the_threshold_is_that_of_the_policy(chain, evaluation):
    """Temperature alone, on the logits of the checkpoint: what the fold added is taken out again."""
    from streetvision_core.models.weights import read_state
    from streetvision_core.training.checkpoint import Checkpoint

    checkpoint = Checkpoint.from_artifact(chain.upstream["phase1_checkpoint"])
    policy = evaluation.report.policy
    calibrated = policy.model_copy(update={"threshold": 0.5})
    plain = Predictor.build(checkpoint.config, read_state(checkpoint.weights), calibrated)
    pictures = chain.pictures("val_test")
    labels, _, _ = columns(evaluation)
    p = [one.probability for one in plain.predict(pictures.read(one.name) for one in evaluation.tested)]
    assert evaluation.report.calibration.before_threshold.brier == pytest.approx(
        brier_score_loss(labels, p), rel=1e-4
    )


def test_the_same_decisions_give_the_same_report(chain, predictor, evaluation):
    names = chain.splits.roles["val_test"]
    again = evaluate(predictor, names, index=chain.index, pictures=chain.pictures("val_test"))
    assert again.to_artifact() == evaluation.to_artifact()


def test_a_figure_that_the_pictures_do_not_have_is_missing_and_not_made_up():
    labels, margins = np.array([True, True, True]), np.array([1.0, 2.0, -1.0])
    ranking = ranking_of(labels, margins)
    assert (ranking.auroc, ranking.average_precision) == (None, None)
    intervals = intervals_of(labels, margins > 0, ["one"] * 3)
    assert intervals.mcc_by_group is None
    assert (intervals.fpr.low, intervals.fpr.high) == (0.0, 1.0)


def without(*path):
    def change(content):
        for name in path[:-1]:
            content = content[name]
        del content[path[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        (without("intervals"), "intervals"),
        (without("intervals", "bootstrap", "seed"), "seed"),
        (without("ranking", "auroc"), "auroc"),
        (lambda c: c["ranking"].update(auroc="0.9"), "auroc"),
        (lambda c: c["ranking"].update(augrc=1.5), "augrc"),
        (lambda c: c["ranking"].update(extra=1), "extra"),
        (lambda c: c["calibration"]["shipped"].update(brier=None), "brier"),
        (lambda c: c["intervals"]["mcc"].update(low=0.99, high=0.1), "0.99 is above 0.1"),
        (lambda c: c["intervals"]["mcc"].update(method="guessed"), "method"),
        (lambda c: c.update(schema_version=[2]), "schema_version"),
    ],
)
def test_a_report_with_other_fields_is_refused(evaluation, change, fragment):
    content = evaluation.report.model_dump(mode="json")
    assert read_record(Report, json_bytes(content), where="evaluation.json") == evaluation.report
    change(content)
    with pytest.raises(BundleError) as caught:
        read_record(Report, json_bytes(content), where="evaluation.json")
    assert fragment in str(caught.value)


def test_a_report_of_another_version_is_refused_in_one_sentence_that_says_what_to_do(
    evaluation, chain, tmp_path
):
    old = evaluation.report.model_dump(mode="json") | {"schema_version": 1}
    for name in ("intervals", "ranking", "calibration"):
        del old[name]
    artifact = evaluation.to_artifact()
    predictions = artifact.files["predictions.csv"].replace(b"group", b"other", 1)
    changed = replace(artifact, files={EVALUATION_NAME: json_bytes(old), "predictions.csv": predictions})
    published = publish(type(chain.store)(tmp_path), "evaluation", changed, inputs={})
    with pytest.raises(BundleError) as caught:
        Evaluation.from_artifact(published)
    assert "found schema_version: Value error, it is 1, where this version reads 2; materialize" in str(
        caught.value
    )


def test_the_report_says_what_its_intervals_were_resampled_from(evaluation):
    content = json.loads(evaluation.to_artifact().files[EVALUATION_NAME])
    assert content["intervals"]["bootstrap"] == {"groups": 12, "resamples": 2000, "seed": 0}


def test_the_readme_of_the_bundle_tells_both_intervals_of_the_mcc(bundle, evaluation):
    found = evaluation.report.intervals
    text = " ".join((bundle / "README.md").read_text().split())
    assert f"95% confidence, if these pictures do not resemble each other: mcc {found.mcc.low:.3f} to" in text
    assert f"(12 groups): mcc {found.mcc_by_group.low:.3f} to {found.mcc_by_group.high:.3f}." in text


def test_mistakes_are_the_wrong_pictures_and_the_most_confident_comes_first(evaluation):
    flipped = [replace(one, label=1 - one.label) for one in evaluation.tested]
    margins = [
        abs(one.logit_roadwork - one.logit_none) for one in replace(evaluation, tested=flipped).mistakes()
    ]
    assert len(margins) + len(evaluation.mistakes()) == len(flipped)
    assert margins == sorted(margins, reverse=True)
    assert len(margins) > 1


def test_slices_are_counted_and_small_ones_marked(chain, predictor):
    names = sorted(name for role in ROLES for name in chain.splits.roles[role])[::3]
    index = with_attributes(chain.index, names)
    report = evaluate(predictor, names, index=index, pictures=chain.pictures(*ROLES)).report
    day, night = report.slices["time"]["day"], report.slices["time"]["night"]
    assert (day.n, day.too_small) == (SMALLEST_SLICE, False)
    assert (night.n, night.too_small) == (len(names) - 30, True)
    for count in ("tp", "tn", "fp", "fn"):
        assert day.metrics[count] + night.metrics[count] == report.metrics[count]
    assert len(names) > MOST_SLICES
    assert report.not_sliced == ("id",)


def test_the_table_of_slices_has_one_row_a_slice_after_the_whole(chain, predictor):
    names = chain.splits.roles["val_test"]
    index = with_attributes(chain.index, names)
    rows = evaluate(predictor, names, index=index, pictures=chain.pictures("val_test")).slice_table()
    assert [(row["attribute"], row["value"]) for row in rows][:2] == [("all", ""), ("id", names[0])]
    assert rows[-1] == rows[0] | {"attribute": "time", "value": "day"}


def test_the_same_predictor_reproduces_every_decision(chain, predictor, evaluation):
    assert decision_problems(predictor, evaluation, pictures=chain.pictures("val_test")) == []


def test_another_operating_point_does_not(chain, evaluation):
    from streetvision_core.models.weights import read_state
    from streetvision_core.training.checkpoint import Checkpoint

    checkpoint = Checkpoint.from_artifact(chain.upstream["phase1_checkpoint"])
    policy = read_thresholds(chain).policy.model_copy(update={"threshold": 1 - 1e-9})
    other = Predictor.build(checkpoint.config, read_state(checkpoint.weights), policy)
    problems = decision_problems(other, evaluation, pictures=chain.pictures("val_test"))
    assert len(problems) == len(evaluation.tested)


def test_no_pictures_and_unknown_pictures_are_errors(chain, predictor):
    for names in ((), ("nowhere.jpg",)):
        with pytest.raises(DataError):
            evaluate(predictor, names, index=chain.index, pictures=chain.pictures("val_test"))


def test_a_picture_whose_bytes_have_changed_is_an_error_and_never_left_out(chain, predictor):
    names = chain.splits.roles["val_test"]

    class Changed:
        def __init__(self, reader):
            self.reader = reader

        def read(self, name):
            if name == names[-1]:
                raise IntegrityError("the picture", "other bytes", name, "Restore it.")
            return self.reader.read(name)

    with pytest.raises(IntegrityError):
        evaluate(predictor, names, index=chain.index, pictures=Changed(chain.pictures("val_test")))
