"""How somebody forges who carries every change up through all digests: only what is said gives it away."""

import json
import re

import pytest

from streetvision_core.bundle import load_bundle
from streetvision_core.errors import BundleError
from streetvision_core.graph import POLICIES
from streetvision_core.io import InputArtifact, OutputFile, StepManifest, bytes_digest
from tests.bundle.chain import copy, write_manifest

# What a bundle ships byte for byte, and where it was published.
ORIGINS = {
    "config.json": ("phase1_checkpoint", "config.json"),
    "splits.json": ("splits", "splits.json"),
    "evaluation.json": ("evaluation", "evaluation.json"),
    **{kind.path: (kind.step, kind.file) for kind in POLICIES.values()},
}


def refused(path, match):
    """The bundle is refused, and what was expected and found says why; the path has no part in the match."""
    with pytest.raises(BundleError) as caught:
        load_bundle(path)
    assert re.search(match, f"{caught.value.expected}, but found {caught.value.found}"), caught.value
    return str(caught.value)


def forge_part(bundle, target, name, change):
    """Change a part and carry it through its step's manifest and bundle.json up to the top."""
    return forge_parts(bundle, target, {name: change})


def forge_parts(bundle, target, changes, *, record_change=None):
    """Change parts, each by its own function, and bundle.json, and make every digest fit again."""
    copy(bundle, target)
    record = json.loads((bundle / "bundle.json").read_bytes())
    for name, change in changes.items():
        content = json.loads((bundle / name).read_bytes())
        change(content)
        data = json.dumps(content).encode()
        if name == "config.json":
            record["architecture"] = content["architecture"]
            record["preprocessing"] = content["pretrained_cfg"]
        record["checksums"][name] = bytes_digest(data)
        (target / name).write_bytes(data)
        step, published = ORIGINS[name]
        carry_origin(target, step, published, data)
    if record_change is not None:
        record_change(record)
    text = json.dumps(record, sort_keys=True, indent=1, ensure_ascii=False)
    (target / "bundle.json").write_bytes(text.encode() + b"\n")
    pin_lineage(target)
    return target


def carry_origin(folder, step, name, data):
    """Rewrite a step's manifest in lineage/ so that it published ``data``, its data version kept."""
    path = folder / f"lineage/{step}.json"
    manifest = StepManifest.load(path)
    entry = OutputFile(sha256=bytes_digest(data), size_bytes=len(data))
    outputs = {**manifest.output_artifacts, name: entry}
    path.write_bytes(manifest.model_copy(update={"output_artifacts": outputs}).to_bytes())


def pin_lineage(folder):
    """Make the bundle's manifest name the manifests in lineage/ as they are now."""
    top = StepManifest.load(folder / "manifest.json")
    inputs = {}
    for path in (folder / "lineage").glob("*.json"):
        manifest = StepManifest.load(path)
        inputs[path.stem] = InputArtifact(
            data_version=manifest.data_version, run_id=manifest.run_id,
            manifest_sha256=bytes_digest(path.read_bytes()),
        )  # fmt: skip
    names = {*top.output_artifacts, *(f"lineage/{step}.json" for step in inputs)}
    kept = [name for name in names if (folder / name).exists()]
    write_manifest(folder, top.model_copy(update={"input_artifacts": inputs}), names=kept)
