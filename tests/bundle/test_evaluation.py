"""The report: every figure can be counted again from the decisions it keeps."""

from dataclasses import replace

import pytest
from sklearn.metrics import accuracy_score, matthews_corrcoef

from streetvision_core.bundle import Evaluation, Predictor, decision_problems, evaluate
from streetvision_core.bundle.evaluation import MOST_SLICES, SMALLEST_SLICE
from streetvision_core.data import ROLES
from streetvision_core.errors import DataError, IntegrityError
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


def test_it_round_trips_through_the_store(evaluation, chain, tmp_path):
    published = publish(type(chain.store)(tmp_path), "evaluation", evaluation.to_artifact(), inputs={})
    assert Evaluation.from_artifact(published) == evaluation


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
