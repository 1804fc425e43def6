"""Forgeries whose changes are carried up through all digests: only a contradiction gives them away."""

import json
import os
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pytest

from streetvision_core.bundle import load_bundle
from streetvision_core.errors import BundleError
from streetvision_core.graph import POLICIES, STEPS
from streetvision_core.io import (
    InputArtifact,
    OutputFile,
    StepManifest,
    bytes_digest,
    content_digest,
    json_bytes,
    json_digest,
    step_key,
)
from streetvision_core.io.published import PROVENANCE
from tests.bundle import independent
from tests.bundle.chain import names_in, provenance_of, write_manifest

# What a bundle ships byte for byte, and where it was published.
ORIGINS = {
    "config.json": ("phase1_checkpoint", "config.json"),
    "tensors.json": ("phase1_checkpoint", "tensors.json"),
    "splits.json": ("splits", "splits.json"),
    "evaluation.json": ("evaluation", "evaluation.json"),
    "conditions.json": ("conditions", "conditions.json"),
    "drift.json": ("val_calib_logits", "drift.json"),
    **{kind.path: (kind.step, kind.file) for kind in POLICIES.values()},
}
_STEP_OF_FILE = {kind.step: kind for kind in POLICIES.values()}


def refused(path, match):
    """Expect a refusal, and match what was expected and found; the path has no part in the match."""
    with pytest.raises(BundleError) as caught:
        load_bundle(path)
    assert re.search(match, f"{caught.value.expected}, but found {caught.value.found}"), caught.value
    return str(caught.value)


def refuse_forgery(bundle, forge, match, target):
    """Forge a bundle into a folder: both verifiers refuse it, ours by name."""
    forger = Forger(bundle)
    forge(forger)
    forged = forger.write(target)
    refused(forged, match)
    assert independent.verify(forged)


