"""All figures of a report on 10^5 images in groups: time and memory of each part, and of all together."""

from __future__ import annotations

import resource
import time

import numpy as np
from _common import machine_line, megabytes, peak_bytes, print_table, time_calls

from streetvision_core.eval import compute_all_metrics
from streetvision_core.eval.metrics import confusion_by_group
from streetvision_core.eval.selective import selective_sweep
from streetvision_core.eval.thresholds import positive_probability
from streetvision_core.report.figures import calibrations_of, intervals_of, ranking_of

IMAGES = 100_000


def draw(*, frames):
    """Margins, labels and names of groups of less than 2 `frames` images, which resemble each other."""
    random = np.random.default_rng(0)
    sizes = random.integers(1, 2 * frames, IMAGES)
    group = np.repeat(np.arange(IMAGES), sizes)[:IMAGES]
    labels = (random.random(IMAGES) < 0.3)[group]
    shared, own = random.normal(0, 1.2, IMAGES)[group], random.normal(0, 1.2, IMAGES)
    margins = np.where(labels, 2.5, -2.5) + shared + own
    return margins, labels, np.char.add("drive ", group.astype(str))


def main() -> None:
    started = time.perf_counter()
    margins, labels, groups = draw(frames=6)
    decisions, unit = margins > 0, np.unique(groups, return_inverse=True)[1]
    probabilities = positive_probability(margins)
    drawn = time.perf_counter() - started
    parts = {
        "metrics": lambda: compute_all_metrics(labels, decisions),
        "intervals, names of groups included": lambda: intervals_of(
            confusion_by_group(labels, decisions, groups)
        ),
        "ranking": lambda: ranking_of(labels, margins, confidence=np.abs(margins), groups=unit),
        "calibrations": lambda: calibrations_of(labels, margins, calibrated=probabilities, groups=unit),
        "sweep": lambda: selective_sweep(probabilities, labels, threshold=0.5),
    }
    parts["everything"] = lambda: [parts[name]() for name in tuple(parts) if name != "everything"]
    rows = [(name, time_calls(part, repeats=3), megabytes(peak_bytes(part))) for name, part in parts.items()]
    print_table(
        f"The figures of a report on {IMAGES:,} images: median of 3 (least to most), extra memory",
        machine=machine_line("numpy", "scipy"),
        columns=("part", "seconds", "memory"),
        rows=rows,
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"drawing the input took {drawn:.1f} s; the whole process reached {megabytes(peak)}")


if __name__ == "__main__":
    main()
