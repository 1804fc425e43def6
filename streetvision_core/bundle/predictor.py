"""From a picture's bytes to a decision: the one path that evaluation, the command line and users take.

A picture is a path, bytes or a Pillow picture. It becomes upright RGB by `data.pictures.decode`, goes
through the checkpoint's preprocessing and the network in float32, and the softmax of the logits is its
probability of roadwork. Temperature and threshold of the policy are folded into the last layer, so that
roadwork is decided exactly where the probability is greater than 0.5.

Pictures are taken lazily, a batch at a time, and answered in their order. A batch has a fixed size, so
that the same pictures in the same order give the same numbers.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from streetvision_core.errors import DataError
from streetvision_core.eval.policy import decide
from streetvision_core.eval.thresholds import positive_probability

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import torch
    from PIL import Image

    from streetvision_core.eval.policy import Decision, ThresholdPolicy

    PictureLike: TypeAlias = str | os.PathLike[str] | bytes | Image.Image

OPERATING_PROBABILITY = 0.5
BATCH_SIZE = 32


@dataclass(frozen=True)
class Prediction:
    """What the model says about one picture.

    ``name`` is the path as it was given, or "picture N" counted from 1; ``logits`` are those of None
    and Roadwork with the operating point folded in; ``probability`` is that of roadwork, in [0, 1].
    """

    name: str
    probability: float
    decision: Decision
    logits: tuple[float, float]


class Predictor:
    """A classifier with its policy folded in; build it in memory, or load it from a bundle."""

    def __init__(self, model: torch.nn.Module, *, config: Mapping[str, Any], policy: ThresholdPolicy) -> None:
        from streetvision_core.models.preprocessing import eval_transform

        self.model = model
        self.config = config
        self.policy = policy
        self._transform = eval_transform(config["pretrained_cfg"])

    @classmethod
    def build(
        cls, config: Mapping[str, Any], state: Mapping[str, torch.Tensor], policy: ThresholdPolicy
    ) -> Self:
        """Fold ``policy`` into the checkpoint's weights.

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
            temperature=policy.temperature,
            threshold=policy.threshold,
        )
        return cls(model, config=config, policy=policy)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Load the bundle in the folder ``path``; every byte is verified before anything is loaded.

        Raises:
            BundleError: the folder is no bundle, or is not to be trusted.
        """
        from streetvision_core.bundle.load import load_bundle

        bundle = load_bundle(path)
        return cls(bundle.model, config=bundle.config, policy=bundle.policy)

    def predict(
        self,
        pictures: Iterable[PictureLike],
        *,
        on_error: Callable[[str, DataError], None] | None = None,
    ) -> Iterator[Prediction]:
        """Answer each picture, in order.

        Args:
            pictures: Paths, bytes and Pillow pictures in any mix; taken a batch at a time.
            on_error: Called with the name and the error of a picture that cannot be read, which is then
                left out. Without it the error is raised.

        Raises:
            DataError: a picture cannot be read; the error names it.
        """
        if isinstance(pictures, (str, bytes, os.PathLike)):
            found = f"one {type(pictures).__name__}"
            raise DataError("a list of pictures", found, "predict", "Write [picture] for a single one.")
        readable = _readable(pictures, on_error)
        while batch := list(itertools.islice(readable, BATCH_SIZE)):
            yield from self._answer([name for name, _ in batch], [image for _, image in batch])

    def _answer(self, names: list[str], images: list[Image.Image]) -> Iterator[Prediction]:
        from streetvision_core.models.predict import predict_logits

        logits = predict_logits(self.model, images, self._transform, batch_size=BATCH_SIZE)
        probabilities = positive_probability(logits)
        decisions = decide(probabilities, threshold=OPERATING_PROBABILITY)
        for name, probability, decision, (none, roadwork) in zip(
            names, probabilities.tolist(), decisions, logits.tolist(), strict=True
        ):
            yield Prediction(name, probability, decision, (none, roadwork))


def _readable(
    pictures: Iterable[PictureLike], on_error: Callable[[str, DataError], None] | None
) -> Iterator[tuple[str, Image.Image]]:
    for position, picture in enumerate(pictures, start=1):
        name = os.fspath(picture) if isinstance(picture, (str, os.PathLike)) else f"picture {position}"
        try:
            yield name, _open(picture, name)
        except DataError as error:
            if on_error is None:
                raise
            on_error(name, error)


def _open(picture: PictureLike, name: str) -> Image.Image:
    from streetvision_core.data.pictures import decode

    try:
        return decode(_bytes(picture))
    except OSError as error:
        raise _unreadable(name, f"the error '{error.strerror or error}'") from error
    except DataError as error:
        raise _unreadable(name, error.found) from error


def _bytes(picture: PictureLike) -> bytes:
    if isinstance(picture, (bytes, bytearray, memoryview)):
        return bytes(picture)
    if isinstance(picture, (str, os.PathLike)):
        return Path(picture).read_bytes()
    return _png(picture)


def _png(picture: Image.Image) -> bytes:
    """Encode without loss, with orientation and transparency, so that `decode` remains the only way in."""
    if not hasattr(picture, "getexif"):
        raise DataError(
            "a path, bytes or a Pillow picture", type(picture).__name__, "predict", "Convert it first."
        )
    exif = picture.getexif()
    storable = picture.mode in {"1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA"}
    buffer = BytesIO()
    (picture if storable else picture.convert("RGB")).save(buffer, "PNG", compress_level=0, exif=exif)
    return buffer.getvalue()


def _unreadable(name: str, found: str) -> DataError:
    return DataError("a picture that can be read", found, name, "Repair the picture or leave it out.")
