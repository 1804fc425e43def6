"""The export of a bundle: prove the chain, build the predictor, record the answers that it must give.

1. Every step behind the policy is there, and their manifests form one chain (`lineage.py`); an evaluation
   is there where one judged this policy (`lineage.py`).
2. What the policy and the evaluation say about themselves agrees with that chain, and the policy comes
   out the same when it is fitted again on the same logits.
3. What the licence of the starting weights demands is done, or the weights are refused (`licences.py`).
4. A policy that answers one class only, or nothing, is refused, unless the configuration allows it; then
   the bundle says so.
5. The predictor is built from the checkpoint and the policy, as the evaluation's was, and must answer
   the golden images as the evaluation did. Its folded weights are what is written.

The content depends on the upstream's content and the configuration alone: no time, run or path. Beside it lie
the manifests of the upstream with their side files, which tell of machines and paths; `lineage: redacted`
leaves the side files out and names images by SHA-256. Then manifests of a version without side files are
refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from streetvision_core import graph
from streetvision_core.bundle import layout
from streetvision_core.bundle.card import CardFacts, license_text, model_card, readme
from streetvision_core.bundle.golden import evaluated_candidates, golden_files, measured_candidates
from streetvision_core.bundle.lineage import chain_problems
from streetvision_core.bundle.origin.provenance import with_provenance
from streetvision_core.bundle.weights import check_costs
from streetvision_core.data.index import ImageIndex
from streetvision_core.data.splits import BY_SHA256, NAMED, Splits, is_unsafe
from streetvision_core.errors import BundleError
from streetvision_core.eval.use.drift import DRIFT_NAME
from streetvision_core.inference.predictor import Predictor
from streetvision_core.io import (
    Artifact,
    StagedFile,
    bytes_digest,
    write_checkpoint_atomic,
    write_file_atomic,
)
from streetvision_core.io.published import LINEAGE_PREFIX, PRIVATE_PREFIX
from streetvision_core.models.licences import TEXT_NAME, export_obstacle, read_text
from streetvision_core.models.views import find_views
from streetvision_core.models.weights import published_file
from streetvision_core.policies.registry import parse_policy, refit_problems
from streetvision_core.report.evaluation import EVALUATION_NAME, Evaluation
from streetvision_core.report.release import RELEASE_NAME, judge

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from streetvision_core.bundle.config import BundleConfig
    from streetvision_core.data.decoding.decode import ImageReader
    from streetvision_core.eval.decisions import Policy
    from streetvision_core.io import PublishedArtifact, StepManifest
    from streetvision_core.report.report import PolicyReport
    from streetvision_core.training.checkpoint import Checkpoint


@dataclass(frozen=True)
class _Parts:
    """The parts that a bundle is assembled from, read and verified."""

    checkpoint: Checkpoint
    policy: Policy
    splits: Splits
    evaluation: Evaluation | None
    backbone: Mapping[str, Any]
    licence_text: str

    @property
    def tested(self) -> PolicyReport | None:
        """The report of the policy on val_test; None where it was not evaluated."""
        return self.evaluation.report.of(self.policy.type) if self.evaluation else None


def export_bundle(
    upstream: Mapping[str, PublishedArtifact], *, config: BundleConfig, images: ImageReader, directory: Path
) -> Artifact:
    """Make the bundle of everything in `upstream`.

    Args:
        upstream: What each step behind the bundle published, by its name (`lineage.choose_parts`).
        config: The bundle's settings.
        images: Reads the images of val_test, under the conditions in `upstream` where there are any.
        directory: Where the large file of the weights is staged.

    Returns:
        The files of the bundle, without its manifest; the weights as a staged file.

    Raises:
        BundleError: a part is missing, the parts come from different chains, the licence of the starting
            weights is in the way, or the policy is degenerate.
    """
    kind, redacted = graph.POLICIES[config.policy], config.lineage == layout.REDACTED
    _require_chain(upstream, kind)
    lineage = _lineage(upstream, redacted=redacted)
    parts = _read_parts(upstream, config.policy)
    _require_licence(parts, config)
    degenerate = _require_useful(parts, allowed=config.allow_degenerate)
    model_config = parts.checkpoint.config
    check_costs(
        model_config, where="the bundle", action="Train at a smaller input_size, or with fewer views."
    )
    predictor = Predictor.of_checkpoint(parts.checkpoint, parts.policy)
    facts = CardFacts(
        config,
        parts.policy,
        parts.evaluation,
        parts.backbone,
        model_config["pretrained_cfg"],
        degenerate,
        has_licence_text=bool(parts.licence_text),
        views=find_views(model_config),
        head_hidden=model_config.get("head_hidden", 0),
        conditions=images.conditions,
    )
    weights = _stage_weights(predictor, directory)
    files: dict[str, bytes | StagedFile] = {
        layout.WEIGHTS: weights,
        **(_onnx(predictor, parts, weights, images) if config.onnx else {}),
        layout.SPLITS: upstream["splits"].read_bytes(BY_SHA256 if redacted else NAMED),
        **_as_published(upstream, parts, conditioned=images.conditions is not None),
        layout.CARD: model_card(facts),
        layout.README: readme(facts),
        layout.LICENSE: license_text(facts),
        RELEASE_NAME: _release(facts),
        kind.path: upstream[kind.step].read_bytes(kind.file),
        **_golden(predictor, parts, upstream, config=config, images=images),
    }
    record = _describe(files, facts, layout.PolicyEntry(type=config.policy, path=kind.path))
    tested = parts.tested
    return Artifact(
        with_provenance({**files, layout.RECORD: record.to_bytes(), **lineage}, _manifests(upstream)),
        metrics={"coverage": tested.coverage.share, **tested.figures()} if tested else {},
    )


def _as_published(
    upstream: Mapping[str, PublishedArtifact], parts: _Parts, *, conditioned: bool
) -> dict[str, bytes]:
    """Return the published files that a bundle takes over byte for byte."""
    logits = upstream.get(graph.LOGITS)  # a gate needs none
    sources = (
        (layout.CONFIG, graph.CHECKPOINT, layout.CONFIG, True),
        (layout.TENSORS, graph.CHECKPOINT, layout.TENSORS, bool(parts.checkpoint.tensors)),
        (layout.EVALUATION, graph.EVALUATION, EVALUATION_NAME, parts.evaluation is not None),
        (layout.CONDITIONS, graph.CONDITIONS, layout.CONDITIONS, conditioned),
        (
            DRIFT_NAME,
            graph.LOGITS,
            DRIFT_NAME,
            bool(logits and DRIFT_NAME in logits.manifest.output_artifacts),
        ),
    )
    files = {name: upstream[step].read_bytes(file) for name, step, file, there in sources if there}
    licence = {TEXT_NAME: parts.licence_text.encode()} if parts.licence_text else {}
    return files | licence


def _release(facts: CardFacts) -> bytes:
    report = facts.evaluation.report if facts.evaluation else None
    verdict = judge(facts.config.release, report, facts.policy.type, degenerate=bool(facts.degenerate))
    return verdict.to_bytes()


def _golden(
    predictor: Predictor,
    parts: _Parts,
    upstream: Mapping[str, PublishedArtifact],
    *,
    config: BundleConfig,
    images: ImageReader,
) -> dict[str, bytes]:
    count = config.golden
    if parts.evaluation is not None:
        chosen = evaluated_candidates(predictor, parts.evaluation, count=count, images=images)
    else:
        names = frozenset(parts.splits.roles["val_test"])
        index = ImageIndex.from_artifact(upstream["images"])
        tested = [image for image in index.pictures if image.name in names]
        chosen = measured_candidates(predictor, tested, count=count, images=images)
    return golden_files(predictor, chosen, images=images, by_sha256=config.lineage == layout.REDACTED)


def adopt_bundle(published: PublishedArtifact, *, upstream: Mapping[str, PublishedArtifact]) -> Artifact:
    """Return a published bundle as what `export_bundle` would make of the same content in `upstream`.

    Its files are as they were published; the lineage is that of `upstream`, and must be whole.

    Raises:
        BundleError: a part is missing, or the parts come from different chains, or cannot be redacted.
        IntegrityError: the published bundle is damaged.
    """
    record = layout.BundleRecord.from_bytes(
        published.read_bytes(layout.RECORD), where=str(published.directory)
    )
    kind = graph.POLICIES[record.policy.type]
    _require_chain(upstream, kind)
    lineage = _lineage(upstream, redacted=record.is_redacted)
    files = {
        name: published_file(published, name)
        if name in (layout.WEIGHTS, layout.ONNX)
        else published.read_bytes(name)
        for name in published.content
    }
    whole = with_provenance({**files, **lineage}, _manifests(upstream))
    return Artifact(whole, metrics=published.manifest.metrics)


def _manifests(upstream: Mapping[str, PublishedArtifact]) -> dict[str, StepManifest]:
    return {step: artifact.manifest for step, artifact in upstream.items()}


def _lineage(upstream: Mapping[str, PublishedArtifact], *, redacted: bool) -> dict[str, bytes]:
    """Return the manifests of everything upstream, with their side files unless the bundle is redacted."""
    manifests = {
        f"{LINEAGE_PREFIX}{step}.json": manifest.to_bytes() for step, manifest in _manifests(upstream).items()
    }
    if redacted:
        _require_redactable(upstream)
        return manifests
    private = {step: artifact.private() for step, artifact in upstream.items()}
    return manifests | {
        f"{PRIVATE_PREFIX}{step}.json": record.to_bytes() for step, record in private.items() if record
    }


def _require_redactable(upstream: Mapping[str, PublishedArtifact]) -> None:
    """Refuse manifests that name machines and paths themselves: changed, they would prove nothing."""
    telling = [step for step, artifact in upstream.items() if artifact.manifest.hostname is not None]
    if BY_SHA256 not in upstream["splits"].manifest.output_artifacts:
        telling = ["splits", *(step for step in telling if step != "splits")]
    if telling:
        raise BundleError(
            "manifests that keep machines and paths in a side file, as lineage: redacted asks for",
            f"those of an older version of {', '.join(telling)}, where redaction is not possible",
            "the manifests of the upstream",
            f"Materialize {', '.join(telling)} again with reuse: false, then the bundle; or ship all of it.",
        )


def _require_chain(upstream: Mapping[str, PublishedArtifact], kind: graph.PolicyKind) -> None:
    for step in graph.steps_behind(kind.step):
        if step not in upstream:
            _refuse("every step behind the bundle", f"no {step}", step)
    if kind.file not in upstream[kind.step].manifest.output_artifacts:
        _refuse(f"the policy's file {kind.file}", f"{kind.step} without it", kind.step)
    problems = chain_problems(_manifests(upstream), policy_step=kind.step)
    if problems:
        _refuse("parts of one chain", "; ".join(problems), "the manifests of the upstream")


def _read_parts(upstream: Mapping[str, PublishedArtifact], policy_type: str) -> _Parts:
    """Read the records, and refuse those which contradict the chain that their manifests form."""
    from streetvision_core.training.checkpoint import Checkpoint

    kind = graph.POLICIES[policy_type]
    published = upstream[kind.step]
    policy = parse_policy(policy_type, published.read_json(kind.file), where=str(published.path(kind.file)))
    checkpoint = Checkpoint.from_artifact(upstream[graph.CHECKPOINT])
    splits = Splits.from_artifact(upstream["splits"])
    _require_own_policy(policy, upstream)
    if problems := refit_problems(policy_type, upstream, select=checkpoint.val_select):
        _refuse("a policy that comes out the same when fitted again", "; ".join(problems), kind.step)
    evaluation = _read_evaluation(upstream, policy, splits)
    for role, names in splits.roles.items():
        _require_relative(names, role=role)
    backbone = upstream["backbone"].read_json("backbone.json")
    return _Parts(checkpoint, policy, splits, evaluation, backbone, read_text(upstream["backbone"]))


def _read_evaluation(
    upstream: Mapping[str, PublishedArtifact], policy: Policy, splits: Splits
) -> Evaluation | None:
    if graph.EVALUATION not in upstream:
        return None
    evaluation = Evaluation.from_artifact(upstream[graph.EVALUATION])
    if evaluation.report.of(policy.type).policy != policy:
        _refuse("an evaluation of this policy", "one of another policy", graph.EVALUATION)
    if sorted(image.name for image in evaluation.tested) != sorted(splits.roles["val_test"]):
        _refuse("an evaluation of all of val_test", "other images", graph.EVALUATION)
    return evaluation


def _require_own_policy(policy: Policy, upstream: Mapping[str, PublishedArtifact]) -> None:
    for step, claimed in policy.fitted_on.model_dump().items():
        version = upstream[step].manifest.data_version
        if claimed != version:
            _refuse(
                f"a policy that was fitted on this {step} ({version[:12]})",
                f"one that was fitted on another ({claimed[:12]})",
                "the policy",
            )


def _require_licence(parts: _Parts, config: BundleConfig) -> None:
    obstacle = export_obstacle(
        parts.backbone["licence"],
        text=parts.licence_text,
        chosen=config.license,
    )
    if obstacle:
        raise obstacle


def _require_useful(parts: _Parts, *, allowed: bool) -> tuple[str, ...]:
    tested = parts.tested
    reasons = (*parts.policy.degeneracies(), *(tested.degeneracies() if tested else ()))
    if reasons and not allowed:
        raise BundleError(
            "a policy that answers images of both classes and promises what no constant answer keeps",
            f"a degenerate one: {' and '.join(reasons)}",
            "the policy",
            "Train longer or look at the data; allow_degenerate exports it all the same, marked as such.",
        )
    return reasons


def _require_relative(names: Iterable[str], *, role: str) -> None:
    """Refuse names that would publish where the images lie on somebody's machine."""
    for name in names:
        if is_unsafe(name):
            _refuse("images with names relative to their source", f"the name {name!r}", role)


