"""One JPEG's bytes to a decision: `Predictor`, the pipeline of transformers, plain timm, ONNX Runtime.

All of them load the same folder in timm's hub format, or the ONNX file that is made of it, and are asked in
turn, image by image, in a running process. The time inside of the network is taken by hooks on the timm model
that each of them holds, or around the session's run; the rest is decoding, preprocessing and whatever its
maker puts around. Probabilities must agree.

Then the start-up: a process of its own imports what a way needs, loads the folder and answers one image.

What is not installed (transformers, the extra onnx) is left out.

Usage: python benchmarks/one_image.py [ROUNDS]
"""

from __future__ import annotations

import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import timm
import torch
from _common import machine_line, print_table
from PIL import Image

from streetvision_core.bundle.onnx.extra import NEEDED
from streetvision_core.inference.predictor import Predictor
from streetvision_core.inference.reproduce import TOLERANCE
from streetvision_core.io import write_checkpoint_atomic
from streetvision_core.models import BackboneConfig, build_classifier, hub_config, prepare_backbone
from streetvision_core.policies.threshold import fit_threshold_policy

if TYPE_CHECKING:
    from collections.abc import Callable

CLIENTS = Path(__file__).parents[1] / "tests/bundle/clients"
NETWORKS = (("test_resnet", 128), ("tf_efficientnet_lite0", 224))
SIZES = ((224, 224), (1280, 720))
IMAGES = 8


class Watched:
    """An answer, and the seconds that it took inside of the network and in all."""

    def __init__(self, name: str, model: torch.nn.Module | None, answer: Callable[[bytes], float]) -> None:
        self.name, self._answer = name, answer
        self.inside, self.total, self.answers = [], [], []
        self._seconds = 0.0
        if model is not None:
            model.register_forward_pre_hook(self._enter)
            model.register_forward_hook(self._leave)

    def timed(self, run: Callable[..., object], *arguments: object) -> object:
        """Call what has no hooks, and count its time as that of the network."""
        self._enter()
        try:
            return run(*arguments)
        finally:
            self._leave()

    def _enter(self, *_):
        self._entered = time.perf_counter()

    def _leave(self, *_):
        self._seconds += time.perf_counter() - self._entered

    def ask(self, data: bytes) -> None:
        self._seconds, started = 0.0, time.perf_counter()
        self.answers.append(self._answer(data))
        self.total.append(time.perf_counter() - started)
        self.inside.append(self._seconds)

    def forget(self) -> None:
        """Leave out what was asked so far: the first image of a process costs more than the others."""
        for kept in (self.inside, self.total, self.answers):
            kept.clear()

    def row(self) -> list[str]:
        outside = [total - inside for total, inside in zip(self.total, self.inside, strict=True)]
        ordered = sorted(self.total)
        parts = (
            *map(statistics.median, (self.total, self.inside, outside)),
            ordered[int(len(ordered) * 0.99)],
        )
        return [self.name, *(f"{1000 * part:.2f}" for part in parts)]


def jpegs(width: int, height: int) -> list[bytes]:
    random, encoded = np.random.default_rng(0), []
    for _ in range(IMAGES):
        coarse = Image.fromarray(random.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=75)
        encoded.append(buffer.getvalue())
    return encoded


def save(folder: Path, architecture: str, side: int) -> None:
    """Write an untrained classifier as a bundle holds one, with a head that tells images apart."""
    settings = BackboneConfig(architecture=architecture, weights="random", input_size=side)
    backbone = prepare_backbone(settings, directory=folder)
    model = build_classifier(backbone)
    torch.manual_seed(0)
    torch.nn.init.normal_(model.get_classifier().weight, std=0.1)
    (folder / "config.json").write_text(json.dumps(hub_config(backbone)))
    write_checkpoint_atomic(folder / "model.safetensors", model)


