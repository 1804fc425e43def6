"""The core's settings as Dagster's configuration: nested models and choices, each written once.

Dagster takes a nested model where it is a `dg.Config` too, and a choice between models that bear a `kind`
as a selector: `method: {lora: {rank: 8}}`. `as_dagster` derives these classes from the core's, so an
instance of the result is an instance of the core's class as well.
"""

from __future__ import annotations

import copy
import types
from functools import cache
from typing import Any, Union, get_args, get_origin

import dagster as dg
import pydantic

KIND = "kind"


@cache
def as_dagster(model: type[pydantic.BaseModel]) -> Any:
    """Return a model, and every model in its fields, as a subclass that Dagster takes."""
    bases = (model,) if issubclass(model, dg.Config) else (model, dg.Config)
    fields: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        annotation = _as_dagster(field.annotation)
        if annotation is not field.annotation:
            taken = copy.copy(field)
            taken.annotation, taken.default = annotation, _instance(field.default)
            fields[name] = (annotation, taken)
    # A class made at run time is nothing that a type checker can follow.
    create: Any = pydantic.create_model
    made = create(model.__name__, __base__=bases, **fields)
    made.__doc__ = model.__doc__
    return made


def _as_dagster(annotation: Any) -> Any:
    """Return an annotation with Dagster's classes in place of the models in it."""
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return as_dagster(annotation)
    origin, inner = get_origin(annotation), tuple(map(_as_dagster, get_args(annotation)))
    if inner == get_args(annotation):
        return annotation
    return Union[inner] if origin in {Union, types.UnionType} else origin[inner]  # noqa: UP007 - made here


def _instance(value: Any) -> Any:
    """Return a default as an instance of Dagster's class."""
    if not isinstance(value, pydantic.BaseModel):
        return value
    made = as_dagster(type(value))
    inner = {name: _instance(getattr(value, name)) for name in type(value).model_fields}
    return made.model_construct(**inner)
