import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import streetvision_core
from streetvision_assets.definitions import defs

CORE = Path(streetvision_core.__file__).parent
SNAPSHOT = Path(__file__).with_name("graph_snapshot.json")


def describe_graph():
    """Everything of the graph that a person or another program depends on."""
    graph = defs.resolve_asset_graph()
    assets = {
        key.path[-1]: {
            "group": graph.get(key).group_name,
            "kinds": sorted(graph.get(key).kinds),
            "phase": graph.get(key).tags.get("phase"),
            "owners": list(graph.get(key).owners),
            "described": bool(graph.get(key).description),
            "upstream": sorted(parent.path[-1] for parent in graph.get(key).parent_keys),
            "code_reference": "dagster/code_references" in graph.get(key).metadata,
        }
        for key in sorted(graph.get_all_asset_keys())
    }
    checks = {
        f"{key.asset_key.path[-1]}:{key.name}": "blocking"
        if graph.get_check_spec(key).blocking
        else "not blocking"
        for key in sorted(graph.asset_check_keys, key=str)
    }
    jobs = sorted(job.name for job in defs.resolve_all_job_defs() if not job.name.startswith("__"))
    return {"assets": assets, "checks": checks, "jobs": jobs}


def test_the_graph_is_the_one_we_promised():
    # When it changes on purpose: python -m tests.assets.test_definitions > tests/assets/graph_snapshot.json
    assert describe_graph() == json.loads(SNAPSHOT.read_text())


def test_definitions_load_without_the_heavy_libraries():
    heavy = ("torch", "torchvision", "timm", "lightning", "sklearn", "scipy", "matplotlib", "pyarrow")
    code = f"import streetvision_assets.definitions, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


# Of one height: models, data and eval lie side by side below training.
HEIGHT = {
    "escape": 0, "errors": 0, "io": 1, "eval": 2, "data": 2, "models": 2,
    "training": 3, "bundle": 4, "history": 5, "cli": 6,
}  # fmt: skip


def imports_of(path):
    """Every import of a file, those inside functions and for the type checker included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("path", sorted(CORE.rglob("*.py")), ids=lambda path: str(path.relative_to(CORE)))
def test_dependencies_point_one_way(path):
    """The core knows nothing of Dagster or the graph, and nothing in it looks up."""
    here = HEIGHT.get(path.relative_to(CORE).with_suffix("").parts[0], 9)
    for module in imports_of(path):
        top, _, rest = module.partition(".")
        assert top not in ("dagster", "streetvision_assets"), module
        if top == "streetvision_core" and rest:
            assert HEIGHT[rest.partition(".")[0]] <= here, module


if __name__ == "__main__":
    print(json.dumps(describe_graph(), indent=1))