@dataclass
class Forger:
    """The files of a bundle, each of which can be changed; `write` makes every digest fit again.

    `json` gives the content of a record to be changed in place. `twists` change manifests, by step, after
    what follows from the rest of them was computed again, "bundle" that of the bundle itself.
    """

    bundle: Path
    twists: dict = field(default_factory=dict)

    @cached_property
    def originals(self):
        return {name: (self.bundle / name).read_bytes() for name in names_in(self.bundle)}

    @cached_property
    def files(self):
        return dict(self.originals)

    @cached_property
    def contents(self):
        return {}

    def json(self, name):
        return self.contents.setdefault(name, json.loads(self.files[name]))

    def lineage(self, step):
        return self.json(f"lineage/{step}.json")

    @property
    def steps(self):
        return [step for step in STEPS if f"lineage/{step}.json" in self.files]

    def write(self, target):
        """Write the bundle with everything that follows from the changes."""
        for step in self.steps:
            self._settle(step)
        self._settle_record()
        self._settle_provenance()
        self._settle_manifest("bundle", self.json("manifest.json"))
        for name, data in self.files.items():
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if self.originals.get(name) == data:
                os.link(self.bundle / name, path)
            else:
                path.write_bytes(data)
        return target

    def _settle(self, step):
        kind = _STEP_OF_FILE.get(step)
        if kind is not None:
            self._fit(kind)
        manifest = self.lineage(step)
        for name, (origin, published) in ORIGINS.items():
            if origin == step and name in self.files:
                self._list(manifest, published, self._encode(name))
        if kind is not None and kind.path not in self.files and "evaluation.json" in self.files:
            policies = self.json("evaluation.json")["policies"]
            judged = [
                entry["policy"] for entry in policies.values() if POLICIES[entry["policy"]["type"]] is kind
            ]
            for policy in judged:
                self._list(manifest, kind.file, json_bytes(policy))
        self._settle_manifest(step, manifest)

    def _fit(self, kind):
        """Name what a policy was fitted on as it is now, wherever the policy stands."""
        holders = [self.json(kind.path)] if kind.path in self.files else []
        if "evaluation.json" in self.files:
            policies = self.json("evaluation.json")["policies"].values()
            holders += [entry["policy"] for entry in policies if POLICIES[entry["policy"]["type"]] is kind]
        for policy in holders:
            for step, claimed in policy["fitted_on"].items():
                if claimed == json.loads(self.originals[f"lineage/{step}.json"])["data_version"]:
                    policy["fitted_on"][step] = self.lineage(step)["data_version"]

    def _list(self, manifest, name, data):
        manifest["output_artifacts"][name] = {"sha256": bytes_digest(data), "size_bytes": len(data)}

    def _settle_manifest(self, step, manifest):
        for name, given in manifest["input_artifacts"].items():
            if f"lineage/{name}.json" in self.files:
                given["data_version"] = self.lineage(name)["data_version"]
                given["manifest_sha256"] = bytes_digest(self.files[f"lineage/{name}.json"])
        if step == "bundle":
            for name in self.files.keys() - {"manifest.json", "private.json"}:
                self._list(manifest, name, self.files[name])
        outputs = {name: file["sha256"] for name, file in manifest["output_artifacts"].items()}
        manifest["data_version"] = content_digest(outputs)
        manifest["config_hash"] = json_digest(manifest["config"])
        manifest["step_key"] = step_key(
            step=manifest["step_name"],
            code_version=manifest["code_version"],
            config_hash=manifest["config_hash"],
            inputs={name: given["data_version"] for name, given in manifest["input_artifacts"].items()},
        )
        self.twists.get(step, lambda _: None)(manifest)
        name = "manifest.json" if step == "bundle" else f"lineage/{step}.json"
        rest = {key: value for key, value in manifest.items() if key != "manifest_digest"}
        self.files[name] = json_bytes({**rest, "manifest_digest": json_digest(rest)})

    def _settle_provenance(self):
        if PROVENANCE in self.contents:
            self._encode(PROVENANCE)
        elif PROVENANCE in self.files:
            listed = self.files.keys() - {"manifest.json", "private.json"}
            self.files[PROVENANCE] = provenance_of({name: self.files[name] for name in sorted(listed)})

    def _settle_record(self):
        for name in self.contents.keys() - {"manifest.json", "bundle.json"}:
            if not name.startswith("lineage/"):
                self._encode(name)
        record = self.json("bundle.json")
        for name in record["checksums"]:
            if record["checksums"][name] == bytes_digest(self.originals[name]):
                record["checksums"][name] = bytes_digest(self.files[name])
        self._encode("bundle.json")

    def _encode(self, name):
        if name in self.contents:
            self.files[name] = spelled(self.contents[name])
        return self.files[name]


def spelled(value):
    """Return canonical JSON, and what looks like it of numbers that JSON does not have."""
    return json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False).encode() + b"\n"


def forge_part(bundle, target, name, change):
    """Change a part and carry it through its step's manifest and bundle.json up to the top."""
    return forge_parts(bundle, target, {name: change})


def forge_parts(bundle, target, changes, *, record_change=None):
    """Change parts, each by its own function, and bundle.json, and make every digest fit again."""
    forger = Forger(bundle)
    for name, change in changes.items():
        content = forger.json(name)
        change(content)
        if name == "config.json":
            forger.json("bundle.json")["architecture"] = content["architecture"]
            forger.json("bundle.json")["preprocessing"] = content["pretrained_cfg"]
    if record_change is not None:
        record_change(forger.json("bundle.json"))
    return forger.write(target)


def carry_origin(folder, step, name, data):
    """Rewrite a step's manifest in lineage/ so that it published `data`, its data version kept."""
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
        if path.name == "provenance.json":
            continue
        manifest = StepManifest.load(path)
        inputs[path.stem] = InputArtifact(
            data_version=manifest.data_version, run_id=manifest.run_id,
            manifest_sha256=bytes_digest(path.read_bytes()),
        )  # fmt: skip
    names = {*top.output_artifacts, *(f"lineage/{step}.json" for step in inputs)}
    kept = [name for name in names if (folder / name).exists()]
    write_manifest(folder, top.model_copy(update={"input_artifacts": inputs}), names=kept)