def policy():
    """Return a policy that decides by the margin, as most bundles ship one."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 400)
    logits = np.stack([-labels, labels], axis=1) + random.normal(0, 1, (400, 2))
    fitted_on = SimpleNamespace(logits=logits, labels=labels, groups=tuple(map(str, range(400))))
    versions = {"checkpoint_version": "c" * 64, "logits_version": "d" * 64}
    return fit_threshold_policy(fitted_on, fitted_on, **versions).policy


def ours(folder: Path) -> Watched:
    config = json.loads((folder / "config.json").read_text())
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    predictor = Predictor(model, config=config, policy=policy())
    return Watched("Predictor", model, lambda data: next(predictor.predict([data])).probability)


def pipeline(folder: Path) -> Watched:
    from transformers import pipeline as load

    classify = load("image-classification", model=str(folder), device="cpu")

    def answer(data: bytes) -> float:
        scores = classify(Image.open(io.BytesIO(data)))
        return next(score["score"] for score in scores if score["label"] == "Roadwork")

    return Watched("transformers pipeline", classify.model.timm_model, answer)


def plain(folder: Path) -> Watched:
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform = timm.data.create_transform(
        **timm.data.resolve_data_config(pretrained_cfg=model.pretrained_cfg)
    )

    def answer(data: bytes) -> float:
        with torch.inference_mode():
            logits = model(transform(Image.open(io.BytesIO(data)).convert("RGB"))[None])
        return logits.softmax(dim=1)[0, 1].item()

    return Watched("timm by hand", model, answer)


def onnx_runtime(folder: Path) -> Watched:
    from streetvision_core.bundle.onnx.parity import open_session

    file = onnx_file(folder)
    session = open_session(file.read_bytes())
    specification = json.loads(session.get_modelmeta().custom_metadata_map["streetvision"])
    pixels_of = run_path(str(CLIENTS / "onnx_runtime.py"))["pixels_of"]

    def answer(data: bytes) -> float:
        pixels = pixels_of(Image.open(io.BytesIO(data)), specification)[None]
        return float(way.timed(session.run, ["probability"], {"pixels": pixels})[0][0])

    way = Watched("ONNX Runtime", None, answer)
    return way


def onnx_file(folder: Path) -> Path:
    """Write the network of a folder as ONNX, once."""
    from streetvision_core.bundle.onnx.export import export_onnx

    file = folder / "model.onnx"
    if not file.exists():
        config = json.loads((folder / "config.json").read_text())
        model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        images = [Image.open(io.BytesIO(data)) for data in jpegs(320, 240)]
        predictor = Predictor(model, config=config, policy=policy())
        file.write_bytes(export_onnx(predictor, images, weights_sha256="0" * 64)[0])
    return file


def start_up(folder: Path, image: Path) -> None:
    """Time whole processes that answer one image, three of each kind in turn; the fastest counts."""
    programs = {
        "timm by hand": (CLIENTS / "timm_alone.py", folder),
        **({"transformers pipeline": (CLIENTS / "pipeline.py", folder)} if find_spec("transformers") else {}),
        **({"ONNX Runtime": (CLIENTS / "onnx_runtime.py", onnx_file(folder))} if HAS_ONNX else {}),
    }
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    for _ in range(3):
        for name, (script, opened) in programs.items():
            started = time.perf_counter()
            command = [sys.executable, "-W", "ignore", script, opened, image]
            subprocess.run(command, check=True, capture_output=True, env=offline)
            seconds[name].append(time.perf_counter() - started)
    print_table(
        "A process of its own: start, load, answer one image",
        machine=machine_line("torch", "timm", "pillow"),
        columns=["what", "s, the fastest of 3"],
        rows=[[name, f"{min(taken):.2f}"] for name, taken in seconds.items()],
    )


def measure(architecture: str, side: int, size: tuple[int, int], rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder), architecture, side)
        ways = [make(Path(folder)) for make in WAYS]
    images = jpegs(*size)
    for way in ways:
        way.ask(images[0])
        way.forget()
    for _ in range(rounds):
        for data in images:
            for way in ways:
                way.ask(data)
    for way in ways[1:]:
        assert np.allclose(way.answers, ways[0].answers, atol=TOLERANCE), way.name
    print_table(
        f"One JPEG of {size[0]} x {size[1]} through {architecture} at {side}, {len(ways[0].total)} times",
        machine=machine_line("torch", "timm", "pillow", "simplejpeg"),
        columns=["what", "ms", "in the network", "outside of it", "p99"],
        rows=[way.row() for way in ways],
    )


def main(rounds: int) -> None:
    for architecture, side in NETWORKS:
        for size in SIZES:
            measure(architecture, side, size, rounds)
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder), *NETWORKS[0])
        image = Path(folder) / "street.jpg"
        image.write_bytes(jpegs(*SIZES[0])[0])
        start_up(Path(folder), image)


HAS_ONNX = all(map(find_spec, NEEDED))
WAYS = (
    ours, *([pipeline] if find_spec("transformers") else []), plain, *([onnx_runtime] if HAS_ONNX else [])
)  # fmt: skip

if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
