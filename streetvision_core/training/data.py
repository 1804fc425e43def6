"""Training images: read and verified once, kept decoded while memory allows, augmented for each look.

Every image is first shrunk, and a JPEG decoded at the smallest of its own scales that is enough, so that
the smallest crop which the augmentation takes of it still has as many pixels as the model sees. That happens
whether it is then kept or decoded again for each epoch: memory changes the speed and never the pixels. What
of a batch is not kept is decoded by several threads at once, which draw nothing by chance. A look at an
image is named by (epoch, position), and everything random about it follows from that name, so it is the
same in this process, in a worker and after a restart.

An image that cannot be read ends the training. Worker processes cannot raise our errors across the process
boundary with their words intact; they return the error in place of a batch, and the main process raises it.
"""

from __future__ import annotations

import math
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from streetvision_core.data.decoding.decode import ImageReader, decode
from streetvision_core.errors import StreetVisionError, TrainingError
from streetvision_core.inference.cached_features import READERS
from streetvision_core.io.system import usable_cores
from streetvision_core.training.augmentation import smallest_share
from streetvision_core.training.seeds import Purpose, derive_seed, isolated_random, seed_transforms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from streetvision_core.data.conditions import Conditions
    from streetvision_core.models.preprocessing import Preprocessing
    from streetvision_core.training.config import TrainingConfig

Look: TypeAlias = tuple[int, int]

CACHE_BYTES = 2**30  # of decoded images in memory; what does not fit is decoded each time
MOST_WORKERS = 16
_BYTES_A_PIXEL = 4  # Pillow keeps RGB in four bytes


class Batch(NamedTuple):
    """Pixels uint8 [B, 3, H, W] or features float32 [B, D], and labels int64 [B]."""

    inputs: torch.Tensor
    labels: torch.Tensor


class DecodedImages:
    """Upright RGB images by position, shrunk; the first ones are kept, up to `cache_bytes`.

    No image is smaller than `side` pixels at its shorter side, but for those that were so before. One that
    cannot be read raises when it is asked for, not before.
    """

    def __init__(self, reader: ImageReader, names: Sequence[str], *, side: int, cache_bytes: int) -> None:
        self.names = names
        self._reader = reader
        self._side = side
        self._kept: dict[int, Image.Image] = {}
        self._fill(cache_bytes)

    def __len__(self) -> int:
        return len(self.names)

    def see(self, position: int, image: Image.Image, *, draw: int) -> Image.Image:
        """Return an image of `load` as it arrives in use at a draw."""
        return self._reader.see(image, self.names[position], draw=draw)

    def load(self, positions: Sequence[int]) -> list[Image.Image | StreetVisionError]:
        """Return the images at these positions, or why one cannot be read; decoded by several threads.

        A worker process is one of many already and decodes one after the other.
        """
        threads = READERS if get_worker_info() is None else 1
        if threads == 1 or all(position in self._kept for position in positions):
            return [self._attempt(position) for position in positions]
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(self._attempt, positions))

    def _attempt(self, position: int) -> Image.Image | StreetVisionError:
        try:
            return self._kept.get(position) or self._decode(self.names[position])
        except StreetVisionError as error:
            return error

    def _fill(self, cache_bytes: int) -> None:
        """Decode ahead in threads, a chunk at a time, until the names or the memory end."""
        chunk = 16 * READERS
        with ThreadPoolExecutor(READERS) as pool:
            for start in range(0, len(self.names), chunk):
                positions = range(len(self.names))[start : start + chunk]
                for position, image in zip(positions, pool.map(self._attempt, positions), strict=True):
                    if isinstance(image, StreetVisionError):
                        continue  # it is told of in the epoch that needs it
                    cache_bytes -= image.width * image.height * _BYTES_A_PIXEL
                    if cache_bytes < 0:
                        return
                    self._kept[position] = image

    def _decode(self, name: str) -> Image.Image:
        image = decode(self._reader.read(name), at_least=self._side)
        shorter = min(image.size)
        if shorter <= self._side:
            return image
        width, height = (max(1, round(length * self._side / shorter)) for length in image.size)
        return image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)


class AugmentedImages(Dataset[Any]):
    """Batches by the looks they consist of; or the error of an image that cannot be read."""

    def __init__(
        self,
        images: DecodedImages,
        labels: Sequence[int],
        *,
        augment: Callable[[Image.Image], torch.Tensor],
        seed: int,
    ) -> None:
        self._images = images
        self._labels = torch.tensor(labels, dtype=torch.int64)
        self._augment = augment
        self._seed = seed

    def __getitem__(self, looks: Sequence[Look]) -> Batch | StreetVisionError:
        pixels = []
        images = self._images.load([position for _, position in looks])
        with isolated_random():
            for (epoch, position), image in zip(looks, images, strict=True):
                if isinstance(image, StreetVisionError):
                    return image
                draw = derive_seed(self._seed, Purpose.CONDITIONS, epoch, position)
                seen = self._images.see(position, image, draw=draw)
                seed_transforms(derive_seed(self._seed, Purpose.AUGMENTATION, epoch, position))
                pixels.append(self._augment(seen))
        return Batch(torch.stack(pixels), self._labels[[position for _, position in looks]])


