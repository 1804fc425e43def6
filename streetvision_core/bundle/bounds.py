"""The bounds of what reading a bundle may cost, all in one place.

A bundle comes from outside, and a few bytes of it can ask for any amount of memory. So each bound is held
against what the manifest lists, and against what the system says of a file, before anything is read; the
weights are read last, and only where their header is that of the architecture (`weights.check_layout`). The
bounds are far beyond what this project exports, and of the order of what a small machine can hold.

JSON is nested at most `io.encode.MAX_NESTING` deep. What an image may cost stands in
`data/decoding/decode.py` and `data/sources/files.py`.
"""

from __future__ import annotations

from streetvision_core.bundle.layout import GOLDEN_PREFIX, ONNX, WEIGHTS
from streetvision_core.data.sources.files import MAX_FILE_BYTES

MIB = 2**20
JSON_BYTES = 64 * MIB  # the manifest too; a million images have splits of half of that
TEXT_BYTES = 16 * MIB
IMAGE_BYTES = MAX_FILE_BYTES
WEIGHTS_BYTES = 8 * 1024 * MIB  # two thousand million parameters
ONNX_BYTES = 2 * 1024 * MIB  # more is no one message of protobuf
HEADER_BYTES = 8 * MIB  # of the weights; the largest models of timm have a few thousand tensors: half a MiB
TOGETHER_BYTES = 4 * 1024 * MIB  # everything but the weights
BATCH_BYTES = 1024 * MIB  # all views of a batch of images, a byte a channel; the network sees four times that
BUFFER_BYTES = 1024 * MIB  # what a network computes when it is built, and no file lists
SIDES = range(16, 2049)  # pixels at which a network may look: what `BackboneConfig.input_size` takes
CROP_SHARES = (0.1, 1.0)  # crop_pct


def most_bytes(name: str) -> int:
    """Return how many bytes the file `name` of a bundle may have."""
    if name == WEIGHTS:
        return WEIGHTS_BYTES
    if name == ONNX:
        return ONNX_BYTES
    if name.endswith(".json"):
        return JSON_BYTES
    return IMAGE_BYTES if name.startswith(GOLDEN_PREFIX) else TEXT_BYTES
