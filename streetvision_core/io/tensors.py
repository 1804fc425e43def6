"""Safetensors in one pass: the bytes are handed out in chunks, so that writing and hashing share them.

The reference library writes a whole file by itself and gives no chance to hash it meanwhile; hashing it
afterwards costs as much again as writing it (see docs/decisions/io.md). The format is small: eight bytes
with the length of a JSON header, the header (name -> dtype, shape, offsets), then the raw, little-endian
buffers without gaps (https://github.com/huggingface/safetensors, "Format"). Reading is left to the library,
which is also the oracle in the tests.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import sys
from typing import TYPE_CHECKING, Any, BinaryIO

from streetvision_core.io.encode import parse_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np

# How much of a tensor is copied at once where its memory cannot be handed out as it is.
_COPIED_BYTES = 8 * 2**20
_DTYPES = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
    "int16": "I16", "uint16": "U16", "float16": "F16", "bfloat16": "BF16", "int32": "I32", "uint32": "U32",
    "float32": "F32", "int64": "I64", "uint64": "U64", "float64": "F64",
}  # fmt: skip

_NAMES = {code: name for name, code in _DTYPES.items()}
_MOST_DIMENSIONS = 16
_MOST_ELEMENTS = 2**40  # lengths of 0 counted as 1: the strides are their product, also of an empty tensor


def tensor_chunks(
    tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> Iterator[memoryview]:
    """Give the bytes of a safetensors file: the header, then each tensor's memory, not copied on the CPU.

    Args:
        tensors: NumPy arrays or torch tensors by name, on any device, of any shape.
        metadata: Text that goes into the header.

    Raises:
        TypeError: a value is no array or tensor of a dtype that safetensors knows.
    """
    # Wide elements first, so that every buffer is aligned to its element size.
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name in order:
        end = offset + _size_bytes(tensors[name])
        header[name] = {
            "dtype": _dtype(tensors[name], name=name),
            "shape": list(tensors[name].shape),
            "data_offsets": [offset, end],
        }
        offset = end
    encoded = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    encoded += b" " * (-len(encoded) % 8)
    yield memoryview(len(encoded).to_bytes(8, "little") + encoded)
    for name in order:
        yield from map(_memory, _parts(tensors[name]))


def tensors_bytes(tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> bytes:
    """Encode small arrays or tensors as safetensors; the same tensors give the same bytes."""
    return b"".join(tensor_chunks(tensors, metadata))


def read_tensors(data: bytes) -> dict[str, np.ndarray]:
    """Decode safetensors into NumPy arrays that own their memory."""
    from safetensors.numpy import load

    return {name: array.copy() for name, array in load(data).items()}


def tensor_digests(data: bytes | memoryview) -> dict[str, str]:
    """Return the SHA-256 (hex) of the raw bytes of each tensor of sound safetensors, by its name."""
    whole = memoryview(data)
    begin = 8 + int.from_bytes(whole[:8], "little")
    header = json.loads(bytes(whole[8:begin]))
    spans = {name: entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"}
    return {
        name: hashlib.sha256(whole[begin + first : begin + end]).hexdigest()
        for name, (first, end) in sorted(spans.items())
    }


def read_layout(
    file: BinaryIO, *, size_bytes: int, most_bytes: int
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Read what the header of a safetensors file says of its tensors, and nothing behind it.

    Args:
        file: The file, open at its beginning.
        size_bytes: Its size.
        most_bytes: How long the header may be.

    Returns:
        The dtype (as torch and NumPy name it) and shape of each tensor by its name. Whether the tensors lie
        without gaps is left to the library.

    Raises:
        ValueError: the header is longer, no JSON, or does not fit the size of the file.
    """
    length = int.from_bytes(file.read(8), "little")
    if length > min(most_bytes, size_bytes - 8):
        raise ValueError(f"a header of {length} bytes in a file of {size_bytes}, and at most {most_bytes}")
    header = parse_json(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("a header that is no JSON object")  # noqa: TRY004 - of a file, not of an argument
    tensors = {name: _entry(name, entry) for name, entry in header.items() if name != "__metadata__"}
    end = 8 + length + max((end for *_, end in tensors.values()), default=0)
    if end != size_bytes:
        raise ValueError(f"a header of {end} bytes of tensors in a file of {size_bytes}")
    return {name: (dtype, shape) for name, (dtype, shape, _) in tensors.items()}


def _entry(name: str, entry: Any) -> tuple[str, tuple[int, ...], int]:
    """Return dtype, shape and the end of one tensor, which has as many bytes as these ask for."""
    try:
        code, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        numbers = (*shape, begin, end)
        sound = len(shape) <= _MOST_DIMENSIONS and all(type(size) is int and size >= 0 for size in numbers)
        sound = sound and math.prod(max(1, length) for length in shape) <= _MOST_ELEMENTS
        if sound and end - begin == math.prod(shape) * _item_bytes(code):
            return _NAMES[code], shape, end
    except (KeyError, TypeError, ValueError):
        pass  # told below, as whatever else it can be
    raise ValueError(f"an entry of the header that is none of a tensor, {name[:100]!r}")


def _item_bytes(code: str) -> int:
    digits = re.search(r"\d+", code)  # the first ones: F8_E4M3 has one byte, and BOOL, which has none, too
    return int(digits[0]) // 8 if digits else 1


def _dtype(tensor: Any, *, name: str) -> str:
    kind = str(tensor.dtype).removeprefix("torch.")
    if kind not in _DTYPES:
        raise TypeError(f"the tensor {name} is of dtype {kind}, which safetensors does not know")
    return _DTYPES[kind]


def _size_bytes(tensor: Any) -> int:
    size: int = tensor.dtype.itemsize
    for length in tensor.shape:
        size *= length
    return size


def _parts(tensor: Any) -> Iterator[Any]:
    """Give a tensor in the order of its elements: whole where its memory is in that order, else by parts.

    A part of another layout, or on a device, has to be copied before it can be written.
    """
    size = _size_bytes(tensor)
    if size <= _COPIED_BYTES or _is_in_order(tensor):
        yield tensor
        return
    rows = tensor.shape[0]
    if size // rows > _COPIED_BYTES:
        for row in range(rows):
            yield from _parts(tensor[row])
        return
    step = max(1, _COPIED_BYTES * rows // size)
    for start in range(0, rows, step):
        yield tensor[start : start + step]


def _is_in_order(tensor: Any) -> bool:
    if hasattr(tensor, "detach"):
        return bool(tensor.device.type == "cpu" and tensor.is_contiguous() and not tensor.is_neg())
    return bool(tensor.flags.c_contiguous)


def _memory(tensor: Any) -> memoryview:
    assert sys.byteorder == "little", "safetensors are little-endian"
    if hasattr(tensor, "detach"):
        import torch

        whole = tensor.detach().cpu().resolve_neg().contiguous()
        # A single element counts as contiguous at any stride, and only a stride of 1 can be seen as bytes.
        tensor = whole.as_strided((whole.numel(),), (1,)).view(torch.uint8).numpy()
    import numpy as np

    flat: np.ndarray = np.ascontiguousarray(tensor).reshape(-1).view(np.uint8)
    return flat.data
