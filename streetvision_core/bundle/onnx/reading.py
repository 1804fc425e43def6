"""The reading of an ONNX file without its library: what it says of itself, and what it would ask for.

An ONNX file is a message of Protocol Buffers: numbered fields, each with its length. Only those that are
named below are looked at. A file that needs more than itself and ONNX's own operators is refused before a
runtime sees it: weights in other files, operators of other domains, functions, and control flow, a few bytes
of which can ask for any amount of time.

Source: onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto) and the encoding of
Protocol Buffers (https://protobuf.dev/programming-guides/encoding).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streetvision_core.bundle.layout import ONNX
from streetvision_core.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Fields of ModelProto, GraphProto, NodeProto, AttributeProto and TensorProto.
_GRAPH, _OPSETS, _METADATA, _TRAINING, _FUNCTIONS = 7, 8, 14, 20, 25
_NODE, _INITIALIZER, _SPARSE = 1, 5, 15
_OPERATOR, _ATTRIBUTE, _DOMAIN = 4, 5, 7
_TENSOR, _SUBGRAPH, _TENSORS, _SUBGRAPHS, _SPARSE_TENSOR, _SPARSE_TENSORS = 5, 6, 10, 11, 22, 23
_INSIDE = (_TENSOR, _SUBGRAPH, _TENSORS, _SUBGRAPHS, _SPARSE_TENSOR, _SPARSE_TENSORS)
_ELSEWHERE, _PLACE = 13, 14
_CONTROL = {b"If", b"Loop", b"Scan", b"SequenceMap"}
_OWN_DOMAIN = {b"", b"ai.onnx"}
_VARINT, _LENGTH, _FIXED = 0, 2, {1: 8, 5: 4}  # bytes
_TAG_END = 2**32  # protobuf drops the bits above, and would see another field than we do
_MOST_FIELDS = 1_000_000  # test_resnet, of 15 convolutions, has 1,300


@dataclass(frozen=True)
class OnnxFile:
    """The metadata of an ONNX file, and the version of the operators that it uses."""

    metadata: Mapping[str, str]
    opset: int


def read_onnx(data: bytes, *, where: str) -> OnnxFile:
    """Read what an ONNX file says of itself.

    Raises:
        BundleError: it is none, or it needs more than itself and ONNX's own operators.
    """
    reader = _Reader()
    try:
        fields = list(reader.fields(memoryview(data)))
        problem = next(reader.problems(fields), "")
        metadata = [reader.pair(value) for number, value in fields if number == _METADATA]
        opsets = [reader.opset(value) for number, value in fields if number == _OPSETS]
    except (ValueError, IndexError, TypeError) as error:  # UnicodeDecodeError is a ValueError
        raise _refused(f"bytes that are none: {error}", where) from error
    if problem or len({key for key, _ in metadata}) != len(metadata) or len(opsets) != 1:
        raise _refused(problem or "names or versions that occur twice", where)
    return OnnxFile(dict(metadata), opsets[0])


def _refused(found: str, where: str) -> BundleError:
    return BundleError(
        "an ONNX file that needs nothing but itself and ONNX's own operators",
        found,
        f"{where}/{ONNX}",
        "Do not use this bundle; take a whole copy of it, or export it again.",
    )


class _Reader:
    """A reader of messages, of at most `_MOST_FIELDS` fields in all: a field may take only two bytes."""

    def __init__(self) -> None:
        self._left = _MOST_FIELDS

    def fields(self, data: memoryview | int) -> Iterator[tuple[int, memoryview | int]]:
        """Give the fields of a message: their numbers, and their bytes or whole number."""
        if isinstance(data, int):
            raise TypeError("a number where a message belongs")
        at = 0
        while at < len(data):
            self._left -= 1
            if self._left < 0:
                raise ValueError(f"more than {_MOST_FIELDS} fields")
            tag, at = _varint(data, at)
            if tag >= _TAG_END:
                raise ValueError("a field number that is cut elsewhere")
            number, kind = tag >> 3, tag & 7
            if kind == _VARINT:
                value, at = _varint(data, at)
                yield number, value
                continue
            size = _FIXED.get(kind, len(data))
            if kind == _LENGTH:
                size, at = _varint(data, at)
            if at + size > len(data):
                raise ValueError(f"field {number} is longer than its message")
            yield number, data[at : at + size]
            at += size

    def messages(self, data: memoryview | int, *wanted: int) -> Iterator[tuple[int, memoryview]]:
        """Give those fields of a message that have these numbers, and are messages or texts."""
        for number, value in self.fields(data):
            if number in wanted:
                if isinstance(value, int):
                    raise TypeError("a number where a message belongs")
                yield number, value

    def problems(self, fields: list[tuple[int, memoryview | int]]) -> Iterator[str]:
        """Give what a file asks for beyond itself, one sentence each."""
        numbers = [number for number, _ in fields]
        if _FUNCTIONS in numbers or _TRAINING in numbers:
            yield "functions or training of its own"
        if numbers.count(_GRAPH) != 1:
            yield f"{numbers.count(_GRAPH)} graphs"
        for graph in (value for number, value in fields if number == _GRAPH):
            for number, value in self.messages(graph, _NODE, _INITIALIZER, _SPARSE):
                if number == _NODE:
                    yield from self._node_problems(value)
                elif number == _SPARSE or self._lies_elsewhere(value):
                    yield "weights that are sparse or in another file"

    def _node_problems(self, node: memoryview) -> Iterator[str]:
        for number, value in self.messages(node, _OPERATOR, _ATTRIBUTE, _DOMAIN):
            if number == _DOMAIN and bytes(value) not in _OWN_DOMAIN:
                yield f"operators of the domain {bytes(value)[:50]!r}"
            if number == _OPERATOR and bytes(value) in _CONTROL:
                yield f"the operator {bytes(value).decode()}"
            if number == _ATTRIBUTE:
                for kind, inner in self.messages(value, *_INSIDE):
                    if kind in {_SUBGRAPH, _SUBGRAPHS}:
                        yield "a graph inside an operator"
                    elif kind in {_SPARSE_TENSOR, _SPARSE_TENSORS}:
                        yield "a sparse tensor inside an operator"
                    elif self._lies_elsewhere(inner):
                        yield "a tensor in another file"

    def _lies_elsewhere(self, tensor: memoryview) -> bool:
        return any(
            number == _ELSEWHERE or (number == _PLACE and value) for number, value in self.fields(tensor)
        )

    def pair(self, entry: memoryview | int) -> tuple[str, str]:
        """Return key and value of a StringStringEntryProto."""
        parts = {number: bytes(value).decode() for number, value in self.messages(entry, 1, 2)}
        return parts.get(1, ""), parts.get(2, "")

    def opset(self, entry: memoryview | int) -> int:
        """Return the version of ONNX's own operators, of an OperatorSetIdProto."""
        parts = dict(self.fields(entry))
        domain, version = parts.get(1, memoryview(b"")), parts.get(2)
        if isinstance(domain, int) or bytes(domain) not in _OWN_DOMAIN:
            raise ValueError("operators of another domain")
        if not isinstance(version, int):
            raise TypeError("no version of the operators")
        return version


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return a whole number of seven bits a byte, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte, at = data[at], at + 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number of more than ten bytes")
