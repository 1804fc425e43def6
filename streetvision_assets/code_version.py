"""The code version of a step, derived from the source that it runs, so that nobody can forget to bump it.

It is a digest of the module that the step calls and of everything that module imports inside
``streetvision_core``, transitively, imports inside functions included. It is taken from the compiled
code, so comments, docstrings, layout and assertions do not count; another minor version of Python
compiles otherwise and therefore counts. What third-party packages do is not part of it: the manifest
records their versions.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING

import streetvision_core

if TYPE_CHECKING:
    from collections.abc import Iterator

_PACKAGE = streetvision_core.__name__
# Imports for the type checker are never run. (A branch that is False would leave its names in the code.)
_FOR_TYPES_ALONE = re.compile(rb"^if TYPE_CHECKING:\n(?:(?:[ \t].*)?\n)+", re.MULTILINE)
_ROOT = Path(streetvision_core.__file__).parents[1]


def code_version(module: str) -> str:
    """Return the digest (16 hex) of ``module`` and of what it imports inside the package."""
    seen: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen[name], imported = _read_module(name)
            waiting.extend(imported)
    joined = "\n".join(f"{name} {digest}" for name, digest in sorted(seen.items()))
    return _digest(joined)[:16]


@cache
def _read_module(name: str) -> tuple[str, tuple[str, ...]]:
    """Return the digest of a module's code, and the modules of the package that it imports."""
    source = _FOR_TYPES_ALONE.sub(b"", _modules()[name].read_bytes())
    # optimize=2 leaves docstrings and assertions out.
    code = compile(source, name, "exec", dont_inherit=True, optimize=2)
    names = {used for part in _parts(code) for used in part.co_names}
    parents = names & _modules().keys()
    imported = parents | {f"{parent}.{used}" for parent in parents for used in names} & _modules().keys()
    return _digest(repr([_meaning(part) for part in _parts(code)])), tuple(sorted(imported))


def _parts(code: CodeType) -> Iterator[CodeType]:
    """Give a code object and every function, class and comprehension inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _parts(constant)


def _meaning(code: CodeType) -> tuple[object, ...]:
    """Return what decides what the code does, without line numbers and file name."""
    return (
        code.co_qualname,
        code.co_code,
        code.co_exceptiontable,
        [_constant(value) for value in code.co_consts],
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
    found = {}
    for path in (_ROOT / _PACKAGE).rglob("*.py"):
        parts = path.relative_to(_ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
