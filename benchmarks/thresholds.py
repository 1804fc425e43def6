"""The exact threshold scan against a 5,000-point grid: seconds and peak memory by number of samples.

The naive grid compares every score with every threshold at once, as [thresholds x samples]; it is run
only where that fits.
"""

from __future__ import annotations

import numpy as np
from _common import machine_line, megabytes, peak_bytes, print_table, time_calls

from streetvision_core.eval import (
    compute_mcc,
    mcc_from_counts,
    positive_probability,
    select_threshold_max_mcc,
)

GRID = 5000
SIZES = (10_000, 100_000, 1_000_000)
NAIVE_LIMIT_BYTES = 500_000_000


def samples(count: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = random.random(count) < 0.1
    margins = random.normal(0, 1, count) + np.where(labels, 1.2, -1.2)
    return np.stack([-margins / 2, margins / 2], axis=1), labels


def naive_grid(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    thresholds = np.linspace(0, 1, GRID)
    called = positive_probability(logits)[None, :] > thresholds[:, None]
    tp, fp = (called & labels).sum(axis=1), (called & ~labels).sum(axis=1)
    fn, tn = labels.sum() - tp, (~labels).sum() - fp
    mcc = mcc_from_counts(tp=tp, tn=tn, fp=fp, fn=fn)
    return float(thresholds[mcc.argmax()]), float(mcc.max())


def measured(name, count, choose, logits, labels):
    threshold, mcc = choose()
    reached = compute_mcc(labels, positive_probability(logits) > threshold)
    repeats = 3 if choose.__name__ == "naive" else 7
    return (
        name,
        f"{count:,}",
        time_calls(choose, repeats=repeats),
        megabytes(peak_bytes(choose)),
        f"{mcc:.6f}",
        f"{reached:.6f}",
    )


def main() -> None:
    rows = []
    for count in SIZES:
        logits, labels = samples(count)

        def exact(logits=logits, labels=labels):
            return select_threshold_max_mcc(logits, labels)

        def grid(logits=logits, labels=labels):
            return select_threshold_max_mcc(logits, labels, n_thresholds=GRID)

        def naive(logits=logits, labels=labels):
            return naive_grid(logits, labels)

        rows.append(measured("exact", count, exact, logits, labels))
        rows.append(measured(f"grid of {GRID:,}", count, grid, logits, labels))
        needed = 2 * GRID * count
        if needed <= NAIVE_LIMIT_BYTES:
            rows.append(measured("naive grid", count, naive, logits, labels))
        else:
            rows.append(("naive grid", f"{count:,}", "not run", f"at least {megabytes(needed)}", "", ""))
    print_table(
        "Threshold that maximises MCC: median of 7 calls (least to most); of 3 for the naive grid",
        machine=machine_line("numpy"),
        columns=("method", "samples", "seconds", "peak memory", "MCC returned", "MCC of the rule"),
        rows=rows,
    )


if __name__ == "__main__":
    main()
