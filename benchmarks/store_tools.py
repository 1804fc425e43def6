"""The commands that look at a store, as whole processes, on a store of 1,000 runs of 9 assets.

The store is synthetic: real manifests and pointers, small files, written plainly. Every fourth run computes
everything, the others take over what comes before the checkpoint, as links. Beside the commands stand
an empty Python and `streetvision --help`, which is what starting costs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from _common import machine_line, print_table

sys.path.insert(0, str(Path(__file__).parents[1]))

from streetvision_core.history.scan import run_ids
from streetvision_core.io import (
    ArtifactStore,
    InputArtifact,
    OutputFile,
    StepManifest,
    bytes_digest,
    describe,
    json_bytes,
    private,
)
from tests.history.made import CHAIN

STEPS = {**CHAIN, "scrc": ("val_calib_logits",)}
ROLES = {
    "phase1_checkpoint": ("train", "val_select"),
    "val_calib_logits": ("val_calib",),
    "bundle": ("val_test",),
}
CONFIG = {f"setting_{number}": number / 7 for number in range(20)}
METRICS = {"val_mcc": 0.9375, "val_calib_mcc": 0.9, "mcc": 0.91, "pictures": 3000}
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "--help": None,
    "runs": None,
    "runs --all": None,
    "lineage bundle": None,
    "diff": None,
    "gc": None,
    "verify": None,
    "verify --all": None,
}


def build(root: Path, runs: int) -> None:
    """Write the store; a run that takes over links to the files of the last one that computed."""
    # Asked once: it would take most of the time.
    private.environment, private.git_state = cache(private.environment), cache(private.git_state)
    began = datetime(2026, 1, 1, tzinfo=UTC)
    computed: dict[str, tuple[StepManifest, str]] = {}
    for number in range(runs):
        moment = began + timedelta(hours=number)
        run_id = f"{moment:%Y%m%dT%H%M%S}-{number:08x}"
        references: dict[str, InputArtifact] = {}
        for step, inputs in STEPS.items():
            given = {name: references[name] for name in inputs}
            reused = number % 4 and step in {"images", "splits", "backbone"}
            made = publish(root, run_id, step, given, moment, origin=computed[step] if reused else None)
            computed[step] = computed[step] if reused else made
            manifest, digest = made
            references[step] = InputArtifact(
                data_version=manifest.data_version, run_id=run_id, manifest_sha256=digest
            )


def publish(root, run_id, step, given, moment, *, origin):
    directory = root / "runs" / run_id / step
    directory.mkdir(parents=True)
    if origin is not None:
        before, digest = origin
        for name in before.output_artifacts:
            os.link(root / "runs" / before.run_id / step / name, directory / name)
        manifest = describe.describe_reuse(
            before, manifest_sha256=digest, run_id=run_id, dagster_run_id=run_id[-8:], inputs=given,
            outputs=before.output_artifacts,
        )  # fmt: skip
    else:
        outputs = {}
        for number in range(3):
            data = f"{run_id} {step} {number} ".encode() * 100
            (directory / f"file_{number}.bin").write_bytes(data)
            outputs[f"file_{number}.bin"] = OutputFile(sha256=bytes_digest(data), size_bytes=len(data))
        manifest = describe.describe_step(
            describe.StepRun(
                step_name=step,
                run_id=run_id,
                dagster_run_id=run_id[-8:],
                code_version="0123456789abcdef",
                config={"demo": CONFIG} if step == "images" else CONFIG,
                inputs=given,
                roles=ROLES.get(step, ()),
                outputs=outputs,
                metrics=METRICS,
                started=moment,
                finished=moment,
                seed=0,
            )
        )
    data = manifest.to_bytes()
    (directory / "manifest.json").write_bytes(data)
    pointer = json_bytes({"manifest": f"runs/{run_id}/{step}/manifest.json", "sha256": bytes_digest(data)})
    for path in (root / "latest" / f"{step}.json", root / "keys" / step / f"{manifest.step_key}.json"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pointer)
    return manifest, bytes_digest(data)


def seconds(arguments: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def rows(store: ArtifactStore, rounds: int) -> list[list[str]]:
    ids = run_ids(store.root)
    table = []
    for name, arguments in COMMANDS.items():
        words = ["diff", ids[0], ids[-1]] if name == "diff" else name.split()
        place = [] if name == "--help" else ["--store", str(store.root)]
        line = arguments or ["-m", "streetvision_core.cli", *words, *place]
        seconds(line)
        times = [seconds(line) for _ in range(rounds)]
        table.append(
            [name, *(f"{value:.2f}" for value in (min(times), statistics.median(times), max(times)))]
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = ArtifactStore(Path(folder) / "store")
        build(store.root, parsed.runs)
        print_table(
            f"Whole processes, {parsed.runs} runs x {len(STEPS)} assets, {parsed.rounds} rounds, seconds",
            machine=machine_line("pydantic", "filelock"),
            columns=["command", "least", "median", "most"],
            rows=rows(store, parsed.rounds),
        )


if __name__ == "__main__":
    main()
