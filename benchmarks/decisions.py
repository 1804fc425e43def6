"""The policies and the report from logits: certification of 10^6 images, and every stage on 10^5.

Certification is compared with sorting the same confidences, which is the least that any such rule must do.

The other tables are the whole policy and evaluation part on val_select, val_calib and val_test of 10^5
images each, two of a group and then about six, with logits that are too sure by a factor and with logits
that only an isotonic calibration mends, whose parameters are as many as the images call for. The gate is
told that there are too few errors to learn from, so its confidence is the margin. Each run is a process of
its own; the peak is that of the whole process, interpreter and libraries included.
"""

from __future__ import annotations

import multiprocessing
import resource
import time
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
from _common import machine_line, megabytes, peak_bytes, print_table, time_calls

from streetvision_core.eval.risk_control import certify_selective_risk, risk_grid
from streetvision_core.io import json_bytes
from streetvision_core.policies.config import RecordedGate
from streetvision_core.policies.gate_fit import fit_gate
from streetvision_core.policies.scrc_fit import fit_scrc, sequence_table
from streetvision_core.policies.threshold import fit_threshold_policy
from streetvision_core.report.in_use import tabulate_use
from streetvision_core.report.pages import draw_plots, write_page
from streetvision_core.report.report import Decided, Tested, report_of

CALIBRATION = 1_000_000
IMAGES = 100_000
TOGETHER = (2, 6)  # images of a group: exactly two, or six on average
RUNS = 3
DISTORTIONS = {"too sure by 1.6": lambda true: 1.6 * true, "bent": lambda true: true**3 / 30}


@dataclass(frozen=True, eq=False)
class Labelled:
    logits: np.ndarray
    labels: np.ndarray
    groups: tuple[str, ...]


def draw(seed, distort, together):
    """Logits whose true log odds are known, labels, and groups of two images or of less than 2 `together`."""
    random = np.random.default_rng(seed)
    sizes = 2 if together == 2 else random.integers(1, 2 * together, IMAGES)
    group = np.repeat(np.arange(IMAGES), sizes)[:IMAGES]
    kind = (random.random(IMAGES) < 0.3)[group]
    true = np.where(kind, 5.0, -5.0) + random.normal(0, 1, IMAGES)[group] + random.normal(0, 1, IMAGES)
    labels = random.random(IMAGES) < 0.5 * (1 + np.tanh(true / 2))
    margins = distort(true)
    logits = np.stack([-margins / 2, margins / 2], axis=1).astype(np.float32)
    return Labelled(logits, labels.astype(np.int64), tuple(f"drive {number}" for number in group.tolist()))


def certification():
    random = np.random.default_rng(0)
    sure, select = random.random(CALIBRATION), random.random(10_000)
    wrong = random.random(CALIBRATION) < 0.5 / (1 + np.exp(14 * (sure - 0.35)))
    freeze = partial(risk_grid, select, calibration_size=CALIBRATION, alpha=0.05, delta=0.1)
    grid = freeze()
    certify = partial(certify_selective_risk, sure, wrong, thresholds=grid, alpha=0.05, delta=0.1)
    parts = {"sorting alone": partial(np.sort, sure), "certification": certify}
    timed = {name: time_calls(part) for name, part in parts.items()}
    least = timed["sorting alone"].median
    rows = [
        (name, timed[name], f"{timed[name].median / least:.2f}", megabytes(peak_bytes(part)))
        for name, part in parts.items()
    ]
    print_table(
        f"Certification on {CALIBRATION:,} calibration images: median of 7 calls (least to most)",
        machine=machine_line("numpy", "scipy"),
        columns=("what", "seconds", "times sorting", "extra memory"),
        rows=rows,
    )


class Stages:
    """Seconds by stage, and how far the peak memory of the process had risen when it ended."""

    def __init__(self):
        self.rows = []

    def __call__(self, name, function):
        started = time.perf_counter()
        result = function()
        self.rows.append((name, time.perf_counter() - started, peak_of_process()))
        return result


def peak_of_process() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def everything(distortion: str, together: int):
    """Run all stages once; return the peak before them and a row a stage."""
    distort = DISTORTIONS[distortion]
    select, calib, test = (draw(seed, distort, together) for seed in range(3))
    random = np.random.default_rng(9)
    attributes = {
        "time of day": random.choice(["day", "dusk", "night"], IMAGES).tolist(),
        "weather": random.choice(["dry", "rain", "snow", "fog", "unknown"], IMAGES).tolist(),
        "source": random.choice([f"city {number}" for number in range(12)], IMAGES).tolist(),
    }
    before, stage = peak_of_process(), Stages()
    versions = {"checkpoint_version": "c" * 64, "logits_version": "d" * 64}
    thresholds = stage("thresholds", lambda: fit_threshold_policy(select, calib, **versions))
    scrc = stage("scrc", lambda: fit_scrc(select, calib, **versions))
    few_errors = RecordedGate(min_errors=IMAGES)
    gate = stage(
        "gate", lambda: fit_gate(select, checkpoint_version=versions["checkpoint_version"], config=few_errors)
    )
    stage("table of the sequence", lambda: sequence_table(scrc.policy, calib))
    fitted = {"threshold": thresholds.policy, "gate": gate.policy, "scrc": scrc.policy}
    decided = stage(
        "decisions", lambda: {name: decide(policy, test.logits) for name, policy in fitted.items()}
    )
    tested = Tested(test.logits.astype(np.float64), test.labels == 1, test.groups, attributes)
    report = stage("report_of", lambda: report_of(tested, decided))
    stage("evaluation.json", lambda: json_bytes(report.model_dump(mode="json")))
    stage("curves of use", lambda: tabulate_use(tested, decided, report))
    plots = stage("draw_plots", lambda: draw_plots(tested, decided, report))
    stage("write_page", lambda: write_page(report, plots=plots, mistakes=[], identity={"model": "simulated"}))
    return before, scrc.policy.calibrator["method"], stage.rows


def decide(policy, logits):
    folded = policy.point.fold(logits)
    return Decided(policy, policy.decide(folded), policy.confidence(folded))


def measure_everything():
    # Spawned, so that no run begins with the memory of another.
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for together, distortion in product(TOGETHER, DISTORTIONS):
            runs = [pool.apply(everything, (distortion, together)) for _ in range(RUNS)]
            print_stages(distortion, together, runs)


def print_stages(distortion, together, runs):
    seconds = np.array([[spent for _, spent, _ in rows] for _, _, rows in runs])
    seconds = np.column_stack([seconds, seconds.sum(axis=1)])
    peaks = [peak for _, _, peak in runs[0][2]]
    names = [name for name, _, _ in runs[0][2]]
    spans = [f"{np.median(times):.2f} ({times.min():.2f} to {times.max():.2f})" for times in seconds.T]
    print_table(
        f"Policies and report of {IMAGES:,} images in each of val_select, val_calib and val_test,"
        f" {together} of a group, logits {distortion}, calibrated by {runs[0][1]}: median of {RUNS} runs"
        " (least to most)",
        machine=machine_line("numpy", "scipy", "scikit-learn", "matplotlib"),
        columns=("stage", "seconds", "peak of the process by then"),
        rows=[
            ("(imports and the drawn logits)", "", megabytes(runs[0][0])),
            *zip(names, spans, map(megabytes, peaks), strict=False),
            ("all", spans[-1], megabytes(max(peaks))),
        ],
    )


def main() -> None:
    certification()
    measure_everything()


if __name__ == "__main__":
    main()
