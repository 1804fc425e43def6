"""Each format as a durable file: JSON, CSV, tensors, a model's weights. Each returns the file's SHA-256."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streetvision_core.io.atomic import write_chunks_atomic, write_file_atomic
from streetvision_core.io.encode import csv_bytes, json_bytes
from streetvision_core.io.tensors import tensor_chunks

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path


def write_json_atomic(path: Path, value: object) -> str:
    """Write ``value`` as canonical JSON durably and return the SHA-256 (hex) of the file."""
    return write_file_atomic(path, json_bytes(value))


def write_csv_atomic(path: Path, rows: Iterable[Mapping[str, object]], *, columns: Sequence[str]) -> str:
    """Write ``rows`` as CSV durably and return the SHA-256 (hex) of the file."""
    return write_file_atomic(path, csv_bytes(rows, columns=columns))


def write_tensors_atomic(
    path: Path, tensors: Mapping[str, Any], *, metadata: Mapping[str, str] | None = None
) -> str:
    """Write NumPy arrays or torch tensors as safetensors durably, without a second copy in memory.

    Args:
        path: The file to write.
        tensors: NumPy arrays or torch tensors by name, of any shape and any dtype that safetensors
            knows; a tensor on a device is brought to the CPU when its turn comes.
        metadata: Text that goes into the header.

    Returns:
        The SHA-256 (hex) of the file.
    """
    return write_chunks_atomic(path, tensor_chunks(tensors, metadata))


def write_checkpoint_atomic(path: Path, model: Any, *, metadata: Mapping[str, str] | None = None) -> str:
    """Write the weights of a torch module, or a state dict, as safetensors durably.

    Args:
        path: The file to write.
        model: A ``torch.nn.Module`` or a mapping from names to tensors, on any device.
        metadata: Text that goes into the header.

    Returns:
        The SHA-256 (hex) of the file.
    """
    state = model.state_dict() if hasattr(model, "state_dict") else model
    return write_tensors_atomic(path, state, metadata=metadata)
