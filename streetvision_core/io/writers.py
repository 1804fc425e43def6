"""Each format as a durable file: JSON, tensors, checkpoints. Each returns the file's SHA-256.

Weights and whole training checkpoints are one file, in the format that its ending names. `.safetensors` holds
tensors by name and nothing else. `.pth`, `.pt` and `.ckpt` are torch's archive, which holds nested plain
values as well, as Lightning saves a training. Such an archive is a pickle, and who reads it safely
(`torch.load(path, weights_only=True)`) is given tensors and plain values alone. So what could not be read
that way is refused by its name, and the written file is opened that way before it is renamed onto its target:
a checkpoint that nobody can load never replaces one that somebody can.

Neither format takes a second copy in memory: both hand out the tensors' own memory, which is hashed while it
is written. torch's writer of archives never goes back in its file, so the stream needs no `seek`.
"""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from streetvision_core.errors import ConfigError
from streetvision_core.io.atomic import atomic_stream, write_chunks_atomic, write_file_atomic
from streetvision_core.io.encode import is_text, json_bytes, json_obstacle
from streetvision_core.io.tensors import tensor_chunks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TORCH_ENDINGS, SAFETENSORS_ENDING = (".pth", ".pt", ".ckpt"), ".safetensors"
# What torch's safe reader makes again, by exact type: a subclass of any of them is somebody's own class.
_MAPPINGS, _SEQUENCES = (dict, OrderedDict, Counter), (list, tuple, set)
_TERMINAL_CODE = re.compile(r"\x1b\[[0-9;]*m")  # torch's errors hold them
_PLAIN = (type(None), bool, int, float, complex, str, bytes, bytearray)


def write_torch_archive(path: Path, state: Any) -> str:
    """Write what `torch.load(path, weights_only=True)` gives back; return the file's SHA-256 (hex).

    A tensor that is a view is written with the whole memory that it views, once for all its views.

    Raises:
        ConfigError: a value that could not be read back; the old file stays.
        StoreError: the file cannot be written.
    """
    import torch

    for name, value in _foreign_values(state):
        raise _unreadable(f"{name!r} is a {_kind(value)}", path)
    with atomic_stream(path) as stream:
        try:
            torch.save(state, cast("IO[bytes]", stream))  # it asks for no more than write and flush
            stream.flush()
            # Mapped, so that no tensor's memory is read: it is the pickle that could be refused.
            torch.load(str(stream.temporary), map_location="cpu", weights_only=True, mmap=True)
        except OSError:
            raise
        except Exception as error:
            # Pickle and torch fail in any way there is over what they cannot take; a full disk is one, too.
            # What interrupts torch while it writes (Ctrl-C) becomes a fault of its archive.
            if stream.failure is not None:
                raise stream.failure from error
            if not isinstance(error.__context__, Exception | None):
                raise error.__context__ from error
            raise _unreadable(_first_line(error), path) from error
    return stream.sha256


def write_tensors_atomic(path: Path, tensors: Any, *, metadata: Mapping[str, str] | None = None) -> str:
    """Write NumPy arrays or torch tensors as safetensors durably, without a second copy in memory.

    Tensors that share memory are written as often as they have names.

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
    if obstacle := next(filter(None, _obstacles(tensors, metadata or {})), ""):
        raise ConfigError(
            "tensors by their names and metadata of text, which is all that safetensors holds",
            obstacle,
            path,
            "Write a nested checkpoint under .ckpt, .pth or .pt; of a model pass the state_dict; metadata"
            " has to be text.",
        )
    try:
        return write_chunks_atomic(path, tensor_chunks(tensors, metadata))
    except TypeError as error:
        raise ConfigError(
            "tensors of a dtype that safetensors knows",
            str(error),
            path,
            "Convert it, or write the checkpoint under .pth, .pt or .ckpt.",
        ) from error


def _foreign_values(state: Any) -> Iterator[tuple[str, Any]]:
    """Yield what torch's safe reader would not make again, with its keys from the outermost to its own.

    Each object is looked at once, however often it is shared, and without recursion, however deep it lies.
    """
    waiting, seen = [("", state)], set()
    while waiting:
        name, value = waiting.pop()
        if id(value) in seen or _is_made_again(value):
            continue
        seen.add(id(value))
        if type(value) not in (*_MAPPINGS, *_SEQUENCES):
            yield name or "the checkpoint", value
            continue
        parts = list(_parts(value))
        for key in (key for key, _ in parts if type(key) not in {*_PLAIN, tuple}):
            yield name or "the checkpoint", key
        waiting += [(f"{name}.{key}" if name else str(key), part) for key, part in reversed(parts)]


def _is_made_again(value: Any) -> bool:
    """Tell whether torch's safe reader makes a value without parts; it makes no subclass of a tensor."""
    import torch

    tensors = (torch.Tensor, torch.nn.Parameter)
    return type(value) in (*_PLAIN, *tensors) or isinstance(value, (torch.Size, torch.dtype, torch.device))


