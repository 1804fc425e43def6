"""The export of `model.onnx`: made, read back as a stranger's would be, and proved on images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streetvision_core.bundle.golden import golden_images
from streetvision_core.bundle.layout import ONNX, WEIGHTS
from streetvision_core.bundle.onnx.extra import made_with, require_extra
from streetvision_core.bundle.onnx.graph import onnx_bytes
from streetvision_core.bundle.onnx.parity import prove, prove_shipped
from streetvision_core.bundle.onnx.reading import read_onnx
from streetvision_core.bundle.onnx.specification import PARITY, OnnxRecord, specify
from streetvision_core.inference.predictor import Predictor
from streetvision_core.io import bytes_digest, write_file_atomic

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from PIL.Image import Image

    from streetvision_core.bundle.load import Bundle


def export_onnx(
    predictor: Predictor, images: Iterable[Image], *, weights_sha256: str
) -> tuple[bytes, OnnxRecord]:
    """Return `model.onnx` and its record, proved on upright RGB images.

    Args:
        predictor: What it must compute.
        images: What it is compared on.
        weights_sha256: The SHA-256 (hex) of the `model.safetensors` of this predictor.

    Raises:
        ConfigError: the extra `onnx` is not installed.
        BundleError: torch cannot export the network, or ONNX Runtime answers an image otherwise.
    """
    require_extra()
    specification = specify(predictor.config, predictor.policy, weights_sha256=weights_sha256)
    data = onnx_bytes(predictor, specification)
    opset = read_onnx(data, where="the export").opset
    parity = prove(data, predictor, images)
    return data, OnnxRecord(opset=opset, specification=specification, parity=parity, made_with=made_with())


def write_onnx(bundle: Bundle, path: Path) -> str:
    """Write a bundle's `model.onnx` to a path, durably; return what it was proved on, in words.

    A file that the bundle ships is written as it is; where ONNX Runtime is installed, it answers the golden
    images first. Otherwise one is made and proved on the golden images, as those of val_test are not at hand.

    Raises:
        ConfigError: the extra `onnx` is not installed.
        BundleError: there are no golden images, torch cannot export the network, or ONNX Runtime answers
            an image otherwise.
        StoreError: the file cannot be written.
    """
    files, record, data = bundle.contents.files, bundle.onnx, bundle.contents.files.get(ONNX)
    predictor = Predictor(bundle.model, config=bundle.config, policy=bundle.policy)
    if data is None or record is None:
        golden = golden_images(bundle.expected, files)
        data, record = export_onnx(predictor, golden, weights_sha256=bytes_digest(files[WEIGHTS]))
        images = "golden images; the images of val_test are not at hand"
    else:
        images = f"images of val_test, when it was exported\nrun        {_run(bundle, predictor)}"
    write_file_atomic(path, data)
    decides = "with decisions" if record.specification.answers else "without decisions, which need features"
    return (
        f"onnx       {path}, opset {record.opset}, {decides}\n"
        f"parity     logits differ by {record.parity.logits:.1e} at most, {PARITY:g} are allowed,"
        f" on {record.parity.images} {images}"
    )


def _run(bundle: Bundle, predictor: Predictor) -> str:
    """Answer the golden images by the file that a bundle ships, if possible; return the outcome in words."""
    if prove_shipped(bundle, predictor):
        return "answers the golden images alike here"
    missing = "onnxruntime is not installed" if bundle.expected.pictures else "there are no golden images"
    return f"not run here ({missing})"
