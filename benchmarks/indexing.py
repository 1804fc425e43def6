"""`images` and `splits` on many small files: seconds, memory, and the rate beside a plain loop.

Usage: python benchmarks/indexing.py [IMAGES] [--parquet]

The files are JPEGs of about 20 kB, each of other bytes (made once from 200 drawn ones by a comment), in a
folder per class; with --parquet they are rows of one file instead. The loop beside it does what nobody can do
without, on one core: read the bytes, SHA-256, Pillow's decode to RGB. Both
rates are images a second of processor time, so that other work on the machine does not count.
The peak is that of a process of its own that does nothing else.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tempfile
import time
from io import BytesIO
from pathlib import Path

import numpy as np
from _common import machine_line, print_table
from PIL import Image

LOOPED = 2000
DRAWN = 200


def make_jpegs(count: int) -> list[bytes]:
    """Draw smooth images with grain, of about 20 kB."""
    draw = np.random.default_rng(0)
    made = []
    for _ in range(count):
        coarse = Image.fromarray(draw.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((320, 240))
        grain = draw.normal(0, 7, (240, 320, 3))
        pixels = np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8)
        buffer = BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=88)
        made.append(buffer.getvalue())
    return made


def commented(jpeg: bytes, number: int) -> bytes:
    return jpeg[:2] + b"\xff\xfe\0\x0a" + f"{number:08}".encode() + jpeg[2:]


def group_of(number: int) -> str:
    """The copies of a drawn image are near-duplicates: they lie in one group, and both labels with them."""
    return f"v{number % DRAWN // 2:03}"


def make_folder(root: Path, jpegs: list[bytes], count: int) -> dict:
    for number in range(count):
        path = root / ("None", "Roadwork")[number % 2] / f"{group_of(number)}_{number:06}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(commented(jpegs[number % len(jpegs)], number))
    return {"folder": {"path": str(root), "group_pattern": r"^(v\d+)_"}}


def make_parquet(root: Path, jpegs: list[bytes], count: int) -> dict:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = root / "images.parquet"
    schema = pa.schema(
        [("image", pa.struct([("bytes", pa.binary())])), ("label", pa.int64()), ("video", pa.string())]
    )
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, count, 1000):
            rows = [
                {
                    "image": {"bytes": commented(jpegs[number % len(jpegs)], number)},
                    "label": number % 2,
                    "video": group_of(number),
                }
                for number in range(start, min(start + 1000, count))
            ]
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    return {"parquet": {"path": str(path), "group_column": "video"}}


def work(config: dict) -> None:
    """Index and split in this process, and print seconds and peak."""
    from streetvision_core.data.images import ImagesConfig, index_images
    from streetvision_core.data.splits import SplitsConfig, assign_splits

    began, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as directory:
        indexed = index_images(ImagesConfig(**config), directory=Path(directory))
        indexed.to_artifact()
    middle, cpu = time.perf_counter(), time.process_time() - cpu
    assign_splits(indexed.index, SplitsConfig())
    end = time.perf_counter()
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024
    print(json.dumps({"images": middle - began, "cpu": cpu, "splits": end - middle, "peak": peak}))


def loop_rate(jpegs: list[bytes]) -> float:
    began = time.process_time()
    for number in range(LOOPED):
        data = commented(jpegs[number % len(jpegs)], number)
        hashlib.sha256(data).hexdigest()
        with Image.open(BytesIO(data)) as image:
            image.convert("RGB")
    return LOOPED / (time.process_time() - began)


def main() -> None:
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    count = numbers[0] if numbers else 100_000
    jpegs = make_jpegs(DRAWN)
    make = make_parquet if "--parquet" in sys.argv else make_folder
    with tempfile.TemporaryDirectory() as folder:
        config = make(Path(folder), jpegs, count)
        before = loop_rate(jpegs)
        done = subprocess.run(
            [sys.executable, __file__, "--work", json.dumps(config)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            sys.exit(done.stderr)
        result = json.loads(done.stdout.splitlines()[-1])
        looped = (before + loop_rate(jpegs)) / 2
    rate = count / result["cpu"]
    print_table(
        f"{count} JPEGs of {sum(map(len, jpegs)) / len(jpegs) / 1e3:.1f} kB, {make.__name__[5:]}",
        machine=machine_line("pillow", "numpy"),
        columns=["images", "splits", "peak", "images a second of a core", "beside the loop"],
        rows=[
            [
                f"{result['images']:.1f} s",
                f"{result['splits']:.1f} s",
                f"{result['peak'] / 2**20:.0f} MiB",
                f"{rate:.0f}",
                f"{rate / looped:.2f} of {looped:.0f}",
            ]
        ],
    )


if __name__ == "__main__":
    if "--work" in sys.argv:
        work(json.loads(sys.argv[-1]))
    else:
        main()
