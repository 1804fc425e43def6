"""The evaluation: val_test once, whole, and kept so that everything can be counted again."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, brier_score_loss, matthews_corrcoef

from streetvision_core.bundle import Evaluation, Predictor, decision_problems, evaluate
from streetvision_core.data import ROLES
from streetvision_core.errors import BundleError, DataError, IntegrityError
from streetvision_core.eval.metrics import METRICS
from streetvision_core.graph import POLICIES
from streetvision_core.inference.predict import BATCH_SIZE
from streetvision_core.io import json_bytes, read_csv
from streetvision_core.policies.registry import published_policies
from streetvision_core.report.evaluation import EVALUATION_NAME, PREDICTIONS_NAME
from streetvision_core.report.pages import PAGE_NAME, slice_rows
from tests.bundle.chain import build_predictor, checkpoint_of, publish, read_thresholds
from tests.bundle.made import ANSWERING


@pytest.fixture(scope="module")
def evaluation(chain):
    return Evaluation.from_artifact(chain.upstream["evaluation"])


@pytest.fixture(scope="module")
def checkpoint(chain):
    return checkpoint_of(chain)


@pytest.fixture(scope="module")
def policies(chain):
    return published_policies(chain.upstream)


@pytest.fixture(scope="module")
def everything(chain, checkpoint, policies):
    """All images of the chain in 12 groups of equal size, so that the report has errors and groups."""
    names = sorted(name for role in ROLES for name in chain.splits.roles[role])
    group = {name: f"street {number % 12}" for number, name in enumerate(names)}
    pictures = tuple(replace(image, group=group[image.name]) for image in chain.index.pictures)
    index = replace(chain.index, pictures=pictures)
    return evaluate(checkpoint, policies, names, index=index, images=chain.pictures(*ROLES))


def with_attributes(index, names):
    """The time is by day for 30 images, by night for the next and unknown for the last; ids differ."""
    order = {name: number for number, name in enumerate(names)}

    def attributes(image):
        number = order.get(image.name, 0)
        time = {} if number == len(names) - 1 else {"time": "day" if number < 30 else "night"}
        return {**time, "id": image.name}

    return replace(
        index, pictures=tuple(replace(image, attributes=attributes(image)) for image in index.pictures)
    )


@pytest.mark.parametrize("which", ["evaluation", "everything"])
@pytest.mark.parametrize("kind", ANSWERING)
def test_the_figures_of_each_policy_are_those_of_its_decisions(chain, request, which, kind):
    evaluation = request.getfixturevalue(which)
    labels = {image.name: image.label for image in chain.index.pictures}
    answered = [image for image in evaluation.tested if image.decisions[kind] != "defer"]
    truth = [labels[image.name] for image in answered]
    decided = [int(image.decisions[kind] == "roadwork") for image in answered]
    report = evaluation.report.of(kind)
    assert report.metrics["mcc"] == pytest.approx(matthews_corrcoef(truth, decided))
    assert report.metrics["accuracy"] == pytest.approx(accuracy_score(truth, decided))
    assert report.coverage.answered == len(answered)
    assert (len(answered) < len(evaluation.tested)) == (kind != "threshold")


def test_it_covers_all_of_val_test_in_the_order_of_the_role(chain, evaluation):
    pictures = {image.name: image for image in chain.index.pictures}
    assert tuple(image.name for image in evaluation.tested) == chain.splits.roles["val_test"]
    for image in evaluation.tested:
        known = pictures[image.name]
        assert (image.sha256, image.group, image.label) == (known.sha256, known.group, known.label)
    assert evaluation.report.counts.n == len(evaluation.tested)
    assert evaluation.report.counts.roadwork == sum(image.label for image in evaluation.tested)


def test_predictions_name_every_image_and_what_each_policy_decided(evaluation):
    rows = read_csv(evaluation.to_artifact().files[PREDICTIONS_NAME])
    assert set(rows[0]) == {
        "name", "sha256", "group", "label", "logit_none", "logit_roadwork",
        *(f"by_{kind}" for kind in POLICIES),
    }  # fmt: skip
    assert [row["by_scrc"] for row in rows] == [image.decisions["scrc"] for image in evaluation.tested]
    assert {row["by_scrc"] for row in rows} == {"none", "roadwork", "defer"}


@pytest.mark.parametrize("which", ["evaluation", "everything"])
def test_it_round_trips_through_the_store(which, chain, tmp_path, request):
    evaluation = request.getfixturevalue(which)
    published = publish(type(chain.store)(tmp_path), "evaluation", evaluation.to_artifact(), inputs={})
    assert Evaluation.from_artifact(published) == evaluation


def test_the_calibrated_probability_is_that_of_the_policy(chain, evaluation):
    """Temperature alone, on the logits of the checkpoint: what the fold added is taken out again."""
    from streetvision_core.models.weights import read_state
    from streetvision_core.training.checkpoint import Checkpoint

    checkpoint = Checkpoint.from_artifact(chain.upstream["phase1_checkpoint"])
    calibrated = read_thresholds(chain).policy.model_copy(update={"threshold": 0.5})
    plain = Predictor.build(checkpoint.config, read_state(checkpoint.weights), calibrated)
    pictures = chain.pictures("val_test")
    p = [
        image.probability for image in plain.predict(pictures.read(image.name) for image in evaluation.tested)
    ]
    brier = evaluation.report.of("threshold").calibration.calibrated.brier
    assert brier == pytest.approx(brier_score_loss([image.label for image in evaluation.tested], p), rel=1e-4)


def test_the_same_decisions_give_the_same_bytes(chain, checkpoint, policies, evaluation):
    names = chain.splits.roles["val_test"]
    again = evaluate(checkpoint, policies, names, index=chain.index, images=chain.pictures("val_test"))
    assert again.to_artifact() == evaluation.to_artifact()


def test_a_report_of_another_version_is_refused_in_one_sentence_that_says_what_to_do(
    evaluation, chain, tmp_path
):
    old = evaluation.report.model_dump(mode="json") | {"schema_version": 2}
    old |= old["policies"].pop("threshold")
    del old["policies"]
    artifact = evaluation.to_artifact()
    predictions = artifact.files[PREDICTIONS_NAME].replace(b"group", b"other", 1)
    changed = replace(artifact, files={EVALUATION_NAME: json_bytes(old), PREDICTIONS_NAME: predictions})
    published = publish(type(chain.store)(tmp_path), "evaluation", changed, inputs={})
    with pytest.raises(BundleError) as caught:
        Evaluation.from_artifact(published)
    assert "found schema_version: Value error, it is 2, where this version reads 3; materialize" in str(
        caught.value
    )


def test_intervals_are_over_the_groups_that_the_index_names(everything):
    for kind in ANSWERING:
        groups = {image.group for image in everything.tested if image.decisions[kind] != "defer"}
        assert everything.report.of(kind).intervals.groups.n == len(groups) <= 12


def test_the_readme_of_the_bundle_tells_every_rate_with_its_interval(bundle, evaluation):
    policy = evaluation.report.of("threshold")
    text = " ".join((bundle / "README.md").read_text().split())
    for name in (metric.name for metric in METRICS):
        interval = policy.interval(name)
        assert f"| {name} | {policy.metrics[name]:.3f} | {interval.low:.3f} to {interval.high:.3f} |" in text
    assert "taken as independent: the data names no groups" in text
    assert "Few groups: 12" in text


def test_attributes_of_the_index_are_slices_and_a_missing_one_is_unknown(chain, checkpoint, policies):
    names = sorted(name for role in ROLES for name in chain.splits.roles[role])[::3]
    index = with_attributes(chain.index, names)
    evaluation = evaluate(checkpoint, policies, names, index=index, images=chain.pictures(*ROLES))
    report = evaluation.report
    slices = {part.value: part for part in report.of("scrc").slices if part.attribute == "time"}
    assert slices["day"].n == 30
    (whole,) = [part for part in report.of("threshold").slices if part.value == "day"]
    assert (whole.n, whole.answered, whole.too_small) == (30, 30, False)
    assert (slices["night"].n, slices["night"].too_small) == (len(names) - 31, True)
    assert slices["unknown"].n == 1
    for cell in ("tp", "tn", "fp", "fn"):
        total = sum(part.metrics[cell] for part in slices.values())
        assert total == report.of("scrc").metrics[cell]
    assert report.not_sliced == ("id",)
    rows = slice_rows(report)
    assert len(rows) == len(report.of("threshold").slices)
    (day,) = [row for row in rows if row["value"] == "day"]
    assert (day["n"], day["reading"]) == (30, "few groups with roadwork: 10")
    wrong = slices["day"].metrics["fp"] + slices["day"].metrics["fn"]
    assert day["scrc"] == f"{slices['day'].answered} answered, {wrong} wrong"
    assert rows[-1]["reading"] == "too small to read"


@pytest.mark.parametrize("kind", list(POLICIES))
def test_the_same_model_and_policy_reproduce_every_decision(chain, evaluation, kind):
    predictor = build_predictor(chain, kind)
    assert decision_problems(predictor, evaluation, images=chain.pictures("val_test")) == []


def test_another_operating_point_does_not(chain, evaluation):
    """It decides as another policy, and the logits that were kept do not change that."""
    from streetvision_core.models.weights import read_state
    from streetvision_core.training.checkpoint import Checkpoint

    checkpoint = Checkpoint.from_artifact(chain.upstream["phase1_checkpoint"])
    policy = read_thresholds(chain).policy.model_copy(update={"threshold": 1 - 1e-9})
    other = Predictor.build(checkpoint.config, read_state(checkpoint.weights), policy)
    problems = decision_problems(other, evaluation, images=chain.pictures("val_test"))
    assert len(problems) == sum(image.decisions["threshold"] == "roadwork" for image in evaluation.tested) > 3


def test_other_weights_do_not(chain, evaluation):
    import torch

    other = build_predictor(chain)
    with torch.no_grad():
        other.model.get_classifier().bias.add_(torch.tensor([0.01, 0.0]))
    problems = decision_problems(other, evaluation, images=chain.pictures("val_test"))
    assert len(problems) == len(evaluation.tested)


def test_no_images_and_unknown_images_are_errors(chain, checkpoint, policies):
    for names in ((), ("nowhere.jpg",)):
        with pytest.raises(DataError):
            evaluate(checkpoint, policies, names, index=chain.index, images=chain.pictures("val_test"))


def test_an_image_whose_bytes_have_changed_is_an_error_and_never_left_out(chain, checkpoint, policies):
    names = chain.splits.roles["val_test"]

    class Changed:
        def __init__(self, reader):
            self.reader, self.conditions = reader, reader.conditions

        def read(self, name):
            if name == names[-1]:
                raise IntegrityError("the image", "other bytes", name, "Restore it.")
            return self.reader.read(name)

    changed = Changed(chain.pictures("val_test"))
    with pytest.raises(IntegrityError):
        evaluate(checkpoint, policies, names, index=chain.index, images=changed)


def test_each_image_passes_the_network_once_for_all_policies_and_once_a_level(
    chain, checkpoint, policies, monkeypatch
):
    """None of these policies needs extras, so there is no second, mirrored pass either."""
    names, passed, model = chain.splits.roles["val_test"], [], checkpoint.load_model()
    original = model.forward
    monkeypatch.setattr(model, "forward", lambda batch: passed.append(len(batch)) or original(batch))
    watched = SimpleNamespace(config=checkpoint.config, weights=checkpoint.weights, load_model=lambda: model)
    evaluation = evaluate(watched, policies, names, index=chain.index, images=chain.pictures("val_test"))
    levels = len(evaluation.levels)
    assert len(passed) == 1 + math.ceil(len(names) * levels / BATCH_SIZE)
    assert PAGE_NAME in evaluation.pages


def test_the_logits_that_are_kept_are_those_of_a_prediction_bit_for_bit(chain, checkpoint, evaluation):
    """Nothing was folded into the weights and taken out again."""
    from streetvision_core.inference.logits import predict_role

    names = chain.splits.roles["val_test"]
    plain = predict_role(
        checkpoint, names, index=chain.index, images=chain.pictures("val_test"), device="cpu"
    )
    kept = [(image.logit_none, image.logit_roadwork) for image in evaluation.tested]
    assert np.array_equal(np.array(kept, dtype=np.float32), plain.logits)
