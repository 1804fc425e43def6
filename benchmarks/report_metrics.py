"""All figures of a report on 10^5 images in groups: time and memory of each part, and of all together."""

from __future__ import annotations

import resource
import time

import numpy as np
from _common import machine_line, megabytes, peak_bytes, print_table, time_calls

from streetvision_core.eval import (
    bootstrap_counts,
    compute_all_metrics,
    confusion_by_group,
    mcc_of_counts,
    selective_sweep,
)
from streetvision_core.eval.thresholds import positive_probability
from streetvision_core.report.figures import calibrations_of, intervals_of, ranking_of

PICTURES = 100_000


def draw(*, frames):
    """Margins, labels and names of groups of less than 2 `frames` images, which resemble each other."""
    random = np.random.default_rng(0)
    sizes = random.integers(1, 2 * frames, PICTURES)
    group = np.repeat(np.arange(PICTURES), sizes)[:PICTURES]
    labels = (random.random(PICTURES) < 0.3)[group]
    shared, own = random.normal(0, 1.2, PICTURES)[group], random.normal(0, 1.2, PICTURES)
    margins = np.where(labels, 2.5, -2.5) + shared + own
    return margins, labels, np.char.add("drive ", group.astype(str))


def main() -> None:
    started = time.perf_counter()
    margins, labels, groups = draw(frames=6)
    decisions = margins > 0
    counts, alone = confusion_by_group(labels, decisions, groups), confusion_by_group(labels, decisions)
    long_drives = confusion_by_group(labels, decisions, draw(frames=60)[2])  # more kinds of groups
    probabilities = positive_probability(margins)
    drawn = time.perf_counter() - started

    def everything():
        compute_all_metrics(labels, decisions)
        intervals_of(labels, decisions, groups)
        ranking_of(labels, margins)
        calibrations_of(labels, margins, threshold=0.4)
        selective_sweep(probabilities, labels, threshold=0.5)

    parts = {
        "2,000 resamples of images, BCa": lambda: bootstrap_counts(alone, mcc_of_counts, seed=0),
        f"2,000 resamples of {len(counts):,} groups": lambda: bootstrap_counts(counts, mcc_of_counts, seed=0),
        f"2,000 resamples of {len(long_drives):,} groups": lambda: bootstrap_counts(
            long_drives, mcc_of_counts, seed=0
        ),
        "all intervals, names of groups included": lambda: intervals_of(labels, decisions, groups),
        "ranking": lambda: ranking_of(labels, margins),
        "both calibrations": lambda: calibrations_of(labels, margins, threshold=0.4),
        "everything": everything,
    }
    rows = [(name, time_calls(part, repeats=3), megabytes(peak_bytes(part))) for name, part in parts.items()]
    print_table(
        f"The figures of a report on {PICTURES:,} pictures: median of 3 (least to most), extra memory",
        machine=machine_line("numpy", "scipy"),
        columns=("part", "seconds", "memory"),
        rows=rows,
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"drawing the input took {drawn:.1f} s; the whole process reached {megabytes(peak)}")


if __name__ == "__main__":
    main()
