"""Dependencies point one way, and no folder is a hall: the layout of the tree, read from its source."""

from __future__ import annotations

import ast
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = "streetvision_core"
# From the ground up: a room may import rooms of lower floors.
FLOORS = (
    {"escape", "errors", "graph", "recorded"},
    {"io", "eval", "demo"},
    {"data", "models"},
    {"inference"},
    {"policies", "training"},
    {"report"},
    {"bundle", "history"},
    {"commands"},
    {"cli"},
)
# What a room may import of its own floor.
NEIGHBOURS = {("errors", "escape"), ("eval", "io"), ("models", "data")}
# Statistics know nothing of the store: what they may use of `io` are records, and how these are written.
_RECORDS = ("PublishedArtifact", "csv_bytes", "json_bytes", "read_csv", "records.Record")
RECORDS = {f"{CORE}.io.{name}" for name in _RECORDS}
HALL = 18


def imports(source: str) -> set[str]:
    """Return every module that a source names in an import, wherever it stands, the type checker's too."""
    nodes = list(ast.walk(ast.parse(source)))
    plain = (alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names)
    names = (
        f"{node.module}.{alias.name}"
        for node in nodes
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    )
    return set(chain(plain, names))


def room(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == CORE and len(parts) > 1 else None


def floor(name: str) -> int:
    (level,) = (level for level, rooms in enumerate(FLOORS) if name in rooms)
    return level


def wrong_arrows(own: str, source: str) -> list[str]:
    """Return the imports of a module in the room `own` that point up, or to a room beside it."""
    wrong = []
    for module in sorted(imports(source)):
        other = room(module)
        if (
            module.split(".")[0] in {"streetvision_assets", "dagster"}
            or (other not in {None, own} and other not in _below(own))
            or (own == "eval" and other == "io" and module not in RECORDS)
        ):
            wrong.append(module)
    return wrong


def _below(own: str) -> set[str]:
    lower = set().union(*FLOORS[: floor(own)])
    return lower | {other for layer, other in NEIGHBOURS if layer == own}


def modules() -> list[tuple[str, Path]]:
    return [(_room_of(path), path) for path in sorted((ROOT / CORE).rglob("*.py"))]


def _room_of(path: Path) -> str:
    parts = path.relative_to(ROOT / CORE).with_suffix("").parts
    return parts[0]


def test_every_room_has_a_floor():
    rooms = {name for name, _ in modules()} - {"__init__"}
    assert rooms == set().union(*FLOORS)


def test_no_import_points_up():
    wrong = {
        str(path.relative_to(ROOT)): arrows
        for name, path in modules()
        if name != "__init__" and (arrows := wrong_arrows(name, path.read_text()))
    }
    assert wrong == {}


@pytest.mark.parametrize(
    ("own", "source"),
    [
        ("models", "from streetvision_core.inference.predict import BATCH_SIZE"),
        ("inference", "def f():\n    from streetvision_core.bundle import load_bundle"),
        ("demo", "if TYPE_CHECKING:\n    from streetvision_core.data.config import DemoConfig"),
        ("policies", "from streetvision_core.training import fit"),
        ("bundle", "from streetvision_core import history"),
        ("eval", "from streetvision_core.io import ArtifactStore"),
        ("io", "import streetvision_core.eval.metrics"),
        ("report", "from streetvision_assets.step import Step"),
    ],
)
def test_an_import_that_points_up_is_seen_wherever_it_stands(own, source):
    assert wrong_arrows(own, source)


def test_no_folder_holds_more_modules_than_one_can_survey():
    folders = {path.parent for top in (CORE, "streetvision_assets") for path in (ROOT / top).rglob("*.py")}
    sizes = {
        str(folder.relative_to(ROOT)): len(set(folder.glob("*.py")) - {folder / "__init__.py"})
        for folder in folders
    }
    assert {name: size for name, size in sizes.items() if size > HALL} == {}


def test_rooms_are_entered_by_the_door_of_the_drawn_images():
    """Other rooms import what `demo/__init__` names, and none of its modules."""
    inside = [
        f"{path.name}: {module}"
        for name, path in modules()
        if name != "demo"
        for module in imports(path.read_text())
        if module.startswith(f"{CORE}.demo.") and module.count(".") > 2
    ]
    assert inside == []