def _parts(value: Any) -> Iterable[tuple[Any, Any]]:
    return value.items() if isinstance(value, Mapping) else enumerate(value)


def _first_line(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "values nested deeper than pickle can follow"
    return _TERMINAL_CODE.sub("", str(error)).splitlines()[0] if str(error) else type(error).__name__


def _unreadable(found: str, path: Path) -> ConfigError:
    return ConfigError(
        "tensors and plain values, which torch.load(weights_only=True) reads back",
        found,
        path,
        "Turn it into a tensor, a number, text, a list or a dict, or leave it out.",
    )


def _obstacles(state: Any, metadata: Any) -> Iterator[str]:
    """Give for each part of a safetensors file why it cannot be in one; empty text where it can."""
    for given, what in ((state, "a checkpoint"), (metadata, "metadata")):
        if not isinstance(given, Mapping):
            yield f"{what} that is a {_kind(given)}"
            return
    for name, value in state.items():
        yield _tensor_obstacle(name, value)
    for key, text in metadata.items():
        wrong = next((part for part in (key, text) if not is_text(part)), None)
        yield "" if wrong is None else f"{wrong!r}, a {_kind(wrong)}, in the metadata at {key!r}"


def _tensor_obstacle(name: Any, value: Any) -> str:
    """Say why safetensors cannot hold a value; empty where it can."""
    if not is_text(name):
        return f"the name {name!r}, a {_kind(name)}"
    if name == "__metadata__":
        return "a tensor named '__metadata__', the name that the format keeps for its own header"
    if not hasattr(value, "dtype") or not hasattr(value, "reshape"):
        return f"{name!r}, a {_kind(value)}"
    if getattr(value, "is_meta", False):
        return f"{name!r}, a tensor without memory (on the device meta)"
    layout = str(getattr(value, "layout", "torch.strided"))
    return "" if layout == "torch.strided" else f"{name!r}, a tensor of the layout {layout}"


def _kind(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def write_json_atomic(path: Path, data: object) -> str:
    """Write `data` as canonical JSON durably and return the SHA-256 (hex) of the file.

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


def write_checkpoint_atomic(path: Path, state_dict: Any, *, metadata: Mapping[str, str] | None = None) -> str:
    """Write weights, or a whole training checkpoint, durably in the format that the ending of `path` names.

    Under `.safetensors` it is safetensors; under `.pth`, `.pt` or `.ckpt` it is what `torch.load(path,
    weights_only=True)` reads. Neither takes a second copy in memory.

    Args:
        path: The file to write.
        state_dict: A `torch.nn.Module`, a mapping from names to tensors on any device, or, under the
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
        return write_tensors_atomic(path, state, metadata=metadata)
    if path.suffix not in TORCH_ENDINGS or metadata:
        raise ConfigError(
            f"a file name that ends in {SAFETENSORS_ENDING} (safetensors) or in {', '.join(TORCH_ENDINGS)}"
            " (what torch.load reads, without metadata)",
            f"{path.name!r}{' and metadata' if metadata else ''}",
            path,
            "Choose one of these endings.",
        )
    return write_torch_archive(path, state)
