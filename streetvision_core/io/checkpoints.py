"""Weights and whole training checkpoints as one durable file, in the format that its ending names.

``.safetensors`` holds tensors by name and nothing else. ``.pth``, ``.pt`` and ``.ckpt`` are torch's archive,
which holds nested plain values as well, as Lightning saves a training. Such an archive is a pickle, and who
reads it safely (``torch.load(path, weights_only=True)``) is given tensors and plain values alone. So what
could not be read that way is refused by its name, and the written file is opened that way before it is
renamed onto its target: a checkpoint that nobody can load never replaces one that somebody can.

Neither format takes a second copy in memory: both hand out the tensors' own memory, which is hashed while it
is written. torch's writer of archives never goes back in its file, so the stream needs no ``seek``.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any, cast

from streetvision_core.errors import ConfigError
from streetvision_core.io.atomic import atomic_stream, write_chunks_atomic
from streetvision_core.io.tensors import tensor_chunks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

TORCH_ENDINGS, SAFETENSORS_ENDING = (".pth", ".pt", ".ckpt"), ".safetensors"
# What torch's safe reader makes again, by exact type: a subclass of any of them is somebody's own class.
_MAPPINGS, _SEQUENCES = (dict, OrderedDict, Counter), (list, tuple, set)
_PLAIN = (type(None), bool, int, float, complex, str, bytes, bytearray)


def write_torch_archive(path: Path, state: Any) -> str:
    """Write what ``torch.load(path, weights_only=True)`` gives back; return the file's SHA-256 (hex).

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
            if stream.failure is not None:
                raise stream.failure from error
            raise _unreadable(str(error).splitlines()[0], path) from error
    return stream.sha256


def write_tensors_file(path: Path, state: Any, metadata: Mapping[str, str] | None) -> str:
    """Write tensors or arrays by name as safetensors; return the file's SHA-256 (hex).

    Tensors that share memory are written as often as they have names.

    Raises:
        ConfigError: a value that safetensors cannot hold; the old file stays.
        StoreError: the file cannot be written.
    """
    for name, value in state.items():
        if obstacle := _tensor_obstacle(name, value):
            raise ConfigError(
                "tensors by their names, which is all that safetensors holds",
                obstacle,
                path,
                "Write a nested checkpoint under .ckpt, .pth or .pt; of a model pass the state_dict.",
            )
    try:
        return write_chunks_atomic(path, tensor_chunks(state, metadata))
    except TypeError as error:
        raise ConfigError(
            "tensors of a dtype that safetensors knows",
            str(error),
            path,
            "Convert it, or write the checkpoint under .pth, .pt or .ckpt.",
        ) from error


def _foreign_values(
    value: Any, name: str = "", seen: frozenset[int] = frozenset()
) -> Iterator[tuple[str, Any]]:
    """Yield what torch's safe reader would not make again, with its keys from the outermost to its own."""
    import torch

    if isinstance(value, (torch.Tensor, torch.Size, torch.dtype, torch.device)) or type(value) in _PLAIN:
        return
    if type(value) not in (*_MAPPINGS, *_SEQUENCES):
        yield name or "the checkpoint", value
    elif id(value) not in seen:
        for key, part in _parts(value):
            if type(key) in {*_PLAIN, tuple}:
                yield from _foreign_values(part, f"{name}.{key}" if name else str(key), seen | {id(value)})
            else:
                yield name or "the checkpoint", key


def _parts(value: Any) -> Iterable[tuple[Any, Any]]:
    return value.items() if isinstance(value, Mapping) else enumerate(value)


def _unreadable(found: str, path: Path) -> ConfigError:
    return ConfigError(
        "tensors and plain values, which torch.load(weights_only=True) reads back",
        found,
        path,
        "Turn it into a tensor, a number, text, a list or a dict, or leave it out.",
    )


def _tensor_obstacle(name: Any, value: Any) -> str:
    """Say why safetensors cannot hold a value; empty where it can."""
    if not isinstance(name, str):
        return f"the name {name!r}, a {_kind(name)}"
    if not hasattr(value, "dtype") or not hasattr(value, "reshape"):
        return f"{name!r}, a {_kind(value)}"
    if getattr(value, "is_meta", False):
        return f"{name!r}, a tensor without memory (on the device meta)"
    layout = str(getattr(value, "layout", "torch.strided"))
    return "" if layout == "torch.strided" else f"{name!r}, a tensor of the layout {layout}"


def _kind(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
