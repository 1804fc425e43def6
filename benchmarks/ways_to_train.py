"""The ways to train, side by side: what each reaches on few images from one pretrained network, and when.

Pretrained weights cannot be fetched everywhere, so they are made here: a small network learns one set of
drawn images (seed 1), and each way then starts from it on another, much smaller set (seed 0). That the task
is the same makes transfer far easier than it is from the weights of a hub: a probe has nearly everything it
needs. The order of the ways and the times are what to look at. Adapters are left out: they need a vision
transformer, and none learns these images from random weights.

Usage: python benchmarks/ways_to_train.py [PRETRAINING_PICTURES [PICTURES [SEEDS]]]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from _common import machine_line, print_table

from streetvision_core.data import Splits, SplitsConfig, assign_splits
from streetvision_core.data.config import DemoConfig
from streetvision_core.data.images import ImagesConfig, index_images
from streetvision_core.models import BackboneConfig, prepare_backbone
from streetvision_core.training import TrainingConfig, TrainingFolders, fit_classifier

ARCHITECTURE, INPUT, SIZE, THREADS = "test_resnet", 128, 192, 2
PRETRAINING = {"epochs": 8, "optimizer": {"learning_rate": 3e-3}}
COMMON = {"epochs": 8, "patience": 100}
PROBE = {"method": {"kind": "probe"}, "epochs": 30, "batch_size": 64}
SLOWLY = {"learning_rate": 1e-3, "layer_decay": 0.75}
WAYS = {
    "from random weights": {"optimizer": {"learning_rate": 3e-3}},
    "probe": PROBE,
    "probe, hidden layer": {**PROBE, "head_hidden": 64},
    "finetune": {"optimizer": SLOWLY},
    "lp_ft": {"method": {"kind": "lp_ft"}, "optimizer": SLOWLY},
}


def draw(pictures: int, *, seed: int, directory: Path):
    directory.mkdir(parents=True)
    config = ImagesConfig(demo=DemoConfig(pictures=pictures, size=SIZE, seed=seed))
    indexed = index_images(config, directory=directory)
    return indexed, assign_splits(indexed.index, SplitsConfig())


def train(indexed, splits: Splits, backbone, directory: Path, *, features: Path, **recipe):
    directory.mkdir(parents=True)
    started = time.perf_counter()
    checkpoint = fit_classifier(
        backbone,
        index=indexed.index,
        splits=splits,
        images=indexed.reader,
        config=TrainingConfig.model_validate({**COMMON, **recipe}),
        folders=TrainingFolders(directory, features=features),
    )
    return checkpoint, time.perf_counter() - started


def prepared(root: Path, *, weights: str):
    root.mkdir(parents=True)
    stated = {} if weights == "random" else {"license": "mit"}
    config = BackboneConfig(architecture=ARCHITECTURE, input_size=INPUT, weights=weights, **stated)
    return prepare_backbone(config, directory=root)


def main() -> None:
    defaults = ("2000", "600", "3")
    pretraining, pictures, seeds = map(int, (*sys.argv[1:], *defaults[len(sys.argv) - 1 :]))
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        random = prepared(root / "random", weights="random")
        taught, _ = train(
            *draw(pretraining, seed=1, directory=root / "large"), random, root / "taught",
            features=root / "features", **PRETRAINING,
        )  # fmt: skip
        pretrained = prepared(root / "pretrained", weights=str(taught.weights.path))
        indexed, splits = draw(pictures, seed=0, directory=root / "small")
        rows = []
        for way, recipe in WAYS.items():
            start = random if way.startswith("from") else pretrained
            found = [
                train(
                    indexed, splits, start, root / way / str(seed),
                    features=root / f"features of {way} {seed}", seed=seed, **recipe,
                )
                for seed in range(seeds)
            ]  # fmt: skip
            mcc = [checkpoint.best.val_mcc for checkpoint, _ in found]
            seconds = [time for _, time in found]
            rows.append(
                [
                    way,
                    f"{statistics.median(mcc):.3f} ({min(mcc):.3f} to {max(mcc):.3f})",
                    f"{statistics.median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})",
                ]
            )
        print_table(
            f"Ways to train {ARCHITECTURE} at {INPUT} pixels on {len(splits.roles['train'])} images,"
            f" judged on {len(splits.roles['val_select'])}; pretrained on {pretraining} others to MCC"
            f" {taught.best.val_mcc:.3f}; {seeds} seeds, cold cache",
            machine=machine_line("torch", "timm", "lightning", "peft"),
            columns=["way", "val_select MCC", "seconds"],
            rows=rows,
        )


if __name__ == "__main__":
    main()
