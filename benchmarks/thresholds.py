"""The exact threshold scan against a 5,000-point grid: seconds, peak memory and regret by number of samples.

Regret is the best MCC that a threshold on these samples reaches minus that of the threshold returned.
Margins are taken as they are, and twenty times as large, as of a model that is far too sure: its
probabilities crowd near 0 and 1, between two grid points. A second table has what the bootstrap adds that
places the median and rates the optimism.

The naive grid compares every score with every threshold at once, as [thresholds x samples]; it is run
only where that fits.
"""

from __future__ import annotations

from functools import partial
from itertools import product

import numpy as np
from _common import machine_line, megabytes, peak_bytes, print_table, time_calls

from streetvision_core.eval import compute_mcc, select_threshold_max_mcc
from streetvision_core.eval.metrics import mcc_from_counts
from streetvision_core.eval.optimism import choose_margin
from streetvision_core.eval.thresholds import positive_probability

GRID = 5000
SIZES = (10_000, 100_000, 1_000_000)
NAIVE_LIMIT_BYTES = 500_000_000
RESAMPLES = {10_000: 200, 100_000: 200, 1_000_000: 20}


SHARPNESS = (1.0, 20.0)


def samples(count: int, sharpness: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = random.random(count) < 0.1
    margins = sharpness * (random.normal(0, 1, count) + np.where(labels, 1.2, -1.2))
    return np.stack([-margins / 2, margins / 2], axis=1), labels


def naive_grid(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    thresholds = np.linspace(0, 1, GRID)
    called = positive_probability(logits)[None, :] > thresholds[:, None]
    tp, fp = (called & labels).sum(axis=1), (called & ~labels).sum(axis=1)
    fn, tn = labels.sum() - tp, (~labels).sum() - fp
    mcc = mcc_from_counts(tp=tp, tn=tn, fp=fp, fn=fn)
    return float(thresholds[mcc.argmax()]), float(mcc.max())


def measured(method, choose, *, count, sharpness, logits, labels, best, repeats=7):
    threshold, mcc = choose()
    reached = compute_mcc(labels, positive_probability(logits) > threshold)
    return (
        method,
        f"{count:,}",
        f"{sharpness:g}",
        time_calls(choose, repeats=repeats),
        megabytes(peak_bytes(choose)),
        f"{mcc:.6f}",
        f"{best - reached:.2e}",
    )


def compare_with_grids() -> None:
    rows = []
    for count, sharpness in product(SIZES, SHARPNESS):
        logits, labels = samples(count, sharpness)
        _, best = select_threshold_max_mcc(logits, labels)
        exact = partial(select_threshold_max_mcc, logits, labels)
        measure = partial(measured, count=count, sharpness=sharpness, logits=logits, labels=labels, best=best)
        rows.append(measure("exact", exact))
        rows.append(measure(f"grid of {GRID:,}", partial(exact, n_thresholds=GRID)))
        needed = 2 * GRID * count
        if needed <= NAIVE_LIMIT_BYTES:
            rows.append(measure("naive grid", partial(naive_grid, logits, labels), repeats=3))
        else:
            need = f"at least {megabytes(needed)}"
            rows.append(("naive grid", f"{count:,}", f"{sharpness:g}", "not run", need, "", ""))
    print_table(
        "Threshold that maximises MCC: median of 7 calls (least to most); of 3 for the naive grid",
        machine=machine_line("numpy"),
        columns=("method", "samples", "margins times", "seconds", "peak memory", "MCC returned", "regret"),
        rows=rows,
    )


def measure_bootstrap() -> None:
    rows = []
    for count in SIZES:
        logits, labels = samples(count)
        choose = partial(choose_margin, logits, labels, at="bootstrap_median", resamples=RESAMPLES[count])
        seconds = time_calls(choose, repeats=3 if count < SIZES[-1] else 1)
        peak = megabytes(peak_bytes(choose))
        rows.append((f"{count:,}", RESAMPLES[count], seconds, peak, f"{choose().optimism:.5f}"))
    print_table(
        "Bootstrap of the threshold: median of 3 calls (least to most); 1 for the largest",
        machine=machine_line("numpy"),
        columns=("samples", "resamples", "seconds", "peak memory", "estimated optimism of MCC"),
        rows=rows,
    )


def main() -> None:
    compare_with_grids()
    measure_bootstrap()


if __name__ == "__main__":
    main()
