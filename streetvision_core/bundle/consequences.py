"""The values that follow from others in a bundle: computed again, and compared.

Each function gives one sentence for each contradiction that it finds, none in a sound bundle. None of them
needs an image or a network. `agreement.py` compares what merely stands in two places; a policy and a report
prove on reading that their own numbers follow from each other.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pydantic

from streetvision_core import graph
from streetvision_core.bundle import layout
from streetvision_core.bundle.agreement import disagreements
from streetvision_core.bundle.golden import answer_problems
from streetvision_core.bundle.hub.front_matter import front_matter_problems
from streetvision_core.bundle.onnx.reading import read_onnx
from streetvision_core.bundle.onnx.specification import METADATA, specify
from streetvision_core.bundle.origin.provenance import provenance
from streetvision_core.data.splits import splits_problems
from streetvision_core.errors import field_faults
from streetvision_core.escape import one_line
from streetvision_core.eval.decisions import same_numbers
from streetvision_core.eval.metrics import COUNTS, Confusion
from streetvision_core.io import bytes_digest, json_bytes, manifest_problems
from streetvision_core.io.names import MANIFEST_NAME
from streetvision_core.io.published import LINEAGE_PREFIX, PROVENANCE
from streetvision_core.policies.registry import metrics_of
from streetvision_core.report.recount import report_problems
from streetvision_core.report.release import RELEASE_NAME, ReleaseRules, judge

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from streetvision_core.bundle.load import Records
    from streetvision_core.eval.decisions import Policy
    from streetvision_core.io import StepManifest

_ROW = re.compile(r"^\| (\w+) \| (-?\d+\.\d{3}) \|", re.MULTILINE)
_ANSWERED = re.compile(r"(\d+) hits, (\d+) misses,\s+(\d+) false alarms")
_LICENCE = re.compile(r"Licence of the weights in this folder: (.*)\n")
_INHERITED = re.compile(r"\nLicence of what they started from: (.*)\n")
_NO_LICENCE, _OWN_LICENCE = "none", "MIT"


def contradictions(records: Records) -> Iterator[str]:
    """Compare and compute again everything that the records of a bundle say of each other."""
    manifests = {**records.lineage, graph.BUNDLE: records.contents.manifest}
    for manifest in manifests.values():
        yield from manifest_problems(manifest)
        yield from _run_problems(manifest)
    yield from graph.role_violations(
        graph.BUNDLE, records.contents.manifest.roles, records.contents.manifest.input_artifacts
    )
    yield from _reference_problems(records)
    yield from splits_problems(records.splits)
    yield from _total_problems(records)
    if records.evaluation is not None:
        yield from report_problems(records.evaluation)
        yield from _judged_problems(records)
    for name, document in records.documents.items():
        yield from _miscounted(name, document)
    yield from disagreements(records.documents)
    yield from _shown_problems(records)
    yield from _text_problems(records)
    yield from _golden_problems(records)
    yield from _release_problems(records)
    yield from _provenance_problems(records)
    yield from _onnx_problems(records)


def _run_problems(manifest: StepManifest) -> Iterator[str]:
    """Compare the store's name of a run with Dagster's; outside Dagster there is none."""
    origin = manifest.reused_from
    for run in (manifest, *([origin] if origin else ())):
        if run.dagster_run_id and not run.run_id.endswith(f"-{run.dagster_run_id[:8]}"):
            yield (
                f"the manifest of {manifest.step_name} names the run {run.run_id}, which is not Dagster's"
                f" {run.dagster_run_id}"
            )
    if origin and origin.run_id == manifest.run_id:
        yield f"the manifest of {manifest.step_name} took over the content of its own run"


def _reference_problems(records: Records) -> Iterator[str]:
    """Require that all references to a step of a run name the same manifest and data version."""
    known: dict[tuple[str, str], tuple[str, str]] = {
        (step, manifest.run_id): (
            bytes_digest(records.contents.files[f"{LINEAGE_PREFIX}{step}.json"]), manifest.data_version
        )
        for step, manifest in records.lineage.items()
    }  # fmt: skip
    for reader in (*records.lineage.values(), records.contents.manifest):
        for step, given in reader.input_artifacts.items():
            reference = (given.manifest_sha256, given.data_version)
            if known.setdefault((step, given.run_id), reference) != reference:
                yield (
                    f"{reader.step_name} names another manifest or data version of {step} in run"
                    f" {given.run_id} than is known of it elsewhere"
                )


def _total_problems(records: Records) -> Iterator[str]:
    shown, counts = records.lineage["images"].metrics, records.splits.counts.values()
    for name in ("pictures", "roadwork", "none"):
        total = sum(getattr(count, name) for count in counts)
        if shown.get(name, total) != total:
            yield f"{layout.SPLITS} has {total} {name} in all roles, and the manifest of images {shown[name]}"
    known = records.lineage["splits"].metrics.get("groups_known", records.splits.groups_known)
    # Where groups are named by digests nobody can tell.
    if not records.record.is_redacted and bool(known) != records.splits.groups_known:
        claimed = "known" if known else "not known"
        yield f"the manifest of splits says that groups are {claimed}, and {layout.SPLITS} tells otherwise"


def _judged_problems(records: Records) -> Iterator[str]:
    """Hold the policies in the report against those that its step was given, each as it was published."""
    assert records.evaluation is not None
    made, judged = records.lineage[graph.EVALUATION], records.evaluation.policies
    given = sorted(step for step in made.input_artifacts if step in graph.POLICY_STEPS)
    named = sorted(graph.POLICIES[kind].step for kind in judged)
    if given != named:
        yield f"{layout.EVALUATION} judges {', '.join(named)}, and its step was given {', '.join(given)}"
        return
    for kind in judged:
        step, file = records.lineage[graph.POLICIES[kind].step], graph.POLICIES[kind].file
        content = json_bytes(records.documents[layout.EVALUATION]["policies"][kind]["policy"])
        # Another version may have spelled the same policy in another way.
        if _code_of(step) == _code_of(made) and bytes_digest(content) != step.output_artifacts[file].sha256:
            yield f"{layout.EVALUATION} judges another policy {kind} than {step.step_name} published"


def _code_of(manifest: StepManifest) -> tuple[object, ...]:
    return manifest.git_sha, manifest.git_dirty, manifest.packages.get("streetvision")


def _miscounted(name: str, document: Any, place: str = "") -> Iterator[str]:
    """Compute again every metric that stands beside its four counts."""
    if isinstance(document, list):
        document = dict(enumerate(document))
    if all(type(document.get(count)) is int for count in COUNTS):
        counted = Confusion(**{count: document[count] for count in COUNTS})
        again = counted.metrics() if min(counted.tp, counted.tn, counted.fp, counted.fn) >= 0 else {}
        wrong = [
            metric
            for metric in again
            if metric in document and not same_numbers(float(document[metric]), float(again[metric]))
        ]
        if wrong or not again:
            names = ", ".join(wrong) or "metrics"
            yield f"{name} has {names} at {place or 'its top'}, which {counted} does not give"
    for key, value in document.items():
        if isinstance(value, (dict, list)):
            yield from _miscounted(name, value, f"{place}.{key}" if place else str(key))


def _shown_problems(records: Records) -> Iterator[str]:
    """Compare the numbers in manifests and on the card with the records that they come from."""
    tested, report = records.tested, records.evaluation
    policies: Iterable[Policy] = (
        [entry.policy for entry in report.policies.values()] if report else [records.policy]
    )
    claims: list[tuple[str, Mapping[str, float], Mapping[str, float]]] = [
        (f"{LINEAGE_PREFIX}{step}.json", records.lineage[step].metrics, metrics_of(policy))
        for policy in policies
        for step in (graph.POLICIES[policy.type].step,)
    ]
    if report is not None:
        step = records.lineage[graph.EVALUATION]
        figures = {**report.lead.metrics, **report.figures()}
        claims.append((f"{LINEAGE_PREFIX}{graph.EVALUATION}.json", step.metrics, figures))
    # All metrics: an older version showed those of no answers as well.
    shown = {"coverage": tested.coverage.share, **tested.metrics, **tested.figures()} if tested else {}
    claims += [
        (MANIFEST_NAME, records.contents.manifest.metrics, shown),
        (layout.CARD, records.card.metrics, shown),
    ]
    for where, recorded, given in claims:
        for name in sorted(recorded.keys() & given.keys()):
            if not same_numbers(float(recorded[name]), float(given[name])):
                yield f"{where} shows {name} {recorded[name]}, and its record gives {given[name]}"
    if strange := sorted(records.card.metrics.keys() - shown.keys()):
        yield f"{layout.CARD} shows {', '.join(strange)}, which nothing here gives"


def _text_problems(records: Records) -> Iterator[str]:
    """Hold the figures and the licence that people read against the records."""
    files = records.contents.files
    readme, text = (files[name].decode(errors="replace") for name in (layout.README, layout.LICENSE))
    metrics = records.tested.metrics if records.tested else {}
    for name, shown in _ROW.findall(readme):
        if name in metrics and shown != f"{metrics[name]:.3f}":
            yield f"{layout.README} shows {name} {shown}, and {layout.EVALUATION} has {metrics[name]:.3f}"
    for shown in _ANSWERED.findall(readme):
        if metrics and shown != tuple(str(metrics[name]) for name in ("tp", "fn", "fp")):
            yield f"{layout.README} tells of other hits, misses or false alarms than {layout.EVALUATION}"
    yield from front_matter_problems(
        files[layout.README], licence=records.card.license, tested=records.tested
    )
    stated, inherited = _LICENCE.match(text), _INHERITED.search(text)
    licence = one_line(records.card.license)
    if stated is None or inherited is None or stated[1] != licence:
        yield f"{layout.CARD} has the licence {licence!r}, and {layout.LICENSE} says otherwise"
        return
    started_from = _OWN_LICENCE if inherited[1] == _NO_LICENCE else inherited[1]
    if licence != one_line(records.contents.manifest.config.get("license") or started_from):
        yield f"the licence {licence!r} is neither the configured one nor that of the starting weights"


def _golden_problems(records: Records) -> Iterator[str]:
    images, counts = records.expected.pictures, records.splits.counts["val_test"]
    yield from answer_problems(records.expected, records.policy)
    roadwork = sum(image.label for image in images)
    if roadwork > counts.roadwork or len(images) - roadwork > counts.none:
        yield f"of {len(images)} golden images {roadwork} are of roadwork: val_test has fewer of a class"
    most = records.contents.manifest.config.get("golden", len(images))
    if len(images) > most:
        yield f"{len(images)} golden images, where {MANIFEST_NAME} asked for {most}"


def _release_problems(records: Records) -> Iterator[str]:
    """Judge again by the rules in the manifest; an older bundle has neither rules nor verdict."""
    recorded, verdict = records.contents.manifest.config.get("release"), records.release
    if recorded is None or verdict is None:
        if recorded is not verdict:
            yield f"of the release rules in {MANIFEST_NAME} and the verdict in {RELEASE_NAME} one is missing"
        return
    try:
        rules = ReleaseRules.model_validate(recorded)
    except pydantic.ValidationError as error:
        yield f"{MANIFEST_NAME} has release rules that cannot be: {field_faults(error)}"
        return
    degenerate = bool(records.record.degenerate)
    again = judge(rules, records.evaluation, records.policy.type, degenerate=degenerate)
    for name in type(verdict).model_fields:
        stated, follows = getattr(verdict, name), getattr(again, name)
        if stated != follows:
            yield f"{RELEASE_NAME} says {name} {stated}, and its rules and {layout.EVALUATION} give {follows}"


def _provenance_problems(records: Records) -> Iterator[str]:
    """Write the provenance again from the manifests; a bundle of an older version has none."""
    contents = records.contents
    if PROVENANCE in contents.files:
        digests = {name: file.sha256 for name, file in contents.manifest.output_artifacts.items()}
        if contents.files[PROVENANCE] != provenance(digests, records.lineage):
            yield f"{PROVENANCE} tells otherwise than the manifests beside it"


def _onnx_problems(records: Records) -> Iterator[str]:
    """Hold the ONNX file and its record against each other, and both against config, policy and weights."""
    files, record = records.contents.files, records.onnx
    asked = records.contents.manifest.config.get("onnx", False)
    if not asked == (layout.ONNX in files) == (record is not None):
        both = f"{layout.ONNX} and {layout.ONNX_RECORD}"
        yield f"{both} belong together, and where {MANIFEST_NAME} asks for them"
    if layout.ONNX not in files or record is None:
        return
    weights = bytes_digest(files[layout.WEIGHTS])
    if record.specification != specify(records.config, records.policy, weights_sha256=weights):
        yield f"{layout.ONNX_RECORD} does not specify the weights, preprocessing and policy of this bundle"
    file = read_onnx(files[layout.ONNX], where=str(records.contents.path))
    if file.metadata != {METADATA: record.specification.to_bytes().decode()}:
        yield f"{layout.ONNX} says something else of itself than {layout.ONNX_RECORD}"
    if file.opset != record.opset:
        yield f"{layout.ONNX} is of opset {file.opset}, and {layout.ONNX_RECORD} says {record.opset}"
