"""The class names that Hugging Face's datasets writes into the schema of a Parquet file.

The schema's metadata `huggingface` is JSON: `{"info": {"features": {COLUMN: FEATURE}}}`. A feature of the
type ClassLabel has the names behind the numbers of a column in their order; features of a struct lie inside
of its feature, as deep as the struct.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from streetvision_core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable

_KEY = b"huggingface"


def class_names(schema: Any, columns: Iterable[str], where: str) -> dict[str, tuple[str, ...]]:
    """Return the class names of those columns of an Arrow schema (dots lead into structs) that have any.

    Raises:
        DataError: the metadata is there, but is not what datasets writes: what numbers mean is then unknown.
    """
    features = _features((schema.metadata or {}).get(_KEY), where)
    named = {column: _feature(features, column) for column in columns}
    return {
        column: _names(feature["names"], column, where)
        for column, feature in named.items()
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names")
    }


def _features(metadata: bytes | None, where: str) -> dict[str, Any]:
    if metadata is None:
        return {}
    try:
        content = from_json(metadata)
    except ValueError as error:
        raise _refused(str(error).splitlines()[0], where) from error
    info = content.get("info") if isinstance(content, dict) else None
    features = info.get("features") if isinstance(info, dict) else None
    return features if isinstance(features, dict) else {}


def _feature(features: dict[str, Any], column: str) -> Any:
    if column in features:
        return features[column]
    feature: Any = features
    for part in column.split("."):
        feature = feature.get(part) if isinstance(feature, dict) else None
    return feature


def _names(names: Any, column: str, where: str) -> tuple[str, ...]:
    texts = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not texts or len(set(names)) < len(names):
        raise _refused(f"the names {str(names)[:200]} of {column!r}", where)
    return tuple(names)


def _refused(found: str, where: str) -> DataError:
    expected = "metadata `huggingface` as datasets writes it, with the names of classes"
    action = "Write the file again with datasets, or without this metadata and with labels in words."
    return DataError(expected, found, where, action)
