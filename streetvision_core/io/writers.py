"""Each format as a durable file: JSON, CSV, tensors, checkpoints. Each returns the file's SHA-256."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from streetvision_core.errors import ConfigError
from streetvision_core.io.atomic import write_file_atomic
from streetvision_core.io.checkpoints import (
    SAFETENSORS_ENDING,
    TORCH_ENDINGS,
    write_tensors_file,
    write_torch_archive,
)
from streetvision_core.io.encode import csv_bytes, json_bytes, json_obstacle

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


def write_json_atomic(path: Path, data: object) -> str:
    """Write ``data`` as canonical JSON durably and return the SHA-256 (hex) of the file.

    Raises:
        ConfigError: a value that JSON cannot hold, named by its keys. The old file stays.
        StoreError: the file cannot be written. The old file stays.
    """
    try:
        encoded = json_bytes(data)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(
            "JSON values: text, finite numbers, true, false, null, lists and mappings with keys of text",
            json_obstacle(data) or str(error),
            path,
            "Turn paths into text and arrays into lists (array.tolist()), and leave out a number that is not"
            " finite or write null.",
        ) from error
    return write_file_atomic(path, encoded)


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

    Raises:
        ConfigError: a tensor, a name or metadata that safetensors cannot hold. The old file stays.
        StoreError: the file cannot be written. The old file stays.
    """
    return write_tensors_file(path, tensors, metadata)


def write_checkpoint_atomic(path: Path, state_dict: Any, *, metadata: Mapping[str, str] | None = None) -> str:
    """Write weights, or a whole training checkpoint, durably in the format that the ending of ``path`` names.

    Under ``.safetensors`` it is safetensors; under ``.pth``, ``.pt`` or ``.ckpt`` it is what
    ``torch.load(path, weights_only=True)`` reads. Neither takes a second copy in memory.

    Args:
        path: The file to write.
        state_dict: A ``torch.nn.Module``, a mapping from names to tensors on any device, or, under the
            endings of torch, a nested training checkpoint as Lightning makes it.
        metadata: Text that goes into the header of safetensors.

    Returns:
        The SHA-256 (hex) of the file.

    Raises:
        ConfigError: another ending, or a value that could not be read back. The old file stays.
        StoreError: the file cannot be written. The old file stays.
    """
    path = Path(path)
    state = state_dict.state_dict() if hasattr(state_dict, "state_dict") else state_dict
    if path.suffix == SAFETENSORS_ENDING:
        return write_tensors_file(path, state, metadata)
    if path.suffix not in TORCH_ENDINGS or metadata:
        raise ConfigError(
            f"a file name that ends in {SAFETENSORS_ENDING} (safetensors) or in {', '.join(TORCH_ENDINGS)}"
            " (what torch.load reads, without metadata)",
            f"{path.name!r}{' and metadata' if metadata else ''}",
            path,
            "Choose one of these endings.",
        )
    return write_torch_archive(path, state)
