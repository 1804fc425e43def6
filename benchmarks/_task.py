"""Demo images as files, with the records that training takes, for the benchmarks of training."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from PIL import Image

from streetvision_core.data import ROLES, ImageIndex, IndexedImage
from streetvision_core.data.decoding.decode import ImageReader
from streetvision_core.demo import draw_images

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Task:
    """The arguments of `fit_classifier`; `files` are the images of train with their labels."""

    index: ImageIndex
    splits: Any
    reader: ImageReader
    files: list[tuple[Path, int]]


@dataclass(frozen=True)
class _Roles:
    roles: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class _Folder:
    path: Path

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def describe(self) -> str:
        return str(self.path)


def make_task(directory: Path, *, train: int, others: int, size: tuple[int, int] | None = None) -> Task:
    """Draw the demo into a folder, `train` images of train and `others` of each other role.

    Args:
        directory: Where the images are written as JPEG files.
        train: Images of train.
        others: Images of each other role.
        size: Width and height they are enlarged to, at quality 90; None leaves them as they are drawn.
    """
    drawn = draw_images(train + 3 * others, size=1024 if size else 256)
    roles: dict[str, list[str]] = {role: [] for role in ROLES}
    pictures = []
    for number, image in enumerate(drawn):
        role = ROLES[0] if number < train else ROLES[1 + (number - train) // others]
        name, data = f"{role}-{number:06d}.jpg", enlarged(image.jpeg, size) if size else image.jpeg
        (directory / name).write_bytes(data)
        roles[role].append(name)
        digest = hashlib.sha256(data).hexdigest()
        pictures.append(IndexedImage(name, image.label, name, digest, len(data), 1, 1, 1, "0" * 16, "0" * 16))
    index = ImageIndex(tuple(sorted(pictures, key=lambda image: image.name)))
    labels = {image.name: image.label for image in pictures}
    return Task(
        index=index,
        splits=_Roles({role: tuple(names) for role, names in roles.items()}),
        reader=ImageReader(_Folder(directory), index),
        files=[(directory / name, labels[name]) for name in roles[ROLES[0]]],
    )


def enlarged(jpeg: bytes, size: tuple[int, int]) -> bytes:
    """Return the image resized, as a JPEG of quality 90."""
    buffer = BytesIO()
    with Image.open(BytesIO(jpeg)) as image:
        image.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
