"""The code version of a step, derived from the source that it runs, so that nobody can forget to bump it.

It is a digest of the asset's body and its helpers in the same module, of every module of
`streetvision_core` that these name, and of everything those import inside the package, transitively,
imports inside functions included. An import from a package counts as one from the module that defines the
name. What decides no byte of a result is left out: how bytes become durable, errors, and images that are
only shown. Of the table of the graph, which every step reads, a step counts its own part
(`graph.rows_behind`), so that another row leaves it as it is.

It is taken from the compiled code, so comments, docstrings, layout and assertions do not count; another
minor version of Python compiles otherwise and therefore counts. What third-party packages do is not part
of it: the manifest records their versions.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType
from typing import TYPE_CHECKING

import streetvision_core
from streetvision_core.graph import rows_behind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_PACKAGE = streetvision_core.__name__
_IO_THAT_DECIDES_BYTES = {f"{_PACKAGE}.io.{name}" for name in ("encode", "published", "tensors", "writers")}
_ONLY_SHOWN = {f"{_PACKAGE}.errors"}
# Helpers of this name draw for the UI what a step has made.
_DRAWS = "_show"
# Imports for the type checker are never run.
_FOR_TYPES_ALONE = re.compile(r"^if TYPE_CHECKING:\n(?:(?:[ \t].*)?\n)+", re.MULTILINE)
_IMPORT = re.compile(r"^([ \t]*)from ([\w.]+) import (?:\(([^)]*)\)|(.+))$", re.MULTILINE)
_ROOT = Path(streetvision_core.__file__).parents[1]


def code_version(body: Callable[..., object], *, step: str) -> str:
    """Return the digest (16 hex) of the code behind the body of an asset, or of a check of it.

    Args:
        body: The function.
        step: The step, whose part of the table counts.
    """
    modules = [f"{name} {_read_module(name).digest}" for name in sorted(modules_behind(body))]
    own = [
        repr(_meaning(part, docstring=function.__doc__))
        for function in _with_helpers(body)
        for part in _parts(function.__code__)
    ]
    constants = [
        repr(value) for value in _named(body) if isinstance(value, str | int | float | tuple | list | dict)
    ]
    return _digest("\n".join([repr(rows_behind(step)), *own, *constants, *modules]))[:16]


def code_has_changed(body: Callable[..., object]) -> bool:
    """Tell whether the code behind the body of an asset has changed on the disk since it was first read.

    Modules are imported when a step needs them, so an edit in the middle of a run may or may not have been
    what ran.
    """
    return any(_differs_on_disk(name) for name in modules_behind(body))


def modules_behind(body: Callable[..., object]) -> set[str]:
    """Return the modules of the core that the body of an asset runs, directly or not."""
    waiting = [module for value in _named(body) if (module := getattr(value, "__module__", "")) in _modules()]
    modules: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in modules and _counts(name):
            modules.add(name)
            waiting.extend(_read_module(name).imports)
    return modules


def _named(body: Callable[..., object]) -> Iterator[object]:
    """Give what the names in a body and in its helpers stand for, in the order in which they are named."""
    for function in _with_helpers(body):
        yield from (function.__globals__[name] for name in _names(function) if name in function.__globals__)


def _names(function: FunctionType) -> Iterator[str]:
    """Give the names in a function, those in its lambdas, comprehensions and inner functions included."""
    for part in _parts(function.__code__):
        yield from part.co_names


def _with_helpers(body: Callable[..., object]) -> list[FunctionType]:
    """Return a body and the functions of its own module that it calls, directly or not."""
    assert isinstance(body, FunctionType)
    functions = [body]
    for function in functions:  # grows while it is walked
        named = (function.__globals__.get(name) for name in _names(function))
        functions += [
            helper
            for helper in named
            if isinstance(helper, FunctionType)
            and helper.__module__ == body.__module__
            and not helper.__name__.startswith(_DRAWS)
            and helper not in functions
        ]
    return functions


def _counts(name: str) -> bool:
    if name.startswith(f"{_PACKAGE}.io."):
        return name in _IO_THAT_DECIDES_BYTES
    return name not in _ONLY_SHOWN


@dataclass(frozen=True)
class _Module:
    """A source file: the digest of what it does, the modules it imports, and the names it only re-exports."""

    digest: str
    imports: frozenset[str]
    handed_on: Mapping[str, str]
    stamp: tuple[int, int]


def _stamp(name: str) -> tuple[int, int]:
    status = _modules()[name].stat()
    return status.st_size, status.st_mtime_ns


def _differs_on_disk(name: str) -> bool:
    read = _read_module(name)
    try:
        return _stamp(name) != read.stamp and _read_module.__wrapped__(name).digest != read.digest
    except (OSError, SyntaxError):  # it is gone, or somebody is in the middle of an edit
        return True


@cache
def _read_module(name: str) -> _Module:
    stamp = _stamp(name)
    source = _FOR_TYPES_ALONE.sub("", _modules()[name].read_text(encoding="utf-8"))
    # optimize=2 leaves docstrings and assertions out.
    code = compile(source, name, "exec", dont_inherit=True, optimize=2)
    imports = list(_imports(source))
    # Of the table the functions and classes count; what its own lines say is counted by the row.
    parts = [part for part in _parts(code) if part is not code or name != f"{_PACKAGE}.graph"]
    return _Module(
        digest=_digest(repr([_meaning(part) for part in parts])),
        imports=frozenset(_defining_module(parent, used) for _, parent, used in imports),
        handed_on={used: parent for indent, parent, used in imports if not indent},
        stamp=stamp,
    )


def _imports(source: str) -> Iterator[tuple[str, str, str]]:
    """Give (indentation, module, name) of every `from module import name` of the package.

    By expression and not by syntax tree: this runs whenever the definitions load, and a tree of every
    module takes three times as long. Formatted source has no other form of it; a match inside a string
    would only add a module.
    """
    for indent, module, several, single in _IMPORT.findall(source):
        if module in _modules():
            names = re.sub(r"#.*", "", several or single).split(",")
            yield from ((indent, module, name.split()[0]) for name in names if name.strip())


def _defining_module(parent: str, name: str) -> str:
    """Return the module that `from parent import name` runs."""
    if f"{parent}.{name}" in _modules():
        return f"{parent}.{name}"
    if _modules()[parent].name == "__init__.py":
        return _read_module(parent).handed_on.get(name, parent)
    return parent


def _parts(code: CodeType) -> Iterator[CodeType]:
    """Give a code object and every function, class and comprehension inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _parts(constant)


def _meaning(code: CodeType, *, docstring: str | None = None) -> tuple[object, ...]:
    """Return what decides what the code does, without docstring, line numbers and file name."""
    return (
        code.co_qualname,
        code.co_code,
        code.co_exceptiontable,
        [_constant(value) for value in code.co_consts if docstring is None or value != docstring],
        code.co_names,
        code.co_varnames,
        code.co_freevars,
        code.co_argcount,
        code.co_kwonlyargcount,
        code.co_flags,
    )


def _constant(value: object) -> object:
    if isinstance(value, CodeType):
        return value.co_qualname  # its own part says the rest
    # The order of a set follows the hash seed of the process.
    return sorted(map(repr, value)) if isinstance(value, frozenset) else value


@cache
def _modules() -> dict[str, Path]:
    """Return the file of every module of the package, found without importing anything."""
    files = {}
    for path in (_ROOT / _PACKAGE).rglob("*.py"):
        parts = path.relative_to(_ROOT).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return files


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
