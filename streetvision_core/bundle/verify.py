"""The verification of a bundle, and its description in a few lines.

`load_bundle` verifies everything that bytes can tell. The deep verification also answers the golden images
again: the bundle must compute here what it computed when it was exported. `moved_bundle_problems` uses a copy
elsewhere, as a receiver would, and compares its answers with the report. `Predictor` is
`inference.Predictor`, loaded from a folder that is verified first.
"""

from __future__ import annotations

import shutil
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from streetvision_core.bundle.golden import golden_problems
from streetvision_core.bundle.layout import EVALUATION, RECORD, TENSORS, WEIGHTS, BundleRecord
from streetvision_core.bundle.load import Bundle, load_bundle
from streetvision_core.bundle.onnx.parity import prove_shipped
from streetvision_core.bundle.weights import trained_problems
from streetvision_core.errors import BundleError
from streetvision_core.graph import LOOKS, ROLES
from streetvision_core.inference.predictor import Predictor as UnverifiedPredictor
from streetvision_core.io.ledger import look_text
from streetvision_core.io.names import SIGNATURE_NAME
from streetvision_core.io.private import machine_of
from streetvision_core.io.records import read_record
from streetvision_core.io.system import room_for, temporary_directory
from streetvision_core.models.views import find_views
from streetvision_core.report.evaluation import decision_problems
from streetvision_core.report.release import ReleaseRules, judge
from streetvision_core.report.report import Report

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from streetvision_core.data.decoding.decode import ImageReader
    from streetvision_core.io import PublishedArtifact
    from streetvision_core.report.evaluation import Evaluation
    from streetvision_core.report.release import Release


@dataclass(frozen=True)
class Verification:
    """A verified bundle; `golden` counts the golden images that were reproduced, None if not tried.

    `onnx` is true where ONNX Runtime answered them alike.
    """

    bundle: Bundle
    golden: int | None = None
    onnx: bool = False

    def summary(self) -> str:
        """Describe the bundle in a few lines a person can read."""
        bundle, manifest = self.bundle, self.bundle.contents.manifest
        point, files = bundle.record.operating_point, manifest.output_artifacts
        size = sum(file.size_bytes for file in files.values()) / 1e6
        views = find_views(bundle.config)
        rows = {
            "good": str(bundle.contents.path),
            "model": f"{bundle.card.model_name} {bundle.card.version}, {bundle.record.architecture}",
            **({"views": f"sees {views.describe()}"} if views else {}),
            "files": f"{len(files)} ({size:.1f} MB), every byte as published",
            **({"beside": str(added)} if str(added := bundle.contents.additions) else {}),
            **({"signature": signed} if (signed := self._signature_text()) else {}),
            "policy": f"{bundle.policy.type}; roadwork above probability {point.probability}",
            "promise": bundle.policy.promise(),
            "folded in": f"temperature {point.temperature:.4g}, threshold {point.threshold:.4g}",
            "val_test": self._tested_text(),
            **({"release": bundle.release.text()} if bundle.release else {}),
            **self._looks(),
            "chain": ", ".join(sorted(bundle.lineage)),
            "machine": self._machine_text(),
            "golden": self._golden_text(),
            **({"onnx": self._onnx_text()} if bundle.onnx else {}),
            "made by": f"run {manifest.run_id}, code {manifest.git_sha}{' (dirty)' * manifest.git_dirty}",
            "data": manifest.data_version,
            "manifest": bundle.contents.manifest_sha256,
        }
        lines = [
            textwrap.fill(f"{name:10} {value}", width=100, subsequent_indent=" " * 11)
            if name in {"promise", "release"}
            else f"{name:10} {value}"
            for name, value in rows.items()
        ]
        return "\n".join([*lines, *(f"DEGENERATE {reason}" for reason in bundle.record.degenerate)])

    def _signature_text(self) -> str:
        contents = self.bundle.contents
        if contents.signature is None:
            return ""
        if contents.signed_by is None:
            return f"{SIGNATURE_NAME}, not checked (--key PUBLIC.pem does)"
        return f"{SIGNATURE_NAME}, of these very files, by the key of SHA-256 {contents.signed_by}"

    def _tested_text(self) -> str:
        evaluation, tested = self.bundle.evaluation, self.bundle.tested
        if evaluation is None or tested is None:
            return "not evaluated"
        answered = f"{tested.coverage.answered} of {evaluation.counts.n} images answered"
        if not tested.coverage.answered:
            return answered
        return f"MCC {tested.text('mcc')}, accuracy {tested.text('accuracy')}, {answered}"

    def _looks(self) -> dict[str, str]:
        """Return the look that each step recorded, and the looks that the export counted."""
        looks = [
            f"{step} {look_text(made.metrics)}" for step, made in self.bundle.lineage.items() if step in LOOKS
        ]
        metrics = self.bundle.contents.manifest.metrics
        counted = [f"{metrics[name]} at {role}" for role in ROLES if (name := f"{role}_looks") in metrics]
        return {
            "looks": "; ".join([*looks, f"when exported {' and '.join(counted)}" if counted else ""]).strip(
                "; "
            )
        }

    def _machine_text(self) -> str:
        if self.bundle.record.is_redacted:
            return "redacted: no machine, image or path of the configuration is named"
        manifests = [*self.bundle.lineage.values(), self.bundle.contents.manifest]
        private = self.bundle.private
        machines = [
            machine_of(manifest, private.get(manifest.step_name))["hostname"] for manifest in manifests
        ]
        return ", ".join(sorted(set(machines)))

    def _golden_text(self) -> str:
        if self.golden is None:
            return f"{len(self.bundle.expected.pictures)} images, not answered again (--deep does)"
        return f"{self.golden} images answered again, as expected"

    def _onnx_text(self) -> str:
        assert self.bundle.onnx is not None
        if self.onnx:
            return f"opset {self.bundle.onnx.opset}, answers the golden images alike"
        why = "onnxruntime is not installed" if self.golden else "--deep does, where there are golden images"
        return f"opset {self.bundle.onnx.opset}, of this policy and these weights; not run ({why})"


