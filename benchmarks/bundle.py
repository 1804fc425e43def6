"""The default `make bundle`, the same once more, and `make verify`, and where the time of the first went.

Usage: python benchmarks/bundle.py [HOME]  (HOME keeps the run; a temporary folder otherwise)
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _common import machine_line, print_table

from streetvision_core.io import ArtifactStore

REPOSITORY = Path(__file__).parents[1]
STEPS = (
    "images", "splits", "backbone", "phase1_checkpoint",
    "val_calib_logits", "thresholds", "evaluation", "bundle",
)  # fmt: skip
WORK = ("images", "phase1_checkpoint", "val_calib_logits", "evaluation")


def run(home: Path, *words: str) -> float:
    environment = os.environ | {
        "DAGSTER_HOME": str(home),
        "STREETVISION_STORE": str(home / "artifacts"),
        "DAGSTER_MODULE_NAME": "streetvision_assets.definitions",
    }
    started = time.perf_counter()
    dagster = str(Path(sys.executable).with_name("dagster"))
    command = [dagster, *words]
    quiet = subprocess.DEVNULL
    subprocess.run(command, env=environment, cwd=REPOSITORY, check=True, stderr=quiet)
    return time.perf_counter() - started


def main() -> None:
    home = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
    home.mkdir(exist_ok=True)
    shutil.copy(REPOSITORY / "dagster_home/dagster.yaml", home)
    make = ("asset", "materialize", "--select", "*bundle", "-c", "presets/demo.yaml")
    bundle = run(home, *make)
    verify = run(home, "job", "execute", "-j", "verify")
    store = ArtifactStore(home / "artifacts")
    seconds = {step: store.resolve(step).manifest.duration_seconds for step in STEPS}
    again = [run(home, *make) for _ in range(3)]
    assert all(store.resolve(step).manifest.reused_from for step in STEPS)
    report = json.loads(store.resolve("evaluation").read_bytes("evaluation.json"))
    rest = bundle - sum(seconds[step] for step in WORK)
    print_table(
        f"The default bundle: val_test MCC {report['metrics']['mcc']:.3f} of {report['counts']['n']}",
        machine=machine_line("dagster", "torch", "timm", "lightning"),
        columns=["what", "seconds"],
        rows=[
            ["make bundle, whole process", f"{bundle:.1f}"],
            *([f"  {step}", f"{seconds[step]:.1f}"] for step in STEPS),
            ["  neither drawing and reading, training nor predicting", f"{rest:.1f}"],
            ["make verify, whole process", f"{verify:.1f}"],
            ["make bundle again, nothing changed (three times)", ", ".join(f"{time:.1f}" for time in again)],
        ],
    )


if __name__ == "__main__":
    main()
