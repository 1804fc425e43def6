"""What phases 1 and 2 report, as it was asked for: metrics in the manifests, the sweep, curves as numbers."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, replace

import numpy as np
import pytest
import sklearn.metrics

from streetvision_core.eval.policy import Thresholds, fit_threshold_policy, verify_thresholds
from streetvision_core.io import Artifact, csv_bytes
from streetvision_core.training.logits import Logits
from tests.training.toy import publish

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
    return Artifact(dict(artifact.files) | {"threshold_sweep.csv": csv_bytes(old, columns=OLD_COLUMNS)})


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