def verify_bundle(
    bundle_path: str | os.PathLike[str],
    output_dir: str | os.PathLike[str] | None = None,
    *,
    deep: bool = False,
    manifest_sha256: str | None = None,
    key: str | os.PathLike[str] | None = None,
) -> Verification:
    """Verify a bundle, given as to `load_bundle`; with `deep` also that it still computes the same.

    Raises:
        BundleError: the first thing that is wrong with it.
    """
    bundle = load_bundle(bundle_path, output_dir, manifest_sha256=manifest_sha256, key=key)
    if not deep:
        return Verification(bundle)
    contents = bundle.contents
    if TENSORS in contents.files:
        trained = bundle.documents[TENSORS]
        if problems := trained_problems(bundle.model, contents.files[WEIGHTS], trained):
            raise BundleError(
                f"the weights that were trained, but for the last layer ({TENSORS})",
                "; ".join(problems),
                contents.path,
                "Do not use this bundle: its weights were changed after the training.",
            )
    predictor = Predictor(bundle.model, config=bundle.config, policy=bundle.policy)
    problems = golden_problems(bundle.expected, bundle.contents.files, predictor)
    if problems:
        raise BundleError(
            "the golden images to be answered as they were",
            "; ".join(problems),
            bundle.contents.path,
            "Compare the versions in lineage/ with those installed here; where they agree, do not use it.",
        )
    onnx = prove_shipped(bundle, predictor)
    return Verification(bundle, golden=len(bundle.expected.pictures), onnx=onnx)


def moved_bundle_problems(
    directory: Path,
    *,
    deep: bool = True,
    evaluation: Evaluation | None = None,
    images: ImageReader | None = None,
) -> list[str]:
    """Copy the bundle elsewhere, verify it there, and decide every image of its report again.

    Args:
        directory: The published bundle.
        deep: Whether it answers its golden images again.
        evaluation: The report that the bundle was made with, if there is one.
        images: Reads the images of the report.

    Returns:
        What is wrong, one sentence a fault; none when the bundle does what was reported.
    """
    with temporary_directory("a copy of the bundle") as elsewhere:
        moved = elsewhere / "bundle"
        with room_for("a copy of the bundle"):
            shutil.copytree(directory, moved, symlinks=True)
        try:
            bundle = verify_bundle(moved, deep=deep).bundle
        except BundleError as error:
            return [str(error)]
        if evaluation is None or images is None:
            return []
        predictor = Predictor(bundle.model, config=bundle.config, policy=bundle.policy)
        return decision_problems(predictor, evaluation, images=images)


def release_of(published: PublishedArtifact) -> Release:
    """Judge a published bundle by its own release rules, or by the defaults where it has none.

    Raises:
        IntegrityError: its files are not what was published.
        BundleError: they are none of a bundle.
    """
    where = str(published.directory)
    record = BundleRecord.from_bytes(published.read_bytes(RECORD), where=where)
    judged = EVALUATION in published.manifest.output_artifacts
    report = read_record(Report, published.read_bytes(EVALUATION), where=where) if judged else None
    rules = ReleaseRules.model_validate(published.manifest.config.get("release", {}))
    return judge(rules, report, record.policy.type, degenerate=bool(record.degenerate))


class Predictor(UnverifiedPredictor):
    """A classifier with its policy folded in, as a bundle ships it."""

    @classmethod
    def load(
        cls,
        bundle_path: str | os.PathLike[str],
        output_dir: str | os.PathLike[str] | None = None,
        *,
        manifest_sha256: str | None = None,
        key: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Load a bundle as `load_bundle` does; every byte is verified before anything is loaded.

        Raises:
            BundleError: the folder is no bundle, or is not to be trusted.
        """
        bundle = load_bundle(bundle_path, output_dir, manifest_sha256=manifest_sha256, key=key)
        return cls(bundle.model, config=bundle.config, policy=bundle.policy)
