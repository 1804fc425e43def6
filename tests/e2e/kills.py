"""What is looked at in a store after its run was killed, or finished."""

from streetvision_core.errors import MissingArtifactError
from streetvision_core.history.scan import all_places
from streetvision_core.io import read_artifact
from tests.assets.graph import STEPS


def digests(store):
    return {step: store.resolve(step).manifest.data_version for step in STEPS}


def told(root):
    return "\n".join(path.read_text() for path in root.glob("*.log"))


def faults(store):
    """Everything in the store that is published and not whole, and every pointer that leads nowhere."""
    found = []
    for manifest in store.root.glob("runs/*/*/manifest.json"):
        found += read_artifact(manifest.parent).problems()
    for pointer in [*store.root.glob("latest/[!.]*"), *store.root.glob("keys/*/[!.]*")]:
        try:
            store._follow(pointer)
        except MissingArtifactError as error:
            found.append(str(error))
    return found


def leftovers(store):
    """What no finished run leaves: temporary files, claims, half-made steps, and progress that is done."""
    patterns = ("**/*.partial", "runs/*/.*.claim", "resume/*/*/*")
    half_made = [
        place.path for places in all_places(store.root).values() for place in places if not place.published
    ]
    return [*half_made, *(path for pattern in patterns for path in store.root.glob(pattern))]