class EpochBatches(Sampler[list[Look]]):
    """The batches of an epoch in its own random order; what fills no whole batch waits for another epoch.

    A batch comes in `parts` of one size, of which this process of `processes` gets its own share. Lightning
    calls `set_epoch` before each epoch.
    """

    def __init__(
        self, images: int, *, batch_size: int, seed: int, parts: int = 1, rank: int = 0, processes: int = 1
    ) -> None:
        shares = parts * processes
        whole = min(batch_size, images)
        self._batch_size = whole - whole % shares
        if not self._batch_size:
            action = "Lower accumulate or devices, or train on more images."
            raise TrainingError(f"at least {shares} images of train", str(images), "the splits", action)
        self.steps = images // self._batch_size
        self.images_per_epoch = self.steps * self._batch_size
        self._images = images
        self._seed = seed
        self._epoch = 0
        self._shares = shares
        self._own = [part * processes + rank for part in range(parts)]

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0, whose batches come next."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self.steps * len(self._own)

    def __iter__(self) -> Iterator[list[Look]]:
        generator = np.random.default_rng(derive_seed(self._seed, Purpose.ORDER, self._epoch))
        order = generator.permutation(self._images).tolist()
        for start in range(0, self.images_per_epoch, self._batch_size):
            batch = order[start : start + self._batch_size]
            for share in self._own:
                yield [(self._epoch, position) for position in batch[share :: self._shares]]


class EvaluationBatches:
    """Images in their order as the model's crops, uint8, kept while memory allows; batches of one size.

    Where N processes train together, each gets every Nth batch; all of them can read every image.
    """

    def __init__(
        self,
        reader: ImageReader,
        names: Sequence[str],
        labels: Sequence[int],
        *,
        transform: Preprocessing,
        batch_size: int,
        cache_bytes: int,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        self._reader = reader
        self._names = names
        # Lightning wants a batch in each process: where they do not suffice, an empty one.
        self._starts = list(range(0, len(names), batch_size)[rank::processes]) or [len(names)]
        self._labels = torch.tensor(labels, dtype=torch.int64)
        self._transform = transform
        self._batch_size = batch_size
        kept = cache_bytes // transform.pixel_bytes
        with ThreadPoolExecutor(READERS) as pool:
            self._kept = list(pool.map(self._load, names[:kept]))

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[Batch]:
        for start in self._starts:
            stop = min(start + self._batch_size, len(self._names))
            pixels = [self[i] for i in range(start, stop)]
            yield Batch(torch.stack(pixels) if pixels else self[0][None][:0], self._labels[start:stop])

    def __getitem__(self, position: int) -> torch.Tensor:
        return self._kept[position] if position < len(self._kept) else self._load(self._names[position])

    def pixels(self) -> Iterator[torch.Tensor]:
        """Give what the model sees of the images, one by one, as `Preprocessing.pixels`."""
        return (self[position] for position in range(len(self._names)))

    @property
    def pictures(self) -> int:
        """The number of images."""
        return len(self._names)

    def image(self, position: int) -> Image.Image:
        """Read and decode an image anew, upright RGB as it arrives in use."""
        return self._reader.image(self._names[position])

    def _load(self, name: str) -> torch.Tensor:
        return self._transform.pixels(self._reader.image(name))


def decoded_side(
    config: TrainingConfig, *, transform: Preprocessing, conditions: Conditions | None = None
) -> int:
    """Return how many pixels the shorter side of an image needs, so that no crop of it is enlarged."""
    if conditions is not None and not conditions.is_as_is:
        return conditions.profile.source_side
    side = math.ceil(max(transform.size) / math.sqrt(smallest_share(config.augmentation)))
    return max(side, transform.resized_side) if config.augmentation.kind == "none" else side


def choose_workers(wanted: int, *, device: str, processes: int = 1) -> int:
    """Return how many worker processes augment images for one of so many processes on a kind of device.

    On a CPU the network computes on every core, and another process would only take them away; a GPU waits
    for the images. Where worker processes cannot be forked there are none: a new interpreter would get
    every decoded image through a pipe.
    """
    if sys.platform != "linux":
        return 0
    if wanted >= 0:
        return wanted
    cores = usable_cores()
    return 0 if device == "cpu" else min(MOST_WORKERS, max(1, (cores - 1) // processes))


def make_loader(dataset: Dataset[Any], batches: EpochBatches, *, workers: int) -> DataLoader[Any]:
    """Return the loader of whole batches, made in so many worker processes; 0 makes them in this one."""
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
