"""The layout of a bundle: its file names, its steps, and the record `bundle.json`.

    bundle.json                       the record below
    config.json, model.safetensors    timm hub format, the operating point folded into the last layer
    model.onnx, onnx.json             the same function for ONNX Runtime, and its proof; only where asked for
    tensors.json                      the SHA-256 of each tensor as it was trained; not in older bundles
    policy/NAME                       the files of exactly one policy
    splits.json                       byte for byte as its step published it
    evaluation.json                   likewise, where the policy was evaluated
    conditions.json                   likewise: the conditions under which the operating point was tuned
    drift.json                        likewise: what new images are compared with; not in older bundles
    release.json                      the release rules, and the verdict on the policy; not in older bundles
    golden/                           a few images, and golden/expected.json: what they must give
    lineage/STEP.json                 the manifests of everything upstream, byte for byte
    lineage/private/STEP.json         their side files, which name machines and paths; not when redacted
    lineage/provenance.json           what they tell, in the words of SLSA; not in older bundles
    model_card.json, README.md, LICENSE
    LICENSE-weights.txt               the starting weights' licence, byte for byte, where its text is known
    private.json                      the bundle's own side file; not when redacted
    manifest.json                     last

A redacted bundle names no machine, no image and no path of the configuration: it has no side files, and
`splits.json` and `golden/` name images by SHA-256. `bundle.json` says so.

Nothing else may lie in a bundle: a file of any other name is refused, so that no weights, code or
preprocessing can be slipped in which another library would pick up.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from streetvision_core.errors import BundleError
from streetvision_core.eval.decisions import OperatingPoint
from streetvision_core.eval.use.drift import DRIFT_NAME
from streetvision_core.graph import POLICIES
from streetvision_core.io import json_bytes
from streetvision_core.io.manifest import Sha256
from streetvision_core.io.records import Record, parse_unambiguous, read_record
from streetvision_core.report.release import RELEASE_NAME

SCHEMA_VERSION = 2  # 1 has none of the fields that say where model, policy and splits lie
RECORD, CONFIG, WEIGHTS = "bundle.json", "config.json", "model.safetensors"
SPLITS, EVALUATION, EXPECTED = "splits.json", "evaluation.json", "golden/expected.json"
TENSORS = "tensors.json"
ONNX, ONNX_RECORD = "model.onnx", "onnx.json"
CARD, README, LICENSE = "model_card.json", "README.md", "LICENSE"
CONDITIONS = "conditions.json"
GOLDEN_PREFIX = "golden/"
# The oldest versions that open a bundle as it is (docs/decisions/bundle.md says how they were found).
TIMM_FLOOR, TRANSFORMERS_FLOOR = "1.0.16", "4.48"
FIXED = (RECORD, CONFIG, WEIGHTS, SPLITS, EXPECTED, CARD, README, LICENSE)
LABELS = ("None", "Roadwork")
REDACTED: Final = "redacted"
_GOLDEN = re.compile(r"golden/\d+\.(jpg|png|webp|bmp)")
_LINEAGE = re.compile(r"lineage/(private/)?[A-Za-z0-9_]+\.json")
_LICENSE = re.compile(r"LICENSE(-[A-Za-z0-9_]+)?(\.txt|\.md)?")


class PolicyEntry(Record):
    """The policy that the bundle holds, and its place in it."""

    type: str
    path: str


class FoldedPoint(OperatingPoint):
    """The temperature and threshold that were folded into the weights, so that 0.5 is the decision."""

    folded: Literal[True] = True
    probability: Annotated[FiniteFloat, Field(ge=0.5, le=0.5)] = 0.5


class BundleRecord(Record):
    """`bundle.json`; `checksums` holds every file but itself, the manifest and `lineage/`.

    `model_checkpoint`, `policy_file` and `splits_json` are relative to the folder of the bundle;
    `backbone_id` is timm's name of the backbone, its weights' tag included. A record of schema 1 has none
    of these. When a bundle was made stands in its `manifest.json` alone (`finished_at`), so that the same
    content has the same digest whenever it is made.
    """

    schema_version: Annotated[int, Field(ge=1, le=SCHEMA_VERSION)] = SCHEMA_VERSION
    model_checkpoint: str | None = None
    policy_file: str | None = None
    splits_json: str | None = None
    backbone_id: str | None = None
    num_classes: Annotated[int, Field(ge=2)] | None = None
    architecture: str
    label_names: tuple[str, ...]
    preprocessing: dict[str, Any]
    policy: PolicyEntry
    operating_point: FoldedPoint
    degenerate: tuple[str, ...] = ()
    lineage: Literal["redacted"] | None = None
    checksums: dict[str, Sha256]

    @model_validator(mode="after")
    def _has_what_its_schema_asks_for(self) -> Self:
        places = (self.model_checkpoint, self.policy_file, self.splits_json)
        described = (*places, self.backbone_id, self.num_classes)
        if self.schema_version == 1:
            if described != (None,) * len(described):
                raise ValueError("a record of schema 1 with fields of a later one")
        elif (*places, self.num_classes) != (WEIGHTS, self.policy.path, SPLITS, len(self.label_names)):
            raise ValueError(f"model, policy, splits and classes as {(*places, self.num_classes)}")
        elif not self.backbone_id:
            raise ValueError("no backbone_id")
        return self

    @property
    def is_redacted(self) -> bool:
        """True if the bundle names no machine, no image and no path of the configuration."""
        return self.lineage == REDACTED

    def to_bytes(self) -> bytes:
        """Return the canonical bytes of the record."""
        return json_bytes(self.model_dump(mode="json", exclude_none=True))

    @classmethod
    def from_bytes(cls, data: bytes, *, where: str) -> Self:
        """Read the record strictly; it is accepted only in the bytes that `to_bytes` gives.

        Raises:
            BundleError: a newer schema, an unknown or missing field, a wrong type, or another encoding.
        """
        content = parse_unambiguous(data, where=where)
        version = content.get("schema_version") if isinstance(content, dict) else None
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise BundleError(
                f"a bundle of schema version {SCHEMA_VERSION} or older",
                f"version {version}",
                where,
                "It was written by a newer StreetVision; update this installation to read it.",
            )
        record = read_record(cls, data, where=where)
        if record.to_bytes() != data:
            raise BundleError(
                "bundle.json in its canonical encoding",
                "another one",
                where,
                "It was changed after it was written; take a whole copy of the bundle.",
            )
        return record


def is_known(name: str) -> bool:
    """Tell whether a file of this relative name belongs into a bundle."""
    policy_files = {kind.path for kind in POLICIES.values()}
    patterns = (_GOLDEN, _LINEAGE, _LICENSE)
    fixed = (*FIXED, EVALUATION, TENSORS, ONNX, ONNX_RECORD, CONDITIONS, DRIFT_NAME, RELEASE_NAME)
    return name in fixed or name in policy_files or any(pattern.fullmatch(name) for pattern in patterns)
