"""The eleven numbers of compute_all_metrics against the same eleven from scikit-learn, 10,000 samples."""

from __future__ import annotations

import numpy as np
from _common import machine_line, print_table, time_calls
from sklearn import metrics

from streetvision_core.eval import compute_all_metrics

SAMPLES = 10_000


def sklearn_metrics(labels, predictions):
    """Compute each number by its own public function; the four counts and the two rates by one matrix."""
    tn, fp, fn, tp = metrics.confusion_matrix(labels, predictions, labels=[0, 1]).ravel().tolist()
    return {
        "mcc": metrics.matthews_corrcoef(labels, predictions),
        "accuracy": metrics.accuracy_score(labels, predictions),
        "precision": metrics.precision_score(labels, predictions, zero_division=0),
        "recall": metrics.recall_score(labels, predictions, zero_division=0),
        "f1": metrics.f1_score(labels, predictions, zero_division=0),
        "fnr": fn / (tp + fn),
        "fpr": fp / (fp + tn),
        "tp": tp,
        "tn": tn,
        "fp": fp,
        "fn": fn,
    }


def main() -> None:
    random = np.random.default_rng(0)
    labels = (random.random(SAMPLES) < 0.3).astype(np.int64)
    predictions = np.where(random.random(SAMPLES) < 0.1, 1 - labels, labels)
    ours, wanted = compute_all_metrics(labels, predictions), sklearn_metrics(labels, predictions)
    np.testing.assert_allclose([ours[name] for name in wanted], list(wanted.values()))
    theirs = time_calls(lambda: sklearn_metrics(labels, predictions), repeats=9)
    rows = [("scikit-learn, NumPy int64", theirs, "1")]
    listed = labels.tolist(), predictions.tolist()
    for name, pair in (
        ("ours, NumPy int64", (labels, predictions)),
        ("ours, NumPy bool", (labels == 1, predictions == 1)),
        ("ours, lists", listed),
    ):
        timing = time_calls(lambda pair=pair: compute_all_metrics(*pair), repeats=9, loops=20)
        rows.append((name, timing, f"{theirs.median / timing.median:.0f}"))
    print_table(
        f"Eleven metrics of {SAMPLES:,} samples: median of 9 (least to most)",
        machine=machine_line("numpy", "scikit-learn"),
        columns=("implementation and input", "seconds", "times as fast"),
        rows=rows,
    )


if __name__ == "__main__":
    main()
