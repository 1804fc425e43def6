"""Fine-tuning, images a second: ours against the shortest honest loop of timm and PyTorch.

Usage: python benchmarks/finetune.py [--device cuda] [--model NAME] [--pictures N] [--epochs N] [--batch N]
    [--rounds N]

The peer decodes each image for each look (Pillow, timm's transforms, a DataLoader without and with worker
processes), trains timm's model with AdamW and averages its weights with timm's ModelEmaV3, as ours does. Both
get the same files, random crop, mirror image, colour jitter, batch, threads and precision, softened labels
and largest gradient.

Ours is timed twice: the whole of `fit_classifier` with its validation, the durable best weights and the first
reading of the images included; and as it reports itself, without those. Rounds run one after the other.

With --device cuda the precision is bf16 on both sides, and the share of the GPU's 790 TFLOP/s is printed as
well: of the training above, and of inference and training steps on images that lie on the GPU already. The
FLOPs are counted by torch; a training step counts three times the forward pass.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from _common import machine_line, print_table, spread

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from _task import Task

PEAK_FLOPS = 790e12
VALIDATION = 32
LEARNING_RATE, EMA_DECAY = 1e-3, 0.99
# Those of `streetvision_core.training`.
WEIGHT_DECAY, JITTER, SCALE, RATIO, LABEL_SMOOTHING, GRADIENT_CLIP = 0.05, 0.2, 0.7, 1.4, 0.05, 1.0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--model", default="")
    parser.add_argument("--pictures", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    on_gpu = given.device == "cuda"
    given.model = given.model or ("vit_base_patch16_224" if on_gpu else "vit_tiny_patch16_224")
    given.pictures = given.pictures or (4096 if on_gpu else 128)
    given.batch = given.batch or (128 if on_gpu else 32)
    return given


def train_ours(task: Task, backbone: object, given: argparse.Namespace) -> tuple[float, float]:
    """Return images a second of the whole call, and as the training reports them."""
    from streetvision_core.training import TrainingConfig, TrainingFolders, fit_classifier
    from streetvision_core.training.config import Optimizer

    config = TrainingConfig(
        epochs=given.epochs,
        batch_size=given.batch,
        optimizer=Optimizer(learning_rate=LEARNING_RATE, ema_decay=EMA_DECAY),
    )
    with tempfile.TemporaryDirectory() as place:
        started = time.perf_counter()
        made = fit_classifier(
            backbone,
            index=task.index,
            splits=task.splits,
            images=task.reader,
            config=config,
            folders=TrainingFolders(Path(place)),
        )
        seconds = time.perf_counter() - started
    return seen(given) / seconds, made.metrics["pictures_per_second"]


def seen(given: argparse.Namespace) -> int:
    return given.epochs * (given.pictures // given.batch) * given.batch


def train_theirs(task: Task, given: argparse.Namespace, *, workers: int) -> float:
    """Return images a second of the plain loop, the building of the model left out."""
    import timm
    import torch
    from PIL import Image
    from timm.data import create_transform
    from timm.utils import ModelEmaV3
    from torch.utils.data import DataLoader, Dataset

    transform = create_transform(
        224, is_training=True, scale=(SCALE, 1.0), ratio=(1 / RATIO, RATIO), color_jitter=JITTER,
        interpolation="bicubic",
    )  # fmt: skip

    class Pictures(Dataset):
        def __len__(self) -> int:
            return len(task.files)

        def __getitem__(self, position: int):
            path, label = task.files[position]
            with Image.open(path) as image:
                return transform(image.convert("RGB")), label

    model = timm.create_model(given.model, num_classes=2).to(given.device).train()
    ema = ModelEmaV3(model, decay=EMA_DECAY, use_warmup=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    loader = DataLoader(
        Pictures(), batch_size=given.batch, shuffle=True, drop_last=True, num_workers=workers,
        persistent_workers=workers > 0, pin_memory=given.device == "cuda",
    )  # fmt: skip
    step = 0
    started = time.perf_counter()
    for _ in range(given.epochs):
        for pixels, labels in loader:
            with torch.autocast(given.device, torch.bfloat16, enabled=given.device == "cuda"):
                logits = model(pixels.to(given.device, non_blocking=True))
                loss = torch.nn.functional.cross_entropy(
                    logits,
                    labels.to(given.device, non_blocking=True),
                    label_smoothing=LABEL_SMOOTHING,
                )
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_CLIP)
            optimizer.step()
            step += 1
            ema.update(model, step=step)
    if given.device == "cuda":
        torch.cuda.synchronize()
    return seen(given) / (time.perf_counter() - started)


def forward_flops(model: torch.nn.Module) -> int:
    """Count the FLOPs of one image's forward pass."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.to("cpu").eval()(torch.zeros(1, 3, 224, 224))
    return counter.get_total_flops()


