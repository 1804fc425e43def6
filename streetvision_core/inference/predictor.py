"""The one path from an image's bytes to a decision, which evaluation, the command line and users take.

An image is a path, bytes or a Pillow image. It becomes upright RGB by `data.decoding.decode`, goes through
the checkpoint's preprocessing and the network in float32 (`ImageClassifier`), and the softmax of the logits
is its probability of roadwork. A `Predictor` has its policy's operating point folded into the last layer,
so that the answer is roadwork exactly where the probability is greater than 0.5. Whether an image is answered
at all, or deferred to a person, is for the policy to say; one that needs more than logits is given extras.

Images are taken lazily, a batch at a time, and answered in their order. A batch has a fixed size, so that an
image's logits do not depend on how many follow; only an image that comes all alone goes through the network
alone, ten times as fast, with logits that differ in the last digits (far below `reproduce.TOLERANCE`). Each
image becomes the small tensor that the network sees as soon as it is decoded: of large images there is one in
memory for each thread that decodes, however many a batch holds.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from streetvision_core.errors import DataError
from streetvision_core.eval.thresholds import positive_probability

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    import torch
    from PIL import Image

    from streetvision_core.eval.decisions import Decision, Policy
    from streetvision_core.inference.logits import TrainedClassifier
    from streetvision_core.inference.predict import Measured

    ImageLike: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | "NamedImage"

BATCH_SIZE = 32


@dataclass(frozen=True)
class NamedImage:
    """An image with a name of its own; `read` gives its bytes when its turn comes, or raises DataError."""

    name: str
    read: Callable[[], bytes]


@dataclass(frozen=True)
class Prediction:
    """The model's answer for one image.

    `name` is the path as it was given, or "image N" counted from 1; `logits` are those of None and Roadwork
    with the operating point folded in; `probability` is that of roadwork, in [0, 1], and the answer is
    roadwork above 0.5. `decision` is that answer, or "defer".
    """

    name: str
    probability: float
    decision: Decision
    logits: tuple[float, float]


class ImageClassifier:
    """A classifier of images of any kind: it gives their logits and extras, as its weights say."""

    def __init__(self, model: torch.nn.Module, *, config: Mapping[str, Any], device: str = "cpu") -> None:
        from streetvision_core.inference.predict import prepare
        from streetvision_core.models.preprocessing import hub_transform

        prepare(model, device)
        self.model = model
        self.device = device
        self.config = config
        self._transform = hub_transform(config)

    def measure(
        self,
        images: Iterable[ImageLike],
        *,
        extras: Collection[str] = (),
        on_error: Callable[[str, DataError], None] | None = None,
        batch_size: int = BATCH_SIZE,
        threads: int = 0,
    ) -> Iterator[tuple[list[str], Measured]]:
        """Yield what the policy decides by, a batch at a time: names, logits and extras of the images.

        Args:
            images: As for `predict`.
            extras: Names of the extras that are measured as well.
            on_error: As for `predict`.
            batch_size: As for `predict`.
            threads: As for `predict`.

        Raises:
            DataError: an image cannot be read; the error names it.
        """
        import torch

        from streetvision_core.inference.predict import measure_batch

        if isinstance(images, (str, bytes, os.PathLike)):
            found = f"one {type(images).__name__}"
            raise DataError("a list of images", found, "predict", "Write [image] for a single one.")
        attempts = self._attempts(images, threads=threads, ahead=2 * batch_size)
        readable = _readable(attempts, on_error)
        begun = False
        while batch := list(itertools.islice(readable, batch_size)):
            alone = len(batch) == 1 and not begun and not threads
            begun = True
            size = self._size_of_one if alone else batch_size
            pixels = torch.stack([seen for _, seen in batch]).to(self.device)
            measured = measure_batch(self.model, pixels, self._transform, batch_size=size, extras=extras)
            yield [name for name, _ in batch], self._finished(measured)

    def _finished(self, measured: Measured) -> Measured:
        """Return what was measured as it is given."""
        return measured

    @property
    def _size_of_one(self) -> int:
        """The number of views of a single image that pass the network at a time."""
        views = self._transform.views
        return 1 if views is None else min(views.count, BATCH_SIZE)

    def _attempts(
        self, images: Iterable[ImageLike], *, threads: int, ahead: int
    ) -> Iterator[tuple[str, torch.Tensor | DataError]]:
        numbered = enumerate(images, start=1)
        if not threads:
            return map(self._attempt, numbered)
        from streetvision_core.data.decoding.ahead import run_ahead

        return run_ahead(self._attempt, numbered, threads=threads, ahead=ahead)

    def _attempt(self, numbered: tuple[int, ImageLike]) -> tuple[str, torch.Tensor | DataError]:
        """Return the name of an image, and what the network sees of it or why that cannot be."""
        position, image = numbered
        name = name_of(image) or f"image {position}"
        try:
            return name, self._see(image, name)
        except DataError as error:
            return name, error

    def _see(self, image: ImageLike, name: str) -> torch.Tensor:
        try:
            return self._transform.pixels(_rgb(image, name))
        except DataError as error:
            raise _unreadable(name, error.found) from error
        except (OSError, ValueError, RuntimeError) as error:  # a null byte in a path, links in a ring
            found = f"the error '{getattr(error, 'strerror', None) or error}'"
            raise _unreadable(name, found) from error


class Predictor(ImageClassifier):
    """A classifier with its policy folded in; `bundle.Predictor` also loads one from a bundle."""

    def __init__(
        self, model: torch.nn.Module, *, config: Mapping[str, Any], policy: Policy, device: str = "cpu"
    ) -> None:
        super().__init__(model, config=config, device=device)
        self.policy = policy

    @classmethod
    def build(cls, config: Mapping[str, Any], state: Mapping[str, torch.Tensor], policy: Policy) -> Self:
        """Fold `policy` into the checkpoint's weights.

        Args:
            config: The checkpoint's configuration in timm's hub format.
            state: The checkpoint's weights, as they were trained.
            policy: The policy that was fitted on them.

        Raises:
            ConfigError: the model has no linear last layer to fold into.
        """
        from streetvision_core.models.classifier import load_classifier
        from streetvision_core.models.fold import fold_operating_point

        model = fold_operating_point(
            load_classifier(dict(config), dict(state)),
            temperature=policy.point.temperature,
            threshold=policy.point.threshold,
        )
        return cls(model, config=config, policy=policy)

    @classmethod
    def of_checkpoint(cls, checkpoint: TrainedClassifier, policy: Policy) -> Self:
        """Fold `policy` into a checkpoint, whose weights are verified on the way; see `build`."""
        from streetvision_core.models.weights import read_state

        return cls.build(checkpoint.config, read_state(checkpoint.weights), policy)

    def predict(
        self,
        images: Iterable[ImageLike],
        *,
        on_error: Callable[[str, DataError], None] | None = None,
        batch_size: int = BATCH_SIZE,
        threads: int = 0,
    ) -> Iterator[Prediction]:
        """Answer each image, in order.

        Args:
            images: Paths, bytes, Pillow images and named ones in any mix; taken a batch at a time, and with
                threads up to two batches ahead.
            on_error: Called with the name and the error of an image that cannot be read, which is then
                left out. Without it the error is raised.
            batch_size: How many images, or views of images, pass the network at a time.
            threads: How many read and decode images while the network runs; 0 for none beside it. With any,
                the images are a part of many: one that is left alone goes through as one of a batch.

        Raises:
            DataError: an image cannot be read; the error names it.
        """
        batches = self.measure(
            images, extras=self.policy.extras, on_error=on_error, batch_size=batch_size, threads=threads
        )
        for names, measured in batches:
            probabilities = positive_probability(measured.logits).tolist()
            decided = self.policy.decide(measured.logits, measured.extras)
            pairs = map(tuple, measured.logits.tolist())
            yield from map(Prediction, names, probabilities, decided, pairs)

    def _finished(self, measured: Measured) -> Measured:
        """Return the disagreement in the checkpoint's logits; folded ones are divided by the temperature."""
        if "disagreement" not in measured.extras:
            return measured
        disagreement = measured.extras["disagreement"] * self.policy.point.temperature
        return replace(measured, extras={**measured.extras, "disagreement": disagreement})


