"""The calls of `streetvision_core.eval` as they were asked for: scikit-learn's names, and what they take."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics
import torch

from streetvision_core.eval import (
    certify_selective_risk,
    compute_all_metrics,
    compute_mcc,
    select_threshold_max_mcc,
)
from streetvision_core.eval.metrics import METRICS_OF_FIRST_SCHEMA
from streetvision_core.eval.risk_control import risk_grid

LABELS, DECISIONS = [1, 0, 1, 1, 0, 0, 1, 0], [1, 0, 0, 1, 1, 0, 1, 0]
KINDS = {
    "list": list,
    "numpy": np.array,
    "bool": lambda values: np.array(values, dtype=bool),
    "torch": torch.tensor,
    "float": lambda values: torch.tensor(values, dtype=torch.float32),
    "gpu": lambda values: torch.tensor(values, device="cuda"),
}
WITH_A_GPU = [
    pytest.param(
        kind,
        marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
        if kind == "gpu"
        else [],
    )
    for kind in KINDS
]


@pytest.mark.parametrize("kind", WITH_A_GPU)
def test_metrics_take_scikit_learns_names_and_every_kind_of_array(kind):
    y_true, y_pred = KINDS[kind](LABELS), KINDS[kind](DECISIONS)
    mcc = compute_mcc(y_true=y_true, y_pred=y_pred)
    assert mcc == pytest.approx(sklearn.metrics.matthews_corrcoef(LABELS, DECISIONS))
    assert mcc == compute_mcc(y_true, y_pred)
    metrics = compute_all_metrics(y_true=y_true, y_pred=y_pred)
    assert metrics == compute_all_metrics(y_true, y_pred)
    assert metrics["mcc"] == mcc
    tn, fp, fn, tp = sklearn.metrics.confusion_matrix(LABELS, DECISIONS).ravel().tolist()
    assert [metrics[name] for name in ("tn", "fp", "fn", "tp")] == [tn, fp, fn, tp]
    for name in ("accuracy", "precision", "recall", "f1"):
        oracle = getattr(sklearn.metrics, f"{name}_score")
        assert metrics[name] == pytest.approx(oracle(LABELS, DECISIONS))
    assert metrics["fnr"] == pytest.approx(fn / (fn + tp))
    assert metrics["fpr"] == pytest.approx(fp / (fp + tn))
    assert metrics.keys() >= {*METRICS_OF_FIRST_SCHEMA}


def test_labels_come_first_and_errors_use_the_same_names():
    assert compute_all_metrics([1, 1, 0], [1, 0, 0])["fn"] == 1
    with pytest.raises(ValueError, match="y_pred to hold only 0"):
        compute_mcc(y_true=[0, 1], y_pred=[0.2, 0.9])


@pytest.mark.parametrize("kind", ["list", "numpy", "float", pytest.param("gpu", marks=WITH_A_GPU[-1].marks)])
@pytest.mark.parametrize("pairs", [True, False])
def test_the_threshold_is_chosen_exactly_or_on_a_grid(kind, pairs):
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 200)
    margins = 2 * (labels - 0.4) + random.normal(0, 1, 200)
    values = np.stack([-margins / 2, margins / 2], axis=1) if pairs else margins
    logits = KINDS[kind](values.tolist())
    exact, best_mcc = select_threshold_max_mcc(logits, labels)
    threshold, mcc = select_threshold_max_mcc(logits=logits, labels=labels, n_thresholds=100)
    p = 1 / (1 + np.exp(-margins))
    grid = [sklearn.metrics.matthews_corrcoef(labels, p > t) for t in np.linspace(0, 1, 100)]
    assert mcc == pytest.approx(max(grid))
    assert mcc == pytest.approx(sklearn.metrics.matthews_corrcoef(labels, p > threshold))
    assert min(abs(threshold - np.linspace(0, 1, 100))) < 1e-12
    assert best_mcc >= mcc
    assert best_mcc == pytest.approx(sklearn.metrics.matthews_corrcoef(labels, p > exact))


def test_selective_risk_is_certified_from_strict_to_loose():
    random = np.random.default_rng(1)
    confidence = random.uniform(0.5, 1, 2000)
    wrong = random.uniform(size=2000) > confidence
    grid = risk_grid(confidence[:1000], calibration_size=1000, alpha=0.15, delta=0.10)
    certificate = certify_selective_risk(
        confidence[1000:], wrong[1000:], thresholds=grid, alpha=0.15, delta=0.10
    )
    assert certificate.threshold in grid
    assert certificate.upper_bound <= 0.15
    assert wrong[1000:][confidence[1000:] >= certificate.threshold].mean() <= certificate.upper_bound
    with_errors_only = certify_selective_risk(
        confidence, confidence > 0, thresholds=grid, alpha=0.05, delta=0.1
    )
    assert with_errors_only.threshold is None  # infeasible: everything is deferred
