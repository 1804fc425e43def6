"""The ways to train on real photographs: grouped cross-validation of each, at one budget of processor time.

    python benchmarks/streets.py run RESULTS probe [CSV]    cross-validate one way (`WAYS`), once a way
    python benchmarks/streets.py folds RESULTS              write RESULTS/folds.csv, for the peers
    python benchmarks/streets.py table RESULTS [FOLD ...]   all that lies in RESULTS, peers too
    python benchmarks/streets.py levels RESULTS             the same at every level of the conditions `camera`
    python benchmarks/streets.py                            every way and both tables

A way whose name ends in ", camera" is trained under these conditions. Of some ways the models of the first
deal also judge their fold at every level.

CSV has the columns file, label and group, and source as an attribute; without it, that of `data/streets`
beside the repository. All images are judged: nothing is held back for a certificate here.

A way may use about a minute of one thread a training, user and system, children included: its epochs are
chosen for that, and the table says what it took. Where other jobs share the cores, MCC is not affected;
processor time is, by a little.
"""

from __future__ import annotations

import copy
import csv
import resource
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from _common import machine_line, print_table

from streetvision_core.data import SplitsConfig, assign_splits
from streetvision_core.data.conditions import AS_IS, CAMERA, Conditions
from streetvision_core.data.images import ImagesConfig, index_images
from streetvision_core.models import BackboneConfig, prepare_backbone
from streetvision_core.training import TrainingConfig
from streetvision_core.training.out_of_fold import cross_validation
from streetvision_core.training.out_of_fold.cross_validation import CrossValidationConfig, cross_validate
from streetvision_core.training.out_of_fold.record import CrossValidation

STREETS = Path(__file__).resolve().parents[2] / "shared" / "data" / "streets" / "labels.csv"
FOLDS = 4
IMAGENET = {"architecture": "tf_efficientnet_lite0", "weights": "packaged"}
PROBE = {"method": {"kind": "probe"}, "epochs": 30}
TUNED = {"optimizer": {"learning_rate": 1e-3}, "epochs": 4}
UNDER = ", camera"
# The ways whose models are also judged at every level.
BY_LEVEL = ("probe 128", "finetune")
LEVELS = (AS_IS.name, *CAMERA.names)
# Each way: its backbone, its recipe, and how often the folds are dealt.
WAYS = {
    "probe": ({**IMAGENET, "input_size": 224}, PROBE, 5),
    "probe 128": ({**IMAGENET, "input_size": 128}, PROBE, 1),
    "grid": ({**IMAGENET, "input_size": 128}, {**PROBE, "views": {"kind": "grid"}}, 1),
    "finetune": ({**IMAGENET, "input_size": 128}, TUNED, 1),
    "lp_ft": ({**IMAGENET, "input_size": 128}, {**TUNED, "method": {"kind": "lp_ft"}}, 1),
    "random": ({"architecture": "test_resnet", "input_size": 128}, {"epochs": 6}, 1),
}


def processor_seconds() -> float:
    """Return user and system seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def open_streets(path: Path, directory: Path):
    """Return the indexed images, and splits that put all of them into train."""
    indexed = index_images(ImagesConfig(csv={"path": str(path)}), directory=directory)
    splits = assign_splits(indexed.index, SplitsConfig())
    names = tuple(sorted(image.name for image in indexed.index.pictures))
    return indexed, replace(splits, roles={"train": names, "val_select": ()})


def recipe_of(settings: dict) -> TrainingConfig:
    return TrainingConfig.model_validate(settings)


def under(reader, profile):
    """Return a reader of the same images under a profile."""
    other = copy.copy(reader)
    other.conditions = Conditions(profile=profile, reported=CAMERA, seed=0)
    return other


class Levels:
    """`predict_role` that also keeps what the models of the first deal answer at every level, [L, N, 2]."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.predict, self.calls, self.seconds = cross_validation.predict_role, 0, 0.0
        self.place = {name: position for position, name in enumerate(names)}
        self.logits = np.zeros((len(LEVELS), len(names), 2), np.float32)

    def __call__(self, checkpoint, names, *, images, **settings):
        began = processor_seconds()
        self.calls += 1
        places = [self.place[name] for name in names]
        for number, level in enumerate(LEVELS if self.calls <= FOLDS else ()):
            only = [candidate for candidate in CAMERA.levels if candidate.name == level]
            profile = CAMERA.model_copy(update={"levels": only}) if only else AS_IS
            seen = self.predict(checkpoint, names, images=under(images, profile), **settings)
            self.logits[number, places] = seen.logits
        self.seconds += processor_seconds() - began
        return self.predict(checkpoint, names, images=images, **settings)