def _stage_weights(predictor: Predictor, directory: Path) -> StagedFile:
    path = directory / layout.WEIGHTS
    return StagedFile.at(path, write_checkpoint_atomic(path, predictor.model))


def _onnx(
    predictor: Predictor, parts: _Parts, weights: StagedFile, images: ImageReader
) -> dict[str, bytes | StagedFile]:
    """Export the predictor to ONNX, and prove it on every image of val_test as it arrives in use."""
    from streetvision_core.bundle.onnx.export import export_onnx

    of_val_test = (images.image(name) for name in parts.splits.roles["val_test"])
    data, record = export_onnx(predictor, of_val_test, weights_sha256=weights.sha256)
    path = weights.path.with_name(layout.ONNX)
    return {
        layout.ONNX: StagedFile.at(path, write_file_atomic(path, data)),
        layout.ONNX_RECORD: record.to_bytes(),
    }


def _describe(
    files: Mapping[str, bytes | StagedFile], facts: CardFacts, policy: layout.PolicyEntry
) -> layout.BundleRecord:
    return layout.BundleRecord(
        model_checkpoint=layout.WEIGHTS,
        policy_file=policy.path,
        splits_json=layout.SPLITS,
        backbone_id=facts.backbone["architecture"],
        num_classes=len(layout.LABELS),
        architecture=facts.backbone["architecture"],
        label_names=layout.LABELS,
        preprocessing=dict(facts.preprocessing),
        policy=policy,
        operating_point=layout.FoldedPoint(**facts.policy.point.model_dump()),
        degenerate=tuple(facts.degenerate),
        lineage=layout.REDACTED if facts.config.lineage == layout.REDACTED else None,
        checksums={
            name: content.sha256 if isinstance(content, StagedFile) else bytes_digest(content)
            for name, content in files.items()
        },
    )


def _refuse(expected: str, found: str, where: str) -> NoReturn:
    raise BundleError(
        expected, found, where, "Materialize the graph from the first step that differs, then the bundle."
    )
