"""`predict` over many JPEGs of 1280 x 720 against a plain loop of timm with a DataLoader of two workers.

Usage: python benchmarks/predict.py [IMAGES] [ROUNDS] [ARCHITECTURE] [SIDE]

Both are programs of their own, asked in turn, on the same folder of images and the same weights; what they
give must agree. A rate is that between the first answer and the last, so that importing torch is not in it;
the whole process is shown as well. Memory is the most that a program and its children held at a time: the sum
of their resident sets, and of their proportional ones, which count a shared page once (psutil, three times a
second).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from _common import machine_line, megabytes, print_table, spread
from one_image import jpegs, save

from streetvision_core.inference.reproduce import TOLERANCE

OURS = """
import json, os, sys, time
from pathlib import Path
import timm
from streetvision_core.data.sources.files import find_images
from streetvision_core.inference.predictor import Predictor
from one_image import policy
model, folder = sys.argv[1:]
config = json.loads(Path(model, "config.json").read_text())
network = timm.create_model(f"local-dir:{model}", pretrained=True)
predictor = Predictor(network, config=config, policy=policy())
paths = [str(Path(folder, name)) for name in find_images(folder)]
for answer in predictor.predict(paths, threads=min(8, os.cpu_count()), batch_size=8):
    print(time.perf_counter(), answer.probability)
"""

PLAIN = """
import sys, time
import timm, torch
from timm.data import ImageDataset, create_transform, resolve_data_config
if __name__ == "__main__":
    model, folder = sys.argv[1:]
    model = timm.create_model(f"local-dir:{model}", pretrained=True).eval()
    config = resolve_data_config(pretrained_cfg=model.pretrained_cfg)
    data = ImageDataset(folder, transform=create_transform(**config, is_training=False))
    loader = torch.utils.data.DataLoader(data, batch_size=32, num_workers=2)
    with torch.inference_mode():
        for images, _ in loader:
            for probability in model(images).softmax(dim=1)[:, 1].tolist():
                print(time.perf_counter(), probability)
"""


def draw(folder: Path, count: int) -> None:
    """Write images into one folder of one class, as timm's ImageDataset wants them."""
    (folder / "street").mkdir()
    encoded = jpegs(1280, 720)
    for number in range(count):
        (folder / "street" / f"{number:05d}.jpg").write_bytes(encoded[number % len(encoded)])


@dataclass(frozen=True)
class Run:
    """The cost of one program: images a second between its first and last answer, its seconds, its memory."""

    rate: float
    seconds: float
    resident: int
    proportional: int
    probabilities: tuple[float, ...]


def run(code: str, model: Path, folder: Path) -> Run:
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(model), str(folder)], stdout=out, cwd=Path(__file__).parent
        )
        peaks = watch(psutil.Process(process.pid))
        assert process.wait() == 0
        seconds = time.perf_counter() - started
        out.seek(0)
        rows = [tuple(map(float, line.split())) for line in out]
    times, probabilities = zip(*rows, strict=True)
    return Run((len(rows) - 32) / (times[-1] - times[0]), seconds, *peaks, probabilities)


def watch(program: psutil.Process) -> tuple[int, int]:
    """Return the most memory that a program and its children held at a time, until it ends."""
    resident = proportional = 0
    while program.is_running() and program.status() != psutil.STATUS_ZOMBIE:
        try:
            held = [process.memory_full_info() for process in (program, *program.children(recursive=True))]
        except psutil.Error:  # one of them has just ended
            continue
        resident = max(resident, sum(memory.rss for memory in held))
        proportional = max(proportional, sum(memory.pss for memory in held))
        time.sleep(0.3)
    return resident, proportional


def main(count: int = 5000, rounds: int = 3, architecture: str = "tf_efficientnet_lite0", side: int = 224):
    ways = {"ours": OURS, "timm, DataLoader of two workers": PLAIN}
    runs = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as scratch:
        model, folder = Path(scratch, "model"), Path(scratch, "images")
        model.mkdir()
        folder.mkdir()
        save(model, architecture, side)
        draw(folder, count)
        for _ in range(rounds):
            for name, code in ways.items():
                runs[name].append(run(code, model, folder))
    ours, plain = runs.values()
    assert np.allclose(ours[0].probabilities, plain[0].probabilities, atol=TOLERANCE)
    ratios = [a.rate / b.rate for a, b in zip(ours, plain, strict=True)]
    print_table(
        f"{count:,} JPEGs of 1280 x 720 through {architecture} at {side}, {rounds} rounds",
        machine=machine_line("torch", "timm", "pillow", "simplejpeg"),
        columns=["what", "images a second", "whole process, s", "most resident", "most proportional"],
        rows=[
            [
                name,
                spread([measured.rate for measured in repeats]),
                spread([measured.seconds for measured in repeats]),
                megabytes(max(measured.resident for measured in repeats)),
                megabytes(max(measured.proportional for measured in repeats)),
            ]
            for name, repeats in runs.items()
        ],
    )
    print(f"ours / timm, by rate: {spread(ratios)}")


if __name__ == "__main__":
    given = sys.argv[1:]
    main(*map(int, given[:2]), *given[2:3], *map(int, given[3:4]))