def name_of(image: ImageLike) -> str | None:
    """Return the name that an image brings with it: its own, or its path as it was given."""
    if isinstance(image, NamedImage):
        return image.name
    return os.fsdecode(image) if isinstance(image, (str, os.PathLike)) else None


def _readable(
    attempts: Iterable[tuple[str, torch.Tensor | DataError]],
    on_error: Callable[[str, DataError], None] | None,
) -> Iterator[tuple[str, torch.Tensor]]:
    for name, seen in attempts:
        if not isinstance(seen, DataError):
            yield name, seen
        elif on_error is None:
            raise seen
        else:
            on_error(name, seen)


def _rgb(image: ImageLike, name: str) -> Image.Image:
    from streetvision_core.data.decoding.decode import decode, upright_rgb
    from streetvision_core.data.sources.files import read_file

    if isinstance(image, NamedImage):
        return decode(image.read())
    if isinstance(image, (bytes, bytearray, memoryview)):
        return decode(bytes(image))
    if isinstance(image, (str, os.PathLike)):
        if isinstance(os.fspath(image), bytes):  # an entry of os.scandir(b"..."), for example
            raise DataError("a path of text", "a path of bytes", "predict", "Pass it through os.fsdecode.")
        return decode(read_file(Path(image), name=name))
    if not hasattr(image, "getexif"):
        raise DataError(
            "a path, bytes or a Pillow image", type(image).__name__, "predict", "Convert it first."
        )
    return upright_rgb(image)


def _unreadable(name: str, found: str) -> DataError:
    return DataError("an image that can be read", found, name, "Repair the image or leave it out.")
