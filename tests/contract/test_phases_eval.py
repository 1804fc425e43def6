"""Reports of phases 1 and 2 as they were asked for: metrics in manifests, the sweep, curves as numbers."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, replace

import numpy as np
import pytest
import sklearn.metrics

from streetvision_core.eval.curves import mcc_rows, precision_recall_rows, risk_coverage_rows, roc_rows
from streetvision_core.eval.selective import threshold_sweep
from streetvision_core.inference.logits import Logits
from streetvision_core.io import Artifact, csv_bytes
from streetvision_core.policies.scrc import Scrc
from streetvision_core.policies.scrc_fit import fit_scrc, verify_scrc
from streetvision_core.policies.threshold import Thresholds, fit_threshold_policy, verify_thresholds
from streetvision_core.report import report
from streetvision_core.report.curves import tabulate_curves
from tests.training.toy import fit, make_backbone, make_toy, publish

ELEVEN = ("mcc", "accuracy", "precision", "recall", "f1", "fnr", "fpr", "tp", "tn", "fp", "fn")
# The columns of threshold_sweep.csv at commit 705fcbb.
OLD_COLUMNS = (
    "coverage_asked", "coverage", "accepted", "selective_accuracy", "selective_risk", "confidence_bound"
)  # fmt: skip


@dataclass(frozen=True)
class Labelled:
    logits: np.ndarray
    labels: np.ndarray
    groups: tuple[str, ...]


def draw(seed, n=400):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, n)
    margins = 3 * (labels - 0.5) + 0.8 + random.normal(0, 1.5, n)
    logits = np.stack([-margins / 2, margins / 2], axis=1).astype(np.float32)
    return Labelled(logits, labels, tuple(f"sequence {number // 2}" for number in range(n)))


@pytest.fixture(scope="module")
def fitted():
    return fit_threshold_policy(draw(1), draw(2), checkpoint_version="c" * 64, logits_version="d" * 64)


def rows_of(artifact, name="threshold_sweep.csv"):
    return list(csv.DictReader(io.StringIO(artifact.files[name].decode(), newline="")))


def probabilities(fitted):
    margins = np.diff(draw(2).logits.astype(float), axis=1)[:, 0]
    return 1 / (1 + np.exp(-margins / fitted.policy.temperature))


def test_phase_1_reports_its_eleven_metrics_at_one_half_with_the_logits(tmp_path):
    calib = draw(2)
    logits = Logits(tuple(map(str, range(400))), calib.logits, calib.labels.astype(np.int64), calib.groups)
    metrics = publish(logits.to_artifact(), tmp_path).manifest.metrics
    assert metrics.keys() >= {*ELEVEN, "pictures", "roadwork"}
    decided = calib.logits[:, 1] > calib.logits[:, 0]
    assert metrics["mcc"] == pytest.approx(sklearn.metrics.matthews_corrcoef(calib.labels, decided))
    assert metrics["accuracy"] == pytest.approx(np.mean(decided == calib.labels))
    assert metrics["fnr"] == pytest.approx(np.mean(~decided[calib.labels == 1]))


def test_after_tuning_the_eleven_metrics_are_those_at_the_chosen_threshold(fitted, tmp_path):
    metrics = publish(fitted.to_artifact(), tmp_path).manifest.metrics
    assert metrics.keys() >= {*ELEVEN, "temperature", "threshold", "val_calib_mcc", "score", "optimism"}
    decided = probabilities(fitted) > metrics["threshold"]
    labels = draw(2).labels
    assert metrics["mcc"] == metrics["val_calib_mcc"]
    assert metrics["mcc"] == pytest.approx(sklearn.metrics.matthews_corrcoef(labels, decided))
    assert metrics["fp"] == np.sum(decided & (labels == 0))


def test_metrics_are_no_content(fitted):
    artifact = fitted.to_artifact()
    assert replace(artifact, metrics={}).digest == artifact.digest


def test_the_sweep_has_the_columns_and_rows_that_were_asked_for(fitted):
    rows = rows_of(fitted.to_artifact())
    assert {"threshold", "coverage", "selective_accuracy", "selective_risk", "num_accepted", "mcc"} <= set(
        rows[0]
    )
    asked = [float(row["coverage_asked"]) for row in rows]
    assert asked == pytest.approx([*np.arange(1, 20) * 0.05, 1.0])
    (chosen,) = [row for row in rows if "chosen" in row["marks"].split()]
    assert float(chosen["threshold"]) == fitted.policy.threshold
    assert (float(chosen["coverage"]), int(chosen["num_accepted"])) == (1.0, 400)
    assert float(chosen["mcc"]) == pytest.approx(fitted.policy.val_calib.metrics["mcc"])


def test_every_row_of_the_sweep_is_what_counting_by_its_thresholds_gives(fitted):
    """Roadwork is answered from `threshold` upwards, none from `none_below` downwards."""
    p, labels = probabilities(fitted), draw(2).labels
    decided = p > fitted.policy.threshold
    for row in rows_of(fitted.to_artifact()):
        upper, lower = float(row["threshold"]), float(row["none_below"])
        accepted = (p >= upper - 1e-12) | (p <= lower + 1e-12)
        assert int(row["num_accepted"]) == accepted.sum()
        assert float(row["coverage"]) == accepted.mean()
        assert float(row["selective_accuracy"]) == pytest.approx(np.mean((decided == labels)[accepted]))
        oracle = sklearn.metrics.matthews_corrcoef(labels[accepted], decided[accepted])
        assert float(row["mcc"]) == pytest.approx(oracle)


@pytest.mark.parametrize(
    ("mark", "column"), [("best_selective_accuracy", "selective_accuracy"), ("best_mcc", "mcc")]
)
def test_the_best_rows_are_marked_and_of_equals_the_one_that_answers_the_most(fitted, mark, column):
    rows = rows_of(fitted.to_artifact())
    (best,) = [row for row in rows if mark in row["marks"].split()]
    value = float(best[column])
    assert value == max(float(row[column]) for row in rows)
    equals = [row for row in rows if float(row[column]) == value]
    assert float(best["coverage"]) == max(float(row["coverage"]) for row in equals)


@pytest.mark.parametrize("probabilities", [[0.1, 0.1, 0.9, 0.9], [0.1, 0.2, 0.8, 0.9]])
def test_on_a_tie_the_chosen_point_carries_the_marks_of_the_best(probabilities):
    """In the first case every row answers everything, so that coverage cannot decide."""
    *others, chosen = threshold_sweep(np.array(probabilities), np.array([0, 0, 1, 1]), threshold=0.5)
    assert chosen.marks == ("chosen", "best_selective_accuracy", "best_mcc")
    assert not any(row.marks for row in others)


def test_the_sweep_reads_back_and_verifies(fitted, tmp_path):
    again = Thresholds.from_artifact(publish(fitted.to_artifact(), tmp_path))
    assert again == fitted
    assert verify_thresholds(again, draw(1), draw(2)) == []


def old_artifact(fitted):
    """The artifact as commit 705fcbb wrote it."""
    artifact = fitted.to_artifact()
    rows = [
        {"accepted": row["num_accepted"], **row}
        for row in rows_of(artifact)
        if "chosen" not in row["marks"].split()
    ]
    old = [{name: row[name] for name in OLD_COLUMNS} for row in rows]
    sweep = csv_bytes(old, columns=OLD_COLUMNS)
    return Artifact({"thresholds.json": artifact.files["thresholds.json"], "threshold_sweep.csv": sweep})


def test_a_sweep_of_705fcbb_reads_and_verifies_and_what_it_lacks_was_not_recorded(fitted, tmp_path):
    old = Thresholds.from_artifact(publish(old_artifact(fitted), tmp_path))
    assert [row.num_accepted for row in old.sweep] == [row.num_accepted for row in fitted.sweep[:-1]]
    assert {(row.threshold, row.none_below, row.mcc, row.marks) for row in old.sweep} == {
        (None, None, None, ())
    }
    assert verify_thresholds(old, draw(1), draw(2)) == []
    changed = replace(old, sweep=(*old.sweep[:-1], replace(old.sweep[-1], num_accepted=3)))
    assert verify_thresholds(changed, draw(1), draw(2))
    assert verify_thresholds(replace(old, sweep=old.sweep[:-1]), draw(1), draw(2))


@pytest.mark.parametrize("change", [{"mcc": 0.99}, {"threshold": 0.2}, {"marks": ("chosen",)}, {"mcc": None}])
def test_a_changed_row_of_the_sweep_is_found(fitted, change):
    first = replace(fitted.sweep[3], **change)
    changed = replace(fitted, sweep=(*fitted.sweep[:3], first, *fitted.sweep[4:]))
    assert verify_thresholds(changed, draw(1), draw(2)) == [
        "the selective sweep is another when computed again"
    ]


def test_a_sweep_without_thresholds_is_not_taken_for_an_old_one(fitted):
    """Only a file without the column is old; it has no chosen point either."""
    stripped = tuple(row.of_first_schema() for row in fitted.sweep)
    assert verify_thresholds(replace(fitted, sweep=stripped), draw(1), draw(2))


def curve(artifact, name):
    return [
        {key: float(cell) for key, cell in row.items()} for row in rows_of(artifact, f"curves/{name}.csv")
    ]


def test_mcc_by_threshold_and_risk_by_coverage_are_tables_too(fitted):
    artifact, labels = fitted.to_artifact(), draw(2).labels
    p = probabilities(fitted)
    rows = curve(artifact, "mcc_by_threshold")
    assert 512 <= len(rows) <= 2000
    assert max(row["mcc"] for row in rows) == pytest.approx(fitted.policy.val_calib.metrics["mcc"])
    for row in rows[::50]:
        oracle = sklearn.metrics.matthews_corrcoef(labels, p > row["threshold"])
        assert row["mcc"] == pytest.approx(oracle)
    risks = curve(artifact, "risk_coverage")
    wrong = (p > fitted.policy.threshold) != labels
    assert (risks[-1]["coverage"], risks[-1]["errors"]) == (1.0, wrong.sum())
    assert all(row["selective_risk"] == row["errors"] / row["num_accepted"] for row in risks)


def test_what_was_published_without_curves_verifies_and_a_changed_curve_is_found(fitted):
    assert verify_thresholds(replace(fitted, curves={}), draw(1), draw(2)) == []
    name = "curves/mcc_by_threshold.csv"
    changed = fitted.curves[name].replace(b"\r\n0.5", b"\r\n0.6", 1)
    assert changed != fitted.curves[name]
    problems = verify_thresholds(replace(fitted, curves={**fitted.curves, name: changed}), draw(1), draw(2))
    assert problems == [f"{name} is another curve when computed again"]


def test_a_long_curve_has_at_most_2000_rows_and_each_is_a_point_of_it():
    random = np.random.default_rng(3)
    labels = random.integers(0, 2, 50_000)
    scores = labels + random.normal(0, 1, 50_000)
    rate, recall, _ = sklearn.metrics.roc_curve(labels, scores, drop_intermediate=False)
    points = set(zip(rate.tolist(), recall.tolist(), strict=True))
    rows = roc_rows(scores, labels)
    assert 400 <= len(rows) <= 2000
    assert {(row["false_positive_rate"], row["recall"]) for row in rows} <= points
    precision, recall, _ = sklearn.metrics.precision_recall_curve(labels, scores)
    points = set(zip(recall.tolist(), precision.tolist(), strict=True))
    rows = precision_recall_rows(scores, labels)
    assert len(rows) <= 2000
    assert {(row["recall"], row["precision"]) for row in rows} <= points
    assert len(risk_coverage_rows(scores, labels)) <= 2000
    assert len(mcc_rows(1 / (1 + np.exp(-scores)), labels)) <= 2000


def test_risk_by_confidence_is_a_table_of_scrc(tmp_path):
    scrc = fit_scrc(draw(1), draw(2), checkpoint_version="c" * 64, logits_version="d" * 64)
    published = publish(scrc.to_artifact(), tmp_path)
    again = Scrc.from_artifact(published)
    assert again == scrc
    rows = rows_of(scrc.to_artifact(), "curves/risk_by_confidence.csv")
    assert {"confidence", "accepted", "wrong", "upper_bound", "alpha"} <= set(rows[0])
    assert verify_scrc(again, draw(1), draw(2)) == []
    assert verify_scrc(replace(scrc, curves={}), draw(1), draw(2)) == []
    name = "curves/risk_by_confidence.csv"
    changed = {name: scrc.curves[name].replace(b",0.05,", b",0.06,", 1)}
    assert verify_scrc(replace(scrc, curves=changed), draw(1), draw(2))


@pytest.mark.parametrize("kinds", [("threshold", "scrc"), ("scrc",)])
def test_the_report_has_a_table_of_each_of_its_curves(fitted, kinds):
    scrc = fit_scrc(draw(1), draw(2), checkpoint_version="c" * 64, logits_version="d" * 64)
    known = {"threshold": fitted.policy, "scrc": scrc.policy}
    drawn = draw(4)
    tested = report.Tested(drawn.logits.astype(float), drawn.labels == 1, drawn.groups, {})
    decided = {}
    for kind in kinds:
        folded = known[kind].point.fold(tested.logits)
        decided[kind] = report.Decided(
            known[kind], known[kind].decide(folded), known[kind].confidence(folded)
        )
    files = Artifact(tabulate_curves(tested, decided))
    assert set(files.files) == {
        f"curves/{name}.csv" for name in ("risk_coverage", "reliability", "roc", "precision_recall")
    }
    for name in ("risk_coverage", "reliability"):
        assert {row["policy"] for row in rows_of(files, f"curves/{name}.csv")} == set(kinds)
    area = np.trapezoid(
        [0, *(row["recall"] for row in curve(files, "roc"))],
        [0, *(row["false_positive_rate"] for row in curve(files, "roc"))],
    )
    margins = np.diff(tested.logits, axis=1)[:, 0]
    assert area == pytest.approx(sklearn.metrics.roc_auc_score(tested.labels, margins))
    bins = rows_of(files, "curves/reliability.csv")
    assert sum(int(row["n"]) for row in bins) == 400 * len(kinds)


@pytest.mark.parametrize("method", ["finetune", "probe"])
def test_training_is_a_table_by_epoch_with_losses_and_mcc(method, tmp_path):
    checkpoint = fit(make_backbone(tmp_path / "backbone"), make_toy(), tmp_path, method=method, epochs=2)
    rows = rows_of(checkpoint.to_artifact(), "metrics.csv")
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all(
        np.isfinite(float(row[name])) for row in rows for name in ("train_loss", "val_loss", "val_mcc")
    )
