"""The order of models by val_select, clean and under the conditions, against val_test under the conditions.

    python benchmarks/ranking.py [IMAGES]

Six recipes, two seeds each, of a small network from random weights on drawn images: three are trained on
images as they are, three under the conditions. Every pair of models of two recipes whose paired comparison
on val_test under the conditions tells them apart counts: is it ordered alike by val_select?
"""

from __future__ import annotations

import copy
import itertools
import sys
import tempfile
from pathlib import Path

import numpy as np
from _common import machine_line, print_table

from streetvision_core.data import SplitsConfig, assign_splits
from streetvision_core.data.conditions import AS_IS, CAMERA, NATIX_CROPS_2025, Conditions
from streetvision_core.data.images import ImagesConfig, index_images
from streetvision_core.demo import write_demo
from streetvision_core.eval import compute_mcc
from streetvision_core.eval.paired import compare_decisions
from streetvision_core.inference.logits import predict_role
from streetvision_core.models import BackboneConfig, prepare_backbone
from streetvision_core.training import TrainingConfig, TrainingFolders, fit_classifier

ARCHITECTURE, INPUT, SIZE, SEEDS = "test_resnet", 64, 128, 2
SHARES = {"val_select": 0.25, "val_calib": 0.05, "val_test": 0.25}
PLAIN = {"augmentation": {"kind": "none"}}
RECIPES = {
    "crop, 6 epochs": {"epochs": 6},
    "crop, 16 epochs": {"epochs": 16},
    "plain, 16 epochs": {"epochs": 16, **PLAIN},
}
PROFILES = {"camera": CAMERA, "natix_crops_2025": NATIX_CROPS_2025}


class Bench:
    """Images, roles and starting weights, and the models that were trained; each is judged once a profile."""

    def __init__(self, images: int, root: Path) -> None:
        self.root = root
        write_demo(root / "demo.parquet", images, size=SIZE)
        config = ImagesConfig(parquet={"path": str(root / "demo.parquet")})
        self.indexed = index_images(config, directory=root)
        self.splits = assign_splits(self.indexed.index, SplitsConfig(**SHARES))
        starting = BackboneConfig(architecture=ARCHITECTURE, input_size=INPUT)
        self.backbone = prepare_backbone(starting, directory=root)

    def reader(self, profile):
        """Return a reader of the images under a profile."""
        reader = copy.copy(self.indexed.reader)
        reader.conditions = Conditions(profile=profile, reported=CAMERA, seed=0)
        return reader

    def train(self, recipe: dict, *, profile, seed: int):
        directory = self.root / f"{len(list(self.root.iterdir()))}"
        directory.mkdir()
        settings = {"seed": seed, **recipe}
        return fit_classifier(
            self.backbone,
            index=self.indexed.index,
            splits=self.splits,
            images=self.reader(profile),
            config=TrainingConfig.model_validate(settings),
            folders=TrainingFolders(directory, features=self.root / "features"),
        )

    def judge(self, checkpoint, profile, role: str) -> np.ndarray:
        """Return whether each image of a role is called roadwork under a profile."""
        names, reader = self.splits.roles[role], self.reader(profile)
        predictions = predict_role(checkpoint, names, index=self.indexed.index, images=reader)
        return predictions.logits.argmax(axis=1)

    def labels(self, role: str) -> list[int]:
        label = {image.name: image.label for image in self.indexed.index.pictures}
        return [label[name] for name in self.splits.roles[role]]

    def groups(self, role: str) -> list[str]:
        return [self.splits.group_of[name] for name in self.splits.roles[role]]

    def mcc(self, role: str, answers: np.ndarray) -> float:
        return float(compute_mcc(self.labels(role), answers))


def ordered_alike(bench: Bench, models: list[dict]) -> list[str]:
    """Return of the pairs that val_test tells apart, how many each of the two figures orders alike."""
    words = np.array(["none", "roadwork"])
    labels, groups = bench.labels("val_test"), bench.groups("val_test")
    apart = clean = under = 0
    for a, b in itertools.combinations(models, 2):
        if a["recipe"] == b["recipe"]:
            continue
        answers = [words[model["answers"]].tolist() for model in (a, b)]
        better = compare_decisions(labels, *answers, groups, seed=0).better
        if better is None:
            continue
        apart += 1
        sign = 1 if better == "B" else -1
        clean += np.sign(b["clean"] - a["clean"]) == sign
        under += np.sign(b["select"] - a["select"]) == sign
    return [f"{apart}", f"{clean}", f"{under}"]


def measured(bench: Bench, recipe: str, checkpoint, profile) -> dict:
    clean, select = (bench.judge(checkpoint, seen, "val_select") for seen in (AS_IS, profile))
    test = bench.judge(checkpoint, profile, "val_test")
    return {
        "recipe": recipe,
        "clean": bench.mcc("val_select", clean),
        "select": bench.mcc("val_select", select),
        "test": bench.mcc("val_test", test),
        "answers": test,
    }


def trained(bench: Bench, *, profile) -> dict[tuple[str, int], object]:
    """Return a model of every recipe and seed, trained under a profile."""
    return {
        (recipe, seed): bench.train(settings, profile=profile, seed=seed)
        for recipe, settings in RECIPES.items()
        for seed in range(SEEDS)
    }


def print_order(bench: Bench, title: str, models: list[dict]) -> None:
    sizes = ", ".join(f"{len(names)} {role}" for role, names in bench.splits.roles.items())
    print_table(
        f"{title}: {ARCHITECTURE} at {INPUT} pixels, drawn images: {sizes}; best on val_test first",
        machine=machine_line("torch", "timm"),
        columns=["trained", "val_select clean", "val_select under", "val_test under"],
        rows=[
            [model["recipe"], *(f"{model[figure]:.3f}" for figure in ("clean", "select", "test"))]
            for model in sorted(models, key=lambda model: -model["test"])
        ],
    )
    pairs = sum(a["recipe"] != b["recipe"] for a, b in itertools.combinations(models, 2))
    print_table(
        "Pairs of models that val_test tells apart, and how many are ordered alike",
        columns=["pairs", "told apart", "by clean MCC", "by val_select under"],
        rows=[[pairs, *ordered_alike(bench, models)]],
    )


def main() -> None:
    """Train, judge under each profile, and print both tables of each."""
    images = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(images, Path(name))
        plain = trained(bench, profile=AS_IS)
        for title, profile in PROFILES.items():
            under = trained(bench, profile=profile)
            models = [
                measured(bench, f"{where}, {key[0]}", model, profile)
                for where, own in (("as_is", plain), (title, under))
                for key, model in own.items()
            ]
            print_order(bench, title, models)


if __name__ == "__main__":
    main()
