"""Thirty epochs of probing against the plain loop, which asks the frozen backbone about every image anew.

Usage: python benchmarks/probe.py [PICTURES] [PICTURES OF THE PEER'S EPOCH] [ARCHITECTURE]

Ours is the whole of `fit_classifier` with method: probe: features, heads, choice, checkpoint, every epoch
saved durably; once with an empty cache of features and once with a full one. The peer is the shortest honest
Lightning loop: a Dataset that decodes and transforms, the backbone in eval mode under no_grad, a linear head,
the same batch size and threads, no validation and nothing saved. One of its epochs is timed over fewer
images and scaled; it is the same work every time. Weights are random: they cost what others cost.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import lightning
import timm
import torch
from _common import machine_line, print_table
from _task import Task, make_task
from PIL import Image
from timm.data import create_transform, resolve_data_config
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from streetvision_core.models import BackboneConfig, prepare_backbone
from streetvision_core.training import TrainingConfig, TrainingFolders, fit_classifier, probe
from streetvision_core.training.config import Probe

if TYPE_CHECKING:
    from streetvision_core.models.backbone import Backbone

EPOCHS, BATCH, VALIDATION = 30, 64, 200
ARCHITECTURE = "vit_tiny_patch16_224"
THREADS = os.cpu_count() or 1
ONE_HEAD = {"LEARNING_RATES": (3e-3,), "WEIGHT_DECAYS": (0.05,)}
WARM_ROUNDS = 3


class Pictures(Dataset):
    """Decoded and transformed each time."""

    def __init__(self, files, transform) -> None:
        self._files = files
        self._transform = transform

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, position: int):
        path, label = self._files[position]
        with Image.open(path) as image:
            return self._transform(image.convert("RGB")), label


class PlainProbe(lightning.LightningModule):
    """A linear head on a backbone that is asked anew for every image."""

    def __init__(self, architecture: str) -> None:
        super().__init__()
        self.backbone = timm.create_model(architecture, num_classes=0).eval().requires_grad_(False)
        self.head = torch.nn.Linear(self.backbone.num_features, 2)

    def training_step(self, batch, batch_idx):  # noqa: ARG002 - Lightning's signature
        pixels, labels = batch
        with torch.no_grad():
            features = self.backbone(pixels)
        return functional.cross_entropy(self.head(features), labels)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.head.parameters(), lr=3e-3)


def time_ours(backbone: Backbone, task: Task, features: Path, **changes: tuple[float, ...]) -> float:
    """Return the seconds of a whole probe, with other constants of it where they are given."""
    config = TrainingConfig(method=Probe(), epochs=EPOCHS, batch_size=BATCH)
    with tempfile.TemporaryDirectory() as place, patch.dict(vars(probe), changes):
        started = time.perf_counter()
        fit_classifier(
            backbone,
            index=task.index,
            splits=task.splits,
            images=task.reader,
            config=config,
            folders=TrainingFolders(Path(place) / "out", Path(place) / "resume", features),
        )
        return time.perf_counter() - started


def time_theirs(architecture: str, task: Task, pictures: int) -> float:
    """Return the seconds of one epoch over all images, timed over the first ones; without validation."""
    module = PlainProbe(architecture)
    settings = resolve_data_config({}, model=module.backbone)
    files = task.files[:pictures]
    loader = DataLoader(
        Pictures(files, create_transform(**settings)), batch_size=BATCH, shuffle=True, drop_last=True
    )
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    started = time.perf_counter()
    trainer.fit(module, loader)
    seconds = time.perf_counter() - started
    return seconds / (len(loader) * BATCH) * len(task.files)


def main() -> None:
    warnings.filterwarnings("ignore", message=".*")
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    peer_count = int(sys.argv[2]) if len(sys.argv) > 2 else 256
    architecture = sys.argv[3] if len(sys.argv) > 3 else ARCHITECTURE
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        for folder in ("pictures", "backbone"):
            (root / folder).mkdir()
        task = make_task(root / "pictures", train=count, others=VALIDATION)
        backbone = prepare_backbone(
            BackboneConfig(architecture=architecture, input_size=224), directory=root / "backbone"
        )
        epochs = [time_theirs(architecture, task, peer_count)]
        cold = time_ours(backbone, task, root / "features", **ONE_HEAD)
        epochs.append(time_theirs(architecture, task, peer_count))
        warm = [time_ours(backbone, task, root / "features", **ONE_HEAD) for _ in range(WARM_ROUNDS)]
        sweep = [time_ours(backbone, task, root / "features") for _ in range(WARM_ROUNDS)]
        epochs.append(time_theirs(architecture, task, peer_count))
    theirs = [EPOCHS * seconds for seconds in epochs]
    scaled = f"plain loop, one head, {EPOCHS} x an epoch scaled from {peer_count} images"
    rows = [
        [what, spread(seconds), f"{statistics.median(theirs) / statistics.median(seconds):.3g}"]
        for what, seconds in (
            (scaled, theirs),
            ("ours, one head, first pass included", [cold]),
            ("ours, one head, features cached", warm),
            ("ours, 12 heads at once, features cached", sweep),
        )
    ]
    print_table(
        f"{EPOCHS} epochs of probing {count:,} images, {architecture} at 224, batch {BATCH},"
        f" {THREADS} threads",
        machine=machine_line("torch", "timm", "lightning"),
        columns=["what", "seconds, median (least to most)", "times as fast"],
        rows=rows,
    )


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.4g} ({min(values):.4g} to {max(values):.4g}) of {len(values)}"


if __name__ == "__main__":
    main()
