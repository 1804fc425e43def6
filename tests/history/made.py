"""Small stores with a real history: chains that are published, and taken over where nothing has changed."""

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

from streetvision_core.io import (
    Artifact,
    ArtifactStore,
    PrivateRecord,
    StepRun,
    describe_reuse,
    describe_step,
    json_bytes,
    json_digest,
)
from streetvision_core.io.claims import leave_claim, release
from streetvision_core.io.describe import step_key
from streetvision_core.io.private import part_config

CHAIN = {
    "images": (),
    "splits": ("images",),
    "backbone": ("images", "splits"),
    "phase1_checkpoint": ("images", "splits", "backbone"),
    "gate": ("images", "splits", "phase1_checkpoint"),
    "val_calib_logits": ("images", "splits", "phase1_checkpoint"),
    "scrc": ("phase1_checkpoint", "val_calib_logits"),
    "thresholds": ("phase1_checkpoint", "val_calib_logits"),
    "evaluation": ("images", "splits", "phase1_checkpoint", "thresholds", "gate", "scrc"),
    "bundle": (
        "backbone", "evaluation", "gate", "images", "phase1_checkpoint", "scrc", "splits", "thresholds",
        "val_calib_logits",
    ),
}  # fmt: skip
ROLES = {"backbone": ("train",), "phase1_checkpoint": ("train", "val_select"), "evaluation": ("val_test",)}
METRICS = {
    "images": {"pictures": 12},
    "phase1_checkpoint": {"val_mcc": 0.9375, "epochs_run": 7},
    "val_calib_logits": {"mcc": 0.25},
    "thresholds": {"val_calib_mcc": 0.75, "mcc": 0.75},
    "evaluation": {"mcc": 0.5},
}
MOMENT = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
CODE = "c0de"


def make(store, run_id, step, *, config=None, inputs=None, files=None, metrics=None, reuse=True, roles=None):
    """Publish a step as the graph does: take it over where its key is known, else write its files.

    Inputs are those of the same run, else what is current.
    """
    inputs = CHAIN[step] if inputs is None else inputs
    given = {name: _input(store, run_id, name) for name in inputs}
    config = {"demo": {"pictures": 12, "seed": 0}} if step == "images" and config is None else config or {}
    config, paths = part_config(config, declared=())
    versions = {name: artifact.manifest.data_version for name, artifact in given.items()}
    key = step_key(step=step, code_version=CODE, config_hash=json_digest(config), inputs=versions)
    references = {name: artifact.reference for name, artifact in given.items()}
    directory = store.stage(run_id, step)
    lineage = _lineage(given) if step == "bundle" else {}
    origin = store.take_over(directory, step_key=key) if reuse else None
    if origin is not None:
        outputs = {**origin.content, **store.write(directory, Artifact(lineage))}
        manifest = describe_reuse(
            origin.manifest,
            manifest_sha256=origin.manifest_sha256,
            run_id=run_id,
            dagster_run_id=f"{run_id}-dagster",
            inputs=references,
            outputs=outputs,
        )
        return _publish(store, directory, manifest)
    files = {"content.json": json_bytes([step, config, versions]), **lineage} if files is None else files
    manifest = describe_step(
        StepRun(
            step_name=step,
            run_id=run_id,
            dagster_run_id=f"{run_id}-dagster",
            code_version=CODE,
            config=config,
            inputs=references,
            roles=ROLES.get(step, ()) if roles is None else roles,
            outputs=store.write(directory, Artifact(files)),
            metrics=METRICS.get(step, {}) if metrics is None else metrics,
            started=MOMENT,
            finished=MOMENT,
            seed=0,
            private_sha256=store.write_private(directory, PrivateRecord.of_this_machine(paths)),
        )
    )
    return _publish(store, directory, manifest)


def _lineage(given):
    sides = {
        f"lineage/private/{name}.json": artifact.private().to_bytes() for name, artifact in given.items()
    }
    return {
        **{f"lineage/{name}.json": artifact.manifest.to_bytes() for name, artifact in given.items()},
        **sides,
    }


def _publish(store, directory, manifest):
    published = store.publish(directory, manifest)
    release(directory.parent)  # this process lives on; for the store the run has ended
    return published


def leave(directory):
    """Release the claim of a staged directory but leave its file, as a kill does."""
    release(directory)
    leave_claim(directory)


def make_run(store, run_id, *, configs=None, steps=tuple(CHAIN)):
    """Make the steps of a run, with the configurations that are given."""
    return {step: make(store, run_id, step, config=(configs or {}).get(step)) for step in steps}


def _input(store, run_id, name):
    known = (store.directory(run_id, name) / "manifest.json").exists()
    return store.resolve(name, run_id=run_id if known else None)


def copy_store(store, root):
    """Copy a store; several names of one file stay names of one file."""
    copies = {}

    def copy(source, target):
        known = copies.setdefault(Path(source).stat().st_ino, target)
        return shutil.copy2(source, target) if known == target else os.link(known, target)

    shutil.copytree(store.root, root, copy_function=copy)
    return ArtifactStore(root)


def usage(root):
    """Return the bytes that the files below `root` take, each counted once however many names it has."""
    sizes = {}
    for path in root.rglob("*"):
        status = path.lstat()
        if not path.is_dir() or path.is_symlink():
            sizes[status.st_dev, status.st_ino] = status.st_size
    return sum(sizes.values())


def snapshot(root):
    """Return every name below `root` with its inode, size and modification time."""
    files = {}
    for path in root.rglob("*"):
        status = path.lstat()
        files[path.relative_to(root).as_posix()] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return files


def damage(path):
    """Change one byte in the middle of a file, as a new file: other names of the old one stay whole."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()
    path.write_bytes(data)
