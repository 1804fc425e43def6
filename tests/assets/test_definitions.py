import json
import subprocess
import sys
from pathlib import Path

from streetvision_assets.definitions import defs
from streetvision_core.graph import STEPS

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


def test_the_assets_are_made_from_what_the_table_says():
    graph = defs.resolve_asset_graph()
    upstream = {
        key.path[-1]: {parent.path[-1] for parent in graph.get(key).parent_keys}
        for key in graph.get_all_asset_keys()
    }
    assert upstream == {name: {*step.inputs, *step.added, *step.optional} for name, step in STEPS.items()}


def test_definitions_load_without_the_heavy_libraries():
    heavy = ("torch", "torchvision", "timm", "lightning", "sklearn", "scipy", "matplotlib", "pyarrow")
    code = f"import streetvision_assets.definitions, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


if __name__ == "__main__":
    print(json.dumps(describe_graph(), indent=1))
