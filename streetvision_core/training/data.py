"""Training pictures: read and verified once, kept decoded while memory allows, augmented for each look.

Every picture is first shrunk so that its shorter side is at most twice the model's input, whether it is
then kept or decoded again for each epoch: memory changes the speed and never the pixels. A look at a
picture is named by (epoch, position), and everything random about it follows from that name, so it is
the same in this process, in a worker and after a restart.

Worker processes cannot raise our errors across the process boundary with their words intact; they return
them, and `training_step` raises what it is given.
"""

from __future__ import annotations

import math
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from timm.data.transforms_factory import create_transform
from torch.utils.data import DataLoader, Dataset, Sampler

from streetvision_core.data.pictures import decode
from streetvision_core.errors import StreetVisionError
from streetvision_core.training.seeds import Purpose, derive_seed, isolated_random, seed_transforms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from streetvision_core.data.pictures import PictureReader
    from streetvision_core.models.preprocessing import Preprocessing
    from streetvision_core.training.config import TrainingConfig

Look: TypeAlias = tuple[int, int]
Batch: TypeAlias = tuple[torch.Tensor, torch.Tensor]

READERS = 2
SHRUNK_SIDES = 2
_BYTES_A_PIXEL = 4  # Pillow keeps RGB in four bytes


class DecodedPictures:
    """Upright RGB pictures by position, shrunk; the first ones are kept, up to `cache_bytes`."""

    def __init__(
        self, reader: PictureReader, names: Sequence[str], *, input_side: int, cache_bytes: int
    ) -> None:
        self._reader = reader
        self._names = names
        self._side = SHRUNK_SIDES * input_side
        self._kept: list[Image.Image] = []
        self._fill(cache_bytes)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, position: int) -> Image.Image:
        return self._kept[position] if position < len(self._kept) else self._decode(self._names[position])

    def _fill(self, cache_bytes: int) -> None:
        """Decode ahead in threads, a chunk at a time, until the names or the memory end."""
        chunk = 16 * READERS
        with ThreadPoolExecutor(READERS) as pool:
            for start in range(0, len(self._names), chunk):
                for picture in pool.map(self._decode, self._names[start : start + chunk]):
                    cache_bytes -= picture.width * picture.height * _BYTES_A_PIXEL
                    if cache_bytes < 0:
                        return
                    self._kept.append(picture)

    def _decode(self, name: str) -> Image.Image:
        picture = decode(self._reader.read(name))
        shorter = min(picture.size)
        if shorter <= self._side:
            return picture
        width, height = (max(1, round(length * self._side / shorter)) for length in picture.size)
        return picture.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)


class AugmentedPictures(Dataset[Batch | StreetVisionError]):
    """Batches by the looks they consist of: uint8 [B, 3, H, W] and labels int64 [B]."""

    def __init__(
        self,
        pictures: DecodedPictures,
        labels: Sequence[int],
        *,
        augment: Callable[[Image.Image], torch.Tensor],
        seed: int,
    ) -> None:
        self._pictures = pictures
        self._labels = torch.tensor(labels, dtype=torch.int64)
        self._augment = augment
        self._seed = seed

    def __getitem__(self, looks: Sequence[Look]) -> Batch | StreetVisionError:
        try:
            with isolated_random():
                pixels = torch.stack([self._look(*look) for look in looks])
        except StreetVisionError as error:
            return error
        return pixels, self._labels[[position for _, position in looks]]

    def _look(self, epoch: int, position: int) -> torch.Tensor:
        picture = self._pictures[position]
        seed_transforms(derive_seed(self._seed, Purpose.AUGMENTATION, epoch, position))
        return self._augment(picture)