def run(results: Path, way: str, path: str | Path = STREETS) -> None:
    """Cross-validate one way and keep its logits."""
    starting, settings, repeats = WAYS[way.removesuffix(UNDER)]
    torch.set_num_threads(1)
    cross_validation.repeats_of = lambda *_, **__: repeats
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        indexed, splits = open_streets(Path(path), root)
        levels = Levels(splits.roles["train"])
        if way.removesuffix(UNDER) in BY_LEVEL:
            cross_validation.predict_role = levels
        backbone = prepare_backbone(BackboneConfig.model_validate(starting), directory=root)
        began = processor_seconds()
        result = cross_validate(
            backbone,
            index=indexed.index,
            splits=splits,
            images=under(indexed.reader, CAMERA) if way.endswith(UNDER) else indexed.reader,
            recipe=recipe_of(settings),
            config=CrossValidationConfig(folds=FOLDS),
            features=root / "features",
        )
    seconds = processor_seconds() - began - levels.seconds
    source = {image.name: image.attributes["source"] for image in indexed.index.pictures}
    np.savez(
        results / f"{way}.npz",
        ids=result.ids,
        groups=result.groups,
        labels=result.labels,
        source=[source[name] for name in result.ids],
        fold=result.fold,
        logits=result.logits,
        levels=levels.logits if levels.calls else np.empty((0, len(result.ids), 2)),
        seconds=seconds,
    )
    print(way, f"{seconds:.0f} s", result.pooled, result.rows_of_sizes(), flush=True)


def write_folds(results: Path) -> None:
    """Write the folds of the first deal, which every way shares, with what a peer has to know of an image."""
    kept = np.load(results / "probe.npz")
    columns = ("ids", "labels", "groups", "source")
    with (results / "folds.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "label", "group", "source", "fold"))
        writer.writerows(
            zip(*(kept[name].tolist() for name in columns), kept["fold"][0].tolist(), strict=True)
        )


def opened(path: Path) -> tuple[CrossValidation, np.ndarray, float]:
    """Return what was kept of a way, the source of each image [N], and seconds in all."""
    kept = np.load(path)
    result = CrossValidation(
        ids=tuple(kept["ids"].tolist()),
        groups=tuple(kept["groups"].tolist()),
        labels=kept["labels"],
        fold=kept["fold"],
        logits=kept["logits"],
        curve=np.empty((0, len(kept["ids"]), 2), np.float32),
        shares=(1.0,),
        trained_on=(0.0,),
        roles=("train",),
        method=path.stem,
    )
    return result, kept["source"], float(kept["seconds"])


def table(results: Path, *folds: str) -> None:
    """Print the MCC of every way, over all images and inside each source, with group intervals.

    Where folds are named it is of the first deal's images in them alone. A way that judged fewer is left out.
    """
    chosen = [int(fold) for fold in folds] or list(range(FOLDS))
    rows, sources = [], []
    for path in sorted(results.glob("*.npz")):
        result, source, seconds = opened(path)
        within = np.isin(result.fold[0], chosen)
        logits = result.logits[:1] if folds else result.logits
        if np.isnan(logits[:, within]).any():
            continue
        sources = np.unique(source).tolist()
        members = [within, *(within & (source == name) for name in sources)]
        figures = [result.figure(logits, members=mask) for mask in members]
        answered = [f"{figure.mcc:.3f} ({figure.low:.3f} to {figure.high:.3f})" for figure in figures]
        rows.append([path.stem, len(logits), *answered, f"{seconds:.0f}"])
    print_table(
        f"Photographs: grouped folds {chosen} of {FOLDS}, MCC out of fold, 95 % intervals over groups",
        machine=machine_line("torch", "timm"),
        columns=["way", "deals", "all", *sources, "processor s, all trainings"],
        rows=rows,
    )


def levels_table(results: Path) -> None:
    """Print the MCC of the first deal at every level, with group intervals."""
    rows = []
    for path in sorted(results.glob("*.npz")):
        seen = np.load(path)
        if "levels" not in seen or not len(seen["levels"]):
            continue
        result = opened(path)[0]
        figures = [result.figure(logits[None]) for logits in seen["levels"]]
        rows.append(
            [path.stem, *(f"{figure.mcc:.3f} ({figure.low:.2f} to {figure.high:.2f})" for figure in figures)]
        )
    print_table("Photographs: MCC by level of camera, the first deal", columns=["way", *LEVELS], rows=rows)


def everything(results: Path) -> None:
    """Cross-validate every way and print both tables."""
    for way in (*WAYS, *(f"{way}{UNDER}" for way in BY_LEVEL)):
        run(results, way)
    table(results)
    levels_table(results)


def main() -> None:
    """Run one command, or without one every way, where there are the photographs."""
    commands = {"run": run, "folds": write_folds, "table": table, "levels": levels_table}
    if len(sys.argv) > 1:
        command, results, *rest = sys.argv[1:]
        Path(results).mkdir(parents=True, exist_ok=True)
        commands[command](Path(results), *rest)
    elif STREETS.is_file():
        with tempfile.TemporaryDirectory() as name:
            everything(Path(name))
    else:
        print("no photographs at", STREETS)


if __name__ == "__main__":
    main()
