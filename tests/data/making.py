"""Real images, tables and published artifacts for the tests of `streetvision_core.data`."""

from __future__ import annotations

import csv
import struct
import zlib
from io import BytesIO

import numpy as np
from PIL import Image

from streetvision_core.data import ImageIndex, IndexedImage
from streetvision_core.io import ArtifactStore, create_step_manifest


def scene(seed: int, *, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """A smooth random image: unlike noise, it survives resizing and re-encoding."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def encode(image: Image.Image, kind: str = "JPEG", **options) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(seed: int, **options) -> bytes:
    return encode(scene(seed), quality=90, **options)


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99)))


def write(path, data: bytes):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def write_csv(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_parquet(path, rows, **options):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, **options)
    return path


def hub_row(data: bytes | None, label, video: str | None, **others):
    image = {"bytes": data, "path": "somewhere/frame.jpg"}
    return {"image": image, "label": label, "video_info": {"vid_id": video, "fps": 30}, **others}


def picture(name: str, label: int, group: str | None = None, *, phash: int | None = None) -> IndexedImage:
    """An image that was never read; its hashes are far from all others' unless given."""
    draw = np.random.default_rng(zlib.crc32(name.encode()))
    plain, mirrored = (int(value) for value in draw.integers(0, 2**63, 2))
    return IndexedImage(
        name=name,
        label=label,
        group=group or name,
        sha256=f"{zlib.crc32(name.encode()):064x}",
        size_bytes=1,
        width=1,
        height=1,
        orientation=1,
        phash=f"{plain if phash is None else phash:016x}",
        phash_mirrored=f"{mirrored:016x}",
    )


def index_of(pictures) -> ImageIndex:
    return ImageIndex(tuple(sorted(pictures, key=lambda image: image.name)))


def publish(artifact, root):
    """Send an artifact through a real store and return what can be read back."""
    store = ArtifactStore(root)
    directory = store.stage("run", "step")
    names = store.write(directory, artifact)
    paths = [directory / name for name in names]
    manifest = create_step_manifest(
        step_name="step", input_paths=[], output_paths=paths, output_dir=directory, config={}, run_id="run"
    )
    return store.publish(directory, manifest)