class EpochBatches(Sampler[list[Look]]):
    """The batches of an epoch in its own random order; what fills no whole batch waits for another epoch.

    Lightning calls `set_epoch` before each epoch.
    """

    def __init__(self, pictures: int, *, batch_size: int, seed: int) -> None:
        self._pictures = pictures
        self._batch_size = min(batch_size, pictures)
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0, whose batches come next."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._pictures // self._batch_size

    def __iter__(self) -> Iterator[list[Look]]:
        generator = np.random.default_rng(derive_seed(self._seed, Purpose.ORDER, self._epoch))
        order = generator.permutation(self._pictures).tolist()
        for start in range(0, len(self) * self._batch_size, self._batch_size):
            yield [(self._epoch, position) for position in order[start : start + self._batch_size]]


class EvaluationBatches:
    """Pictures in their order as the model's crops, uint8, kept while memory allows; batches of one size."""

    def __init__(
        self,
        reader: PictureReader,
        names: Sequence[str],
        labels: Sequence[int],
        *,
        transform: Preprocessing,
        batch_size: int,
        cache_bytes: int,
    ) -> None:
        self._reader = reader
        self._names = names
        self._labels = torch.tensor(labels, dtype=torch.int64)
        self._transform = transform
        self._batch_size = batch_size
        kept = cache_bytes // (3 * transform.size[0] * transform.size[1])
        with ThreadPoolExecutor(READERS) as pool:
            self._kept = list(pool.map(self._load, names[:kept]))

    def __len__(self) -> int:
        return math.ceil(len(self._names) / self._batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self._names), self._batch_size):
            stop = min(start + self._batch_size, len(self._names))
            yield torch.stack([self[i] for i in range(start, stop)]), self._labels[start:stop]

    def __getitem__(self, position: int) -> torch.Tensor:
        return self._kept[position] if position < len(self._kept) else self._load(self._names[position])

    def pixels(self) -> Iterator[torch.Tensor]:
        """Give the crops one by one, uint8 [3, H, W]."""
        return (self[position] for position in range(len(self._names)))

    def _load(self, name: str) -> torch.Tensor:
        return self._transform.pixels(decode(self._reader.read(name)))


def make_augmentation(
    config: TrainingConfig, *, transform: Preprocessing
) -> Callable[[Image.Image], torch.Tensor]:
    """Return timm's training transform: an RGB picture to uint8 [3, H, W], drawing from global generators."""
    augment: Callable[[Image.Image], torch.Tensor] = create_transform(
        transform.size,
        is_training=True,
        scale=(config.scale_min, 1.0),
        ratio=(1 / config.ratio_max, config.ratio_max),
        hflip=config.hflip,
        vflip=config.vflip,
        color_jitter=config.color_jitter or None,  # type: ignore[arg-type]  # None is what switches it off
        interpolation=transform.interpolation,
        use_prefetcher=True,
    )
    return augment


def make_train_loader(
    pictures: DecodedPictures, labels: Sequence[int], *, transform: Preprocessing, config: TrainingConfig
) -> DataLoader[Any]:
    """Return the loader of training batches, in worker processes where they can be forked."""
    dataset = AugmentedPictures(
        pictures,
        labels,
        augment=make_augmentation(config, transform=transform),
        seed=config.seed,
    )
    batches = EpochBatches(len(pictures), batch_size=config.batch_size, seed=config.seed)
    return make_loader(dataset, batches, num_workers=config.num_workers)


def make_loader(dataset: Dataset[Any], batches: EpochBatches, *, num_workers: int) -> DataLoader[Any]:
    """Return the loader of a dataset of whole batches, in worker processes where they can be forked."""
    # Elsewhere a worker is a new interpreter that gets every decoded picture through a pipe: no gain.
    workers = num_workers if sys.platform == "linux" else 0
    with warnings.catch_warnings():
        # torch finds more workers than cores suspicious; the configuration asked for them.
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        return DataLoader(
            dataset,
            batch_size=None,
            sampler=batches,
            num_workers=workers,
            persistent_workers=workers > 0,
            # Without one the loader draws from the global generator, once an epoch or once in all.
            generator=torch.Generator(),
            multiprocessing_context="fork" if workers else None,
        )
