"""Work while something fails: each scenario writes the content of a label, "old", "new" or "next".

The functions run in the processes of worker.py. `label_in` is the judge: it says which label a
directory holds, whole, and fails if it holds anything else.
"""

import errno
import os
from unittest import mock

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save, save_file

from streetvision_core.history.champion import find_champion, move_champion, read_champion
from streetvision_core.io import (
    Artifact,
    ArtifactStore,
    StagedFile,
    StepManifest,
    read_artifact,
    tensors_bytes,
)
from streetvision_core.io.atomic import atomic_file, link_file_durably, sweep_partials, write_file_atomic
from streetvision_core.io.writers import write_tensors_atomic

NUMBERS = {"old": 1.0, "new": 2.0, "next": 3.0}
CONTENT = b"linked" * 5000
# Describing a step asks git; a template spares that.
MANIFEST_TEMPLATE = "FAULTS_MANIFEST"


def tensors(label):
    return {"x": np.full(5000, NUMBERS[label]), "y": np.arange(3)}


def write_file(root, label):
    write_file_atomic(root / "file", label.encode() * 5000)


def write_tensors(root, label):
    write_tensors_atomic(root / "file", tensors(label))


def save_with_library(root, label):
    with atomic_file(root / "file", failures=(SafetensorError,)) as target:
        save_file(tensors(label), target.temporary)


def link(root, label):
    if label == "old":
        write_file_atomic(root / "source", CONTENT)
    link_file_durably(root / "source", root / label)


def copy(root, label):
    """Like `link`, where the file system has no hard links."""
    with mock.patch("os.link", side_effect=OSError(errno.EPERM, "no links here")):
        link(root, label)


def publish(root, label):
    store = ArtifactStore(root / "store")
    directory = store.stage(label, "images")
    path = directory / "sub" / "model.safetensors"
    staged = StagedFile.at(path, write_tensors_atomic(path, tensors(label)))
    artifact = Artifact({"index.csv": label.encode() * 500, "sub/model.safetensors": staged})
    outputs = store.write(directory, artifact)
    changes = {"run_id": label, "output_artifacts": outputs, "data_version": artifact.digest}
    store.publish(directory, template().model_copy(update=changes))


def reuse(root, label):
    """Publish the content of "old" again, by other runs."""
    if label == "old":
        return publish(root, label)
    store = ArtifactStore(root / "store")
    directory = store.stage(label, "images")
    origin = store.take_over(directory, step_key=template().step_key)
    return store.publish(directory, origin.manifest.model_copy(update={"run_id": label}))


def promote(root, label):
    """Move the champion from "old" to "new"; both were published before."""
    store = ArtifactStore(root / "store")
    if label == "old":
        for name in NUMBERS:
            artifact = Artifact({"bundle.json": name.encode() * 500})
            outputs = store.write(store.stage(name, "bundle"), artifact)
            identity = {"run_id": name, "step_name": "bundle", "data_version": artifact.digest}
            manifest = template().model_copy(update={**identity, "output_artifacts": outputs})
            store.publish(store.directory(name, "bundle"), manifest)
    challenger = store.resolve("bundle", run_id=label)
    assert move_champion(store, challenger, beaten=read_champion(store))


def template():
    return StepManifest.from_bytes(os.environb[MANIFEST_TEMPLATE.encode()], where="the environment")


def file_in(root, scenario):
    """Return the label of the file that a writer wrote."""
    content = (root / "file").read_bytes()
    for label in NUMBERS:
        expected = {
            "write_file": label.encode() * 5000,
            "write_tensors": tensors_bytes(tensors(label)),
            "save_with_library": save(tensors(label)),
        }[scenario]
        if content == expected:
            return label
    raise AssertionError(f"a torn file of {len(content)} bytes")


def link_in(root, scenario):
    """Return the newest label that has its link; each one that is there must be whole."""
    there = [label for label in NUMBERS if (root / label).exists()]
    for label in there:
        assert (root / label).read_bytes() == CONTENT, f"a torn {scenario} {label}"
    return there[-1]


def artifact_in(root, scenario):
    """Return the label of the current artifact; whatever has a manifest must be whole."""
    store = ArtifactStore(root / "store")
    for manifest in sorted(store.root.glob("runs/*/images/manifest.json")):
        assert (problems := read_artifact(manifest.parent).problems()) == [], problems
    current = store.resolve("images")
    content = "old" if scenario == "reuse" else current.manifest.run_id
    assert current.read_bytes("index.csv") == content.encode() * 500
    return current.manifest.run_id


def champion_in(root, _scenario):
    """Return the label of the champion, which must be whole."""
    champion = find_champion(ArtifactStore(root / "store"))
    assert champion.problems() == []
    return champion.manifest.run_id


WRITERS = {
    "write_file": write_file,
    "write_tensors": write_tensors,
    "save_with_library": save_with_library,
    "link": link,
    "copy": copy,
    "publish": publish,
    "reuse": reuse,
    "promote": promote,
}
JUDGES = {
    "link": link_in,
    "copy": link_in,
    "publish": artifact_in,
    "reuse": artifact_in,
    "promote": champion_in,
}


def label_in(root, scenario):
    """Return the label that `scenario` has left in `root`; anything not whole is an error."""
    return JUDGES.get(scenario, file_in)(root, scenario)


def partials_in(root):
    return sorted(path.name for path in root.rglob(".*") if path.name.endswith(".partial"))


def run(root, scenario, label):
    """Do what a run does: clear what a killed one left, then write. Only the store clears by itself."""
    if scenario not in {"publish", "reuse"}:
        sweep_partials(root)
    WRITERS[scenario](root, label)
