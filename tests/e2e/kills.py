"""Inspections of a store after its run was killed, or finished."""

import os
from pathlib import Path
from tempfile import mkstemp

from streetvision_core.errors import MissingArtifactError
from streetvision_core.history.scan import all_places
from streetvision_core.io import read_artifact
from tests.assets.graph import STEPS, Graph
from tests.zygote import Call, zygote


def start(root, pictures, **changes):
    """Start a run of the real job in a process of its own and return its process id."""
    root.mkdir(exist_ok=True)
    handle, log = mkstemp(suffix=".log", dir=root)
    os.close(handle)
    arguments = [str(root), str(pictures), changes]
    return zygote().start(Call("tests.e2e.kills:materialize", arguments, output=log, errors=log))


def run(root, pictures, **changes):
    return zygote().wait(start(root, pictures, **changes))


def materialize(root, pictures, changes):
    """Execute the job in the forked process."""
    graph = Graph(Path(root))
    return 0 if graph.materialize(Path(pictures), **changes).success else 1


def digests(store):
    return {step: store.resolve(step).manifest.data_version for step in STEPS}


def logs_of(root):
    return "\n".join(path.read_text() for path in root.glob("*.log"))


def faults(store):
    """Everything in the store that is published and not whole, and every pointer that leads nowhere."""
    problems = []
    for manifest in store.root.glob("runs/*/*/manifest.json"):
        problems += read_artifact(manifest.parent).problems()
    for pointer in [*store.root.glob("latest/[!.]*"), *store.root.glob("keys/*/[!.]*")]:
        try:
            store._follow(pointer)
        except MissingArtifactError as error:
            problems.append(str(error))
    return problems


def leftovers(store):
    """Leftovers of an unfinished run: temporary files, claims, half-made steps, and progress that is done."""
    patterns = ("**/*.partial", "runs/*/.*.claim", "resume/*/*/*")
    half_made = [
        place.path for places in all_places(store.root).values() for place in places if not place.published
    ]
    return [*half_made, *(path for pattern in patterns for path in store.root.glob(pattern))]
