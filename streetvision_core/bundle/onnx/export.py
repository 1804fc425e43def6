"""The export of `model.onnx`: made, read back as a stranger's would be, and proved on images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streetvision_core.bundle.golden import golden_images
from streetvision_core.bundle.layout import ONNX, WEIGHTS
from streetvision_core.bundle.onnx.extra import made_with, require_extra
from streetvision_core.bundle.onnx.graph import onnx_bytes
from streetvision_core.bundle.onnx.parity import prove
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

    It is the one that the bundle ships. Where it ships none, it is made here, and proved on the golden
    images: those of val_test are not at hand.

    Raises:
        ConfigError: the extra `onnx` is not installed.
        BundleError: there are no golden images, torch cannot export the network, or ONNX Runtime answers
            an image otherwise.
        StoreError: the file cannot be written.
    """
    files, record, images = bundle.contents.files, bundle.onnx, "images of val_test, when it was exported"
    data = files.get(ONNX)
    if data is None or record is None:
        golden = golden_images(bundle.expected, files)
        predictor = Predictor(bundle.model, config=bundle.config, policy=bundle.policy)
        data, record = export_onnx(predictor, golden, weights_sha256=bytes_digest(files[WEIGHTS]))
        images = "golden images; the images of val_test are not at hand"
    write_file_atomic(path, data)
    decides = "with decisions" if record.specification.answers else "without decisions, which need features"
    return (
        f"onnx       {path}, opset {record.opset}, {decides}\n"
        f"parity     logits differ by {record.parity.logits:.1e} at most, {PARITY:g} are allowed,"
        f" on {record.parity.images} {images}"
    )
