"""The size of the house: lines of code a room, modules a folder, settings, and functions that are too long.

A line of code is one that is neither blank, nor comment, nor docstring. A leaf is a place in the launchpad
that takes a value, in whichever kind of a choice. A setting is what a reader has to learn: a name in a step,
once, though several kinds of one choice have it (`path` of each source of images); and each choice itself.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _common import print_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("streetvision_core", "streetvision_assets")
PARAMETERS, LINES, MODULES = 8, 60, 18
RIDDLES = ("What", "How", "Whether")
# What a line holds besides code.
LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """A module of the packages, read once."""

    path: Path
    text: str

    @property
    def folder(self) -> str:
        return self.path.parent.relative_to(ROOT).as_posix()

    @property
    def room(self) -> str:
        """The folder right below its package, or the package itself."""
        return "/".join(self.path.relative_to(ROOT).parts[:-1][:2])

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def code_lines(self) -> set[int]:
        """The numbers of its lines of code."""
        lines: set[int] = set()
        for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
            if token.type not in LAYOUT:
                lines.update(range(token.start[0], token.end[0] + 1))
        for _, string in self.docstrings():
            lines -= set(range(string.lineno, (string.end_lineno or string.lineno) + 1))
        return lines

    def docstrings(self) -> Iterator[tuple[str, ast.Constant]]:
        """Yield each docstring with where it stands."""
        for node in ast.walk(self.tree):
            if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
                statement = node.body[0]
                assert isinstance(statement, ast.Expr)
                assert isinstance(statement.value, ast.Constant)
                yield f"{self.path.relative_to(ROOT)}:{statement.lineno}", statement.value

    def functions(self) -> Iterator[Function]:
        return (node for node in ast.walk(self.tree) if isinstance(node, Function))


def read_modules() -> list[Module]:
    paths = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return [Module(path, path.read_text(encoding="utf-8")) for path in paths]


def parameters(function: Function) -> int:
    """Count the parameters of a function, `self` and `cls` left out."""
    given = function.args
    named = [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return (
        len([name for name in named if name not in {"self", "cls"}]) + bool(given.vararg) + bool(given.kwarg)
    )


def length(function: Function, code: set[int]) -> int:
    """Count the lines of code from the `def` to the end."""
    return len(code.intersection(range(function.lineno, (function.end_lineno or 0) + 1)))


def offered() -> dict[str, list[str]]:
    """Return the places that each step, and each resource, offers in the launchpad, as dotted paths."""
    from streetvision_assets.definitions import defs

    repository = defs.get_repository_def()
    steps = {key.to_user_string(): asset.op for key, asset in repository.assets_defs_by_key.items()}
    takers: dict[str, Any] = {**steps, **repository.get_top_level_resources()}
    return {name: list(places(taker.config_schema.config_type)) for name, taker in sorted(takers.items())}


def places(kind: Any, path: str = "") -> Iterator[str]:
    """Yield the path of each leaf and, with a colon at its end, of each choice in a configuration type.

    A list or a map is one leaf.
    """
    inner = getattr(kind, "inner_type", None)
    if getattr(kind, "fields", None) is not None:
        if kind.kind.name == "SELECTOR":
            yield f"{path}:"
        for name, field in kind.fields.items():
            yield from places(field.config_type, f"{path}.{name}".lstrip("."))
    elif inner is not None and kind.kind.name == "NONEABLE":
        yield from places(inner, path)
    else:
        yield path


def settings_table() -> list[list[object]]:
    """Count leaves and settings of each step; the source of images is a choice as well."""
    rows: list[list[object]] = []
    for name, paths in offered().items():
        leaves = [path for path in paths if not path.endswith(":")]
        names = {path.rpartition(".")[2] for path in paths}
        rows.append([name, len(leaves), len(names) + (name == "images")])
    return [*rows, ["total", *(sum(int(str(row[at])) for row in rows) for at in (1, 2))]]


def by_room(modules: Sequence[Module]) -> list[list[object]]:
    lines, files = Counter[str](), Counter[str]()
    for module in modules:
        for name in {module.room, module.room.split("/")[0] + " in all", "total"}:
            lines[name] += len(module.code_lines)
            files[name] += 1
    return [
        [name, files[name], lines[name]] for name in sorted(lines, key=lambda name: (name == "total", name))
    ]


def functions_table(modules: Sequence[Module]) -> list[list[object]]:
    """Return the functions beyond a limit, and the longest one."""
    measured = [
        (length(function, code), parameters(function), f"{module.path.relative_to(ROOT)}:{function.name}")
        for module in modules
        for code in [module.code_lines]
        for function in module.functions()
    ]
    beyond = [row for row in measured if row[0] > LINES or row[1] > PARAMETERS]
    return [[name, lines, count] for lines, count, name in sorted({*beyond, max(measured)}, reverse=True)]


def main() -> None:
    modules = read_modules()
    folders = Counter(module.folder for module in modules)
    riddles = [
        where
        for module in modules
        for where, string in module.docstrings()
        if str(string.value).split(maxsplit=1)[0] in RIDDLES
    ]
    print_table("Code", columns=["room", "modules", "lines of code"], rows=by_room(modules))
    print_table(
        f"Modules a folder, at most about {MODULES}",
        columns=["folder", "modules"],
        rows=[[name, count] for name, count in folders.most_common() if count > MODULES // 2],
    )
    print_table(
        "Settings that the launchpad offers",
        columns=["step", "leaves", "settings"],
        rows=settings_table(),
    )
    print_table(
        f"Functions with more than {PARAMETERS} parameters or {LINES} lines, and the longest one",
        columns=["function", "lines of code", "parameters"],
        rows=functions_table(modules),
    )
    print_table(
        f"Docstrings that open with {', '.join(RIDDLES)}",
        columns=["docstring"],
        rows=[*([where] for where in riddles), [f"{len(riddles)} in all"]],
    )


if __name__ == "__main__":
    main()
