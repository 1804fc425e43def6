"""The loading of a bundle, which first verifies everything about it from its folder alone.

1. Every file is there in the bytes that the manifest lists, and nothing besides (`folder.py`).
2. `bundle.json` says the same of them as the manifest.
3. The manifests in `lineage/` are those that the bundle's manifest names by SHA-256, and they form one
   chain from the policy to the images (`lineage.py`); what is shipped byte for byte has the digest under
   which its step published it. Each side file belongs to its manifest; a redacted bundle has none, and no
   manifest in it names a machine.
4. There is exactly one policy; it was fitted on this chain, its numbers are the operating point, and a
   degenerate one is called so. Where it was evaluated, the evaluation is of this policy and all of val_test.
5. The golden images are images of val_test, and those that are listed (`golden.py`).
6. Values that are recorded twice are equal, and values that follow from others are computed again
   (`consequences.py`).
7. The weights fill the architecture with finite numbers (`weights.py`).

Everything is judged, and loaded, from the bytes that were hashed in the first step. It detects damage,
mixed parts and careless tampering; who can rewrite every file can also make all of them agree, so a bundle
from a stranger is compared by the SHA-256 of its manifest with what a trusted person says, or by a trusted
key's signature.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from streetvision_core import graph
from streetvision_core.bundle import layout
from streetvision_core.bundle.consequences import contradictions
from streetvision_core.bundle.folder import Contents, read_folder
from streetvision_core.bundle.golden import Expected, listing_problems
from streetvision_core.bundle.lineage import chain_problems
from streetvision_core.bundle.model_card import ModelCard
from streetvision_core.bundle.onnx.specification import OnnxRecord
from streetvision_core.bundle.weights import load_weights
from streetvision_core.data.conditions import Conditions
from streetvision_core.data.splits import BY_SHA256, NAMED, Splits
from streetvision_core.errors import BundleError, as_bundle_error
from streetvision_core.eval.use.drift import DRIFT_NAME, Reference
from streetvision_core.io import StepManifest, bytes_digest
from streetvision_core.io.names import MANIFEST_NAME
from streetvision_core.io.private import read_private
from streetvision_core.io.published import LINEAGE_PREFIX, PRIVATE_PREFIX, PROVENANCE
from streetvision_core.io.records import Record, parse_canonical, parse_unambiguous, read_record
from streetvision_core.io.system import open_regular
from streetvision_core.models.licences import TEXT_NAME
from streetvision_core.policies.registry import parse_policy
from streetvision_core.recorded import reworded
from streetvision_core.report.release import RELEASE_NAME, Release
from streetvision_core.report.report import PolicyReport, Report

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Mapping

    import torch

    from streetvision_core.eval.decisions import Policy
    from streetvision_core.io import PrivateRecord

_MOST_TOLD = 5
_R = TypeVar("_R", bound=Record)
_ACTION = "Do not use this bundle; take a whole copy of it, or export it again."


@dataclass(frozen=True)
class Records:
    """The content of the files of a bundle, but for the weights.

    `documents` is the decoded JSON of every record by its file name. `evaluation` is the whole report,
    `tested` that of the policy here, both None where the policy was shipped without one. `conditions` are
    those under which the operating point was tuned. `drift` is what new images are compared with, `release`
    the verdict by the release rules, `onnx` the record of `model.onnx`. Each is None where the bundle has
    none, as an older one may, `drift` also where nothing came from val_calib. `private` has the side files by
    step, none where the bundle is redacted.
    """

    contents: Contents
    documents: Mapping[str, Any]
    record: layout.BundleRecord
    config: Mapping[str, Any]
    card: ModelCard
    policy: Policy
    splits: Splits
    evaluation: Report | None
    tested: PolicyReport | None
    expected: Expected
    conditions: Conditions | None
    drift: Reference | None
    release: Release | None
    onnx: OnnxRecord | None
    lineage: Mapping[str, StepManifest]
    private: Mapping[str, PrivateRecord]


@dataclass(frozen=True)
class Bundle(Records):
    """A verified bundle; `model` is in eval mode."""

    model: torch.nn.Module

    @property
    def model_checkpoint(self) -> str:
        """The path of the weights, relative to the folder of the bundle."""
        return layout.WEIGHTS

    @property
    def policy_file(self) -> str:
        """The path of the policy, relative to the folder of the bundle."""
        return self.record.policy.path

    @property
    def splits_json(self) -> str:
        """The path of the roles of the images, relative to the folder of the bundle."""
        return layout.SPLITS

    @property
    def backbone_id(self) -> str:
        """The name of the backbone in timm."""
        return self.record.backbone_id or self.record.architecture

    @property
    def num_classes(self) -> int:
        """The number of classes that the model tells apart."""
        return len(self.record.label_names)

    @property
    def created_at(self) -> str:
        """The time at which the bundle was made, ISO 8601 in UTC."""
        return self.contents.manifest.finished_at


def load_bundle(
    bundle_path: str | os.PathLike[str],
    output_dir: str | os.PathLike[str] | None = None,
    *,
    manifest_sha256: str | None = None,
    key: str | os.PathLike[str] | None = None,
) -> Bundle:
    """Verify a bundle and return what was read from the verified bytes.

    Args:
        bundle_path: The folder of the bundle, or the path of its `bundle.json`.
        output_dir: The folder that the relative paths in `bundle.json` start from; by default the one that
            `bundle_path` names or lies in.
        manifest_sha256: The SHA-256 (hex) that its `manifest.json` must have, from somebody who is trusted.
            Only this, or a signature, says who made it.
        key: The path of the public key (PEM) of somebody who is trusted, who must have signed it.

    Raises:
        BundleError: the first thing that is wrong with it.
    """
    output = None if output_dir is None else Path(output_dir)
    read = partial(read_folder, manifest_sha256=manifest_sha256, key=key)
    contents = _read_contents(Path(bundle_path), output, read)
    records = _read_records(contents)
    where = str(contents.path)
    if problems := list(islice(contradictions(records), _MOST_TOLD)):
        _refuse("a bundle that does not contradict itself", "; ".join(problems), where)
    model = load_weights(contents.files[layout.WEIGHTS], config=records.config, where=where)
    return Bundle(**vars(records), model=model)


def _read_records(contents: Contents) -> Records:
    """Read every record but the weights, each of which must be sound and belong to the others."""
    where = str(contents.path)
    for name in layout.FIXED:
        if name not in contents.files:
            _refuse(f"{name} in a bundle", "none", where)
    record = layout.BundleRecord.from_bytes(contents.files[layout.RECORD], where=f"{where}/{layout.RECORD}")
    kind = _check_record(record, contents)
    documents = _read_documents(contents, record)
    lineage = _read_lineage(contents, kind)
    private = _read_private(contents, lineage, redacted=record.is_redacted)
    _check_origins(contents, lineage, kind, redacted=record.is_redacted)
    policy = _read_policy(record, contents, lineage)
    splits = _read_splits(contents)
    tested = splits.roles["val_test"]
    evaluation = _read_evaluation(contents, lineage, policy, tested=len(tested))
    own = evaluation.of(policy.type) if evaluation else None
    _check_degenerate(record, policy, own, where=where)
    expected = _read_golden(contents, tested)
    config = _json(contents, layout.CONFIG)
    _check_config(config, record, where=where)
    card = _record(ModelCard, contents, layout.CARD)
    seen = _read_conditions(contents, evaluation)
    return Records(
        contents, documents, record, config, card, policy, splits, evaluation, own, expected, seen,
        _optional(Reference, contents, DRIFT_NAME),
        _optional(Release, contents, RELEASE_NAME),
        _optional(OnnxRecord, contents, layout.ONNX_RECORD),
        lineage, private,
    )  # fmt: skip


def _record(kind: type[_R], contents: Contents, name: str) -> _R:
    return read_record(kind, contents.files[name], where=f"{contents.path}/{name}")


def _optional(kind: type[_R], contents: Contents, name: str) -> _R | None:
    return _record(kind, contents, name) if name in contents.files else None


def _read_documents(contents: Contents, record: layout.BundleRecord) -> dict[str, Any]:
    """Decode every record, each in its canonical bytes; a missing lineage in `bundle.json` means "full"."""
    names = sorted(name for name in contents.files if name.endswith(".json"))
    documents = {
        name: parse_canonical(contents.files[name], where=f"{contents.path}/{name}") for name in names
    }
    documents[MANIFEST_NAME] = contents.manifest.model_dump(mode="json")
    documents[layout.RECORD] = {**documents[layout.RECORD], "lineage": record.lineage or "full"}
    return documents


def _read_contents(bundle_path: Path, output_dir: Path | None, read: Callable[[Path], Contents]) -> Contents:
    """Read the folder of a bundle; where its `bundle.json` was named, it must be the one in the folder."""
    if bundle_path.is_dir() or (output_dir is None and bundle_path.name != layout.RECORD):
        if output_dir is not None and output_dir.resolve() != bundle_path.resolve():
            _refuse(f"the path of {layout.RECORD} beside an output_dir", "another folder", str(bundle_path))
        return read(bundle_path)
    folder = bundle_path.parent if output_dir is None else output_dir
    contents = read(folder)
    try:
        with open_regular(bundle_path) as file:
            data = file.read(len(contents.files.get(layout.RECORD, b"")) + 1)
    except OSError as error:
        raise BundleError(
            f"a {layout.RECORD} that can be read",
            f"the error '{error.strerror}'",
            bundle_path,
            "Check the path.",
        ) from error
    if data != contents.files.get(layout.RECORD):
        _refuse(f"the {layout.RECORD} of the bundle in {contents.path}", "another one", str(bundle_path))
    return contents


def _check_record(record: layout.BundleRecord, contents: Contents) -> graph.PolicyKind:
    where = f"{contents.path}/{layout.RECORD}"
    listed = {
        name: file.sha256
        for name, file in contents.manifest.output_artifacts.items()
        if name != layout.RECORD and not name.startswith(LINEAGE_PREFIX)
    }
    if record.checksums != listed:
        differing = sorted(dict(record.checksums.items() ^ listed.items()))
        _refuse("the checksums of the manifest", f"others for {', '.join(differing)}", where)
    kind = graph.POLICIES.get(record.policy.type)
    if kind is None:
        _refuse(f"a policy of {', '.join(graph.POLICIES)}", repr(record.policy.type), where)
    present = sorted(name for name in contents.files if name.startswith(graph.PolicyKind.PREFIX))
    if present != [kind.path] or record.policy.path != kind.path:
        _refuse(f"exactly one policy, in {kind.path}", ", ".join(present) or "none", where)
    return kind


def _read_lineage(contents: Contents, kind: graph.PolicyKind) -> dict[str, StepManifest]:
    """Read the upstream's manifests, each pinned by the bundle's manifest, and prove the chain."""
    where = f"{contents.path}/{LINEAGE_PREFIX}"
    inputs = contents.manifest.input_artifacts
    names = {name for name in contents.files if name.startswith(LINEAGE_PREFIX)}
    names -= {*_side_names(contents), PROVENANCE}
    if names != {f"{LINEAGE_PREFIX}{step}.json" for step in inputs}:
        found = f"{', '.join(sorted(names))} for the inputs {', '.join(sorted(inputs))}"
        _refuse("the manifest of every input of the bundle, and no other", found, where)
    manifests = {}
    for step, given in inputs.items():
        name = f"{LINEAGE_PREFIX}{step}.json"
        data = contents.files[name]
        if bytes_digest(data) != given.manifest_sha256:
            _refuse(f"the manifest of {step} that the bundle was made from", "another one", where)
        with as_bundle_error():
            manifests[step] = StepManifest.from_bytes(data, where=f"{contents.path}/{name}")
        if manifests[step].data_version != given.data_version:
            _refuse(f"{step} of data version {given.data_version}", manifests[step].data_version, where)
    problems = chain_problems(manifests, policy_step=kind.step)
    if problems:
        _refuse("parts of one chain", "; ".join(problems), where)
    return manifests


def _side_names(contents: Contents) -> set[str]:
    return {name for name in contents.files if name.startswith(PRIVATE_PREFIX)}


def _read_private(
    contents: Contents, lineage: Mapping[str, StepManifest], *, redacted: bool
) -> dict[str, PrivateRecord]:
    """Read the side files, each of which must belong to its manifest: all of them, or none if redacted."""
    where, own = str(contents.path), contents.manifest
    manifests = {**lineage, own.step_name: own}
    telling = sorted(step for step, manifest in manifests.items() if manifest.hostname is not None)
    if redacted and (telling or contents.private):
        found = f"machines and paths in the manifests of {', '.join(telling) or own.step_name}"
        _refuse("no machine and no path in a redacted bundle", found, where)
    named = [step for step in lineage if lineage[step].private_sha256 is not None and not redacted]
    if _side_names(contents) != {f"{PRIVATE_PREFIX}{step}.json" for step in named}:
        found = ", ".join(sorted(_side_names(contents))) or "none"
        _refuse(f"the side files of {', '.join(named) or 'no step'}, and no other", found, where)
    private = {own.step_name: contents.private} if contents.private else {}
    return private | {step: _parse_private(contents, lineage[step]) for step in named}


def _parse_private(contents: Contents, manifest: StepManifest) -> PrivateRecord:
    name = f"{PRIVATE_PREFIX}{manifest.step_name}.json"
    with as_bundle_error():
        return read_private(contents.files[name], manifest, where=f"{contents.path}/{name}")


def _check_origins(
    contents: Contents, lineage: Mapping[str, StepManifest], kind: graph.PolicyKind, *, redacted: bool
) -> None:
    """Prove that what is shipped byte for byte is what its step published."""
    origins = {
        layout.SPLITS: ("splits", BY_SHA256 if redacted else NAMED),
        layout.CONFIG: (graph.CHECKPOINT, "config.json"),
        kind.path: (kind.step, kind.file),
    }
    # Older versions of a step did not make these, and what was made is shipped.
    for name, step, always in (
        (layout.EVALUATION, graph.EVALUATION, True),
        (layout.CONDITIONS, graph.CONDITIONS, True),
        (layout.TENSORS, graph.CHECKPOINT, False),
        (DRIFT_NAME, graph.LOGITS, False),
        (TEXT_NAME, "backbone", False),
    ):
        made = step in lineage and (always or name in lineage[step].output_artifacts)
        if made or name in contents.files:
            origins[name] = (step, name)
    for name, (step, published) in origins.items():
        listed = lineage[step].output_artifacts.get(published) if step in lineage else None
        shipped = contents.manifest.output_artifacts.get(name)
        if listed is None or shipped is None or listed.sha256 != shipped.sha256:
            _refuse(f"{name} as the step {step} published it", "another file", str(contents.path))


def _read_policy(
    record: layout.BundleRecord, contents: Contents, lineage: Mapping[str, StepManifest]
) -> Policy:
    name = record.policy.path
    where = f"{contents.path}/{name}"
    with as_bundle_error():
        policy = parse_policy(record.policy.type, _json(contents, name), where=where)
    for step, claimed in policy.fitted_on.model_dump().items():
        if claimed != lineage[step].data_version:
            _refuse(f"a policy that was fitted on this {step}", "one fitted on another", where)
    point = record.operating_point
    if (point.temperature, point.threshold) != (policy.point.temperature, policy.point.threshold):
        _refuse("the operating point of the policy", "another one in bundle.json", where)
    return policy


def _read_evaluation(
    contents: Contents, lineage: Mapping[str, StepManifest], policy: Policy, *, tested: int
) -> Report | None:
    if graph.EVALUATION not in lineage:
        return None
    where = f"{contents.path}/{layout.EVALUATION}"
    report = _record(Report, contents, layout.EVALUATION)
    own = report.of(policy.type)
    if own.policy != policy:
        _refuse("an evaluation of the policy in this bundle", "one of another policy", where)
    if report.counts.n != tested:
        _refuse(f"an evaluation of all {tested} images of val_test", f"one of {report.counts.n}", where)
    return report


def _read_conditions(contents: Contents, evaluation: Report | None) -> Conditions | None:
    """Read the conditions, which must be those that the evaluation tells of."""
    seen = _optional(Conditions, contents, layout.CONDITIONS)
    reported = evaluation.conditions if evaluation else None
    if seen and reported and (reported.profile, reported.tuned) != (seen.reported.title, not seen.is_as_is):
        where = f"{contents.path}/{layout.CONDITIONS}"
        _refuse("the conditions that the evaluation tells of", f"those of {seen.reported.title}", where)
    return seen


def _check_degenerate(
    record: layout.BundleRecord, policy: Policy, tested: PolicyReport | None, *, where: str
) -> None:
    reasons = (*policy.degeneracies(), *(tested.degeneracies() if tested else ()))
    if [reworded(reason) for reason in record.degenerate] != [reworded(reason) for reason in reasons]:
        _refuse("a degenerate policy to be called so", f"{list(record.degenerate)}", where)


def _read_splits(contents: Contents) -> Splits:
    """Read the roles of the images, which are given by name, or by SHA-256 in a redacted bundle."""
    where = f"{contents.path}/{layout.SPLITS}"
    try:
        with as_bundle_error():
            return Splits.from_json(_json(contents, layout.SPLITS), where=where)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, BundleError):
            raise
        _refuse("the splits of this version", f"the error {error}", where)


def _read_golden(contents: Contents, tested: Collection[str]) -> Expected:
    where = f"{contents.path}/{layout.EXPECTED}"
    expected = _record(Expected, contents, layout.EXPECTED)
    strangers = [image.name for image in expected.pictures if image.name not in tested]
    problems = listing_problems(expected, contents.files) or [
        f"{name!r} is not in val_test" for name in strangers
    ]
    if problems:
        _refuse("golden images of val_test, each one listed", "; ".join(problems), where)
    return expected


def _check_config(config: Any, record: layout.BundleRecord, *, where: str) -> None:
    if not isinstance(config, dict):
        _refuse(f"an object in {layout.CONFIG}", type(config).__name__, where)
    claimed = (record.architecture, record.label_names, record.preprocessing)
    in_config = (config.get("architecture"), layout.LABELS, config.get("pretrained_cfg"))
    if claimed != in_config:
        _refuse(
            f"architecture, labels and preprocessing of {layout.CONFIG}", f"others in {layout.RECORD}", where
        )


def _json(contents: Contents, name: str) -> Any:
    return parse_unambiguous(contents.files[name], where=f"{contents.path}/{name}")


def _refuse(expected: str, found: str, where: str) -> NoReturn:
    raise BundleError(expected, found, where, _ACTION)
