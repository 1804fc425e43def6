"""One JPEG's bytes to a decision in a running process: `Predictor`, the pipeline of transformers, plain timm.

All three load the same folder in timm's hub format and are asked in turn, image by image. The time inside
of the network is taken by hooks on the timm model that each of them holds; the rest is decoding,
preprocessing and whatever its maker puts around. Probabilities must agree.

Usage: python benchmarks/one_image.py [ROUNDS]
"""

from __future__ import annotations

import io
import json
import statistics
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import timm
import torch
from _common import machine_line, print_table
from PIL import Image

from streetvision_core.inference.predictor import Predictor
from streetvision_core.inference.reproduce import TOLERANCE
from streetvision_core.io import write_checkpoint_atomic
from streetvision_core.models import BackboneConfig, build_classifier, hub_config, prepare_backbone
from streetvision_core.policies.threshold import fit_threshold_policy

if TYPE_CHECKING:
    from collections.abc import Callable

NETWORKS = (("test_resnet", 128), ("tf_efficientnet_lite0", 224))
SIZES = ((224, 224), (1280, 720))
IMAGES = 8


class Watched:
    """An answer, and the seconds that it took inside of the network and in all."""

    def __init__(self, name: str, model: torch.nn.Module, answer: Callable[[bytes], float]) -> None:
        self.name, self._answer = name, answer
        self.inside, self.total, self.answers = [], [], []
        model.register_forward_pre_hook(self._enter)
        model.register_forward_hook(self._leave)
        self._seconds = 0.0

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
        return next(one["score"] for one in scores if one["label"] == "Roadwork")

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


WAYS = (ours, *([pipeline] if find_spec("transformers") else []), plain)

if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
