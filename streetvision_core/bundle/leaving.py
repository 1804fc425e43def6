"""A one-line notice for whoever exports a bundle: the data that leaves the machine beside the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streetvision_core.bundle.layout import EVALUATION, EXPECTED, GOLDEN_PREFIX, RECORD, SPLITS, BundleRecord
from streetvision_core.eval.use.drift import DRIFT_NAME
from streetvision_core.io.names import PRIVATE_NAME
from streetvision_core.io.published import LINEAGE_PREFIX, PRIVATE_PREFIX
from streetvision_core.io.records import parse_unambiguous

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from streetvision_core.io import StagedFile

    Files = Mapping[str, bytes | StagedFile]


def what_leaves(files: Files) -> str:
    """Return what the files of a bundle tell of images and machines, and what `lineage: redacted` changes.

    Raises:
        BundleError: they are not those of a bundle.
    """
    images = sum(map(len, _json(files, SPLITS)["roles"].values()))
    if _record(files).is_redacted:
        names, end = (
            f"the SHA-256 of images in {SPLITS} ({images})",
            "no host name, platform or image name, and no path of the configuration",
        )
        facts = [_golden(files), names, *_attributes(files), *_drift(files)]
        return f"leaves with the bundle: {'; '.join(facts)}. It is redacted: {end}"
    facts = [_golden(files), f"image names in {SPLITS} ({images})", *_attributes(files), *_drift(files)]
    facts += _machines(files)
    end = "lineage: redacted leaves host name, platform and paths out and names images by SHA-256"
    return f"leaves with the bundle: {'; '.join(facts)}. {end}"


def _golden(files: Files) -> str:
    number = sum(name.startswith(GOLDEN_PREFIX) and name != EXPECTED for name in files)
    return f"golden images, pixels only ({number})"


def _attributes(files: Files) -> Iterator[str]:
    if EVALUATION in files:
        policies = _json(files, EVALUATION)["policies"].values()
        names = sorted({part["attribute"] for policy in policies for part in policy["slices"]})
        if names:
            yield f"the values of {', '.join(names)} in {EVALUATION}"


def _drift(files: Files) -> Iterator[str]:
    if DRIFT_NAME in files:
        units = _json(files, DRIFT_NAME)["units"]
        yield f"margins and random projections of unnamed images of val_calib ({units}) in {DRIFT_NAME}"


def _machines(files: Files) -> Iterator[str]:
    """Give what names the machine: side files, and manifests of a version that had none."""
    sides = [name for name in files if name.startswith(PRIVATE_PREFIX)]
    paths = sum(len(_json(files, name)["paths"]) for name in sides)
    if sides:
        yield f"host name, platform and paths ({paths}) in {PRIVATE_PREFIX} and {PRIVATE_NAME}"
    manifests = [name for name in files if name.startswith(LINEAGE_PREFIX) and name not in sides]
    older = sorted(name for name in manifests if "hostname" in _json(files, name))
    if older:
        yield f"those in {', '.join(older)}, of an older version"


def _record(files: Files) -> BundleRecord:
    return BundleRecord.from_bytes(_bytes(files, RECORD), where=RECORD)


def _json(files: Files, name: str) -> Any:
    return parse_unambiguous(_bytes(files, name), where=name)


def _bytes(files: Files, name: str) -> bytes:
    data = files[name]
    assert isinstance(data, bytes)  # the weights alone are staged
    return data
