"""The cost of importing the definitions beyond importing dagster, and that no heavy library comes with it."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from _common import machine_line, print_table

HEAVY = ("torch", "torchvision", "timm", "lightning", "sklearn", "scipy", "matplotlib", "pyarrow")


def seconds(code: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - started


def main(rounds: int = 9) -> None:
    seconds("import streetvision_assets.definitions")
    pairs = [
        (seconds("import streetvision_assets.definitions"), seconds("import dagster")) for _ in range(rounds)
    ]
    code = f"import streetvision_assets.definitions, sys; print([m for m in {HEAVY} if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    columns = {
        "definitions": [ours for ours, _ in pairs],
        "dagster": [theirs for _, theirs in pairs],
        "difference, pair by pair": [ours - theirs for ours, theirs in pairs],
    }
    print_table(
        f"Import in a fresh process, {rounds} pairs in turn, seconds; heavy modules loaded: {loaded.strip()}",
        machine=machine_line("dagster"),
        columns=["import", "median", "least", "most"],
        rows=[[k, *(f"{f(v):.2f}" for f in (statistics.median, min, max))] for k, v in columns.items()],
    )


if __name__ == "__main__":
    main()