def steps_on_gpu(given: argparse.Namespace) -> dict[str, float]:
    """Return images a second of inference and of training steps on images that lie on the GPU."""
    import timm
    import torch

    model = timm.create_model(given.model, num_classes=2).to("cuda")
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True)
    pixels = torch.randn(given.batch, 3, 224, 224, device="cuda")
    labels = torch.randint(2, (given.batch,), device="cuda")

    def infer() -> None:
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
            model(pixels)

    def train() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(model(pixels), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return {
        "inference, on the GPU already": _rate_on_gpu(infer, given.batch),
        "training steps, on the GPU already": _rate_on_gpu(train, given.batch),
    }


def _rate_on_gpu(work: Callable[[], None], batch: int, *, repeats: int = 30) -> float:
    import torch

    for _ in range(5):
        work()
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(repeats):
        work()
    torch.cuda.synchronize()
    return repeats * batch / (time.perf_counter() - started)


def measure(given: argparse.Namespace) -> dict[str, list[float]]:
    """Return images a second by what, one for each round."""
    import torch
    from _task import make_task

    from streetvision_core.models import BackboneConfig, prepare_backbone

    torch.set_num_threads(os.cpu_count() or 1)
    workers = min(16, max(2, (os.cpu_count() or 1) - 1))
    measured: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as place:
        for folder in ("pictures", "backbone"):
            (Path(place) / folder).mkdir()
        task = make_task(Path(place) / "pictures", train=given.pictures, others=VALIDATION, size=(1280, 720))
        backbone = prepare_backbone(
            BackboneConfig(architecture=given.model, input_size=224), directory=Path(place) / "backbone"
        )
        for _ in range(given.rounds):
            whole, steady = train_ours(task, backbone, given)
            plain = {count: train_theirs(task, given, workers=count) for count in (0, workers)}
            for what, rate in (
                ("timm and PyTorch, no workers", plain[0]),
                (f"timm and PyTorch, {workers} workers", plain[workers]),
                ("ours, the whole call", whole),
                ("ours, as reported", steady),
            ):
                measured.setdefault(what, []).append(rate)
    return measured


def main() -> None:
    given = arguments()
    if given.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # ours takes a GPU where it sees one
    warnings.filterwarnings("ignore", message=".*")
    import timm

    measured = measure(given)
    best = [max(pair) for pair in zip(*list(measured.values())[:2], strict=True)]
    flops = forward_flops(timm.create_model(given.model, num_classes=2))
    rows = [
        [what, spread(rates), spread([rate / fastest for rate, fastest in zip(rates, best, strict=True)])]
        for what, rates in measured.items()
    ]
    if given.device == "cuda":
        on_gpu = steps_on_gpu(given)
        rows += [[what, f"{rate:.4g}", "-"] for what, rate in on_gpu.items()]
        rates = [*(statistics.median(series) for series in measured.values()), *on_gpu.values()]
        for row, rate in zip(rows, rates, strict=True):
            passes = 1 if row[0].startswith("inference") else 3
            row.append(f"{100 * passes * flops * rate / PEAK_FLOPS:.2f} %")
    print_table(
        f"{given.model} on {given.device}: {given.pictures} JPEGs of 1280 x 720, {given.epochs} epochs, batch"
        f" {given.batch}, {os.cpu_count()} threads, {flops / 1e9:.1f} GFLOP a forward pass,"
        f" {given.rounds} rounds",
        machine=machine_line("torch", "timm", "lightning"),
        columns=["what", "pictures/s", "times the better plain loop", "of 790 TFLOP/s"][: len(rows[0])],
        rows=rows,
    )


if __name__ == "__main__":
    main()
