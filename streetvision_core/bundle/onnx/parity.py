"""The proof that `model.onnx` computes what the predictor does, by ONNX Runtime on the same pixels."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from streetvision_core.bundle.golden import golden_images
from streetvision_core.bundle.layout import ONNX
from streetvision_core.bundle.onnx.extra import has_runtime
from streetvision_core.bundle.onnx.specification import DECISION, LOGITS, PARITY, PIXELS, PROBABILITY, Parity
from streetvision_core.errors import BundleError
from streetvision_core.eval.decisions import DECISIONS
from streetvision_core.eval.thresholds import positive_probability
from streetvision_core.inference.predictor import BATCH_SIZE
from streetvision_core.inference.reproduce import Recorded, differing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt
    from PIL.Image import Image

    from streetvision_core.bundle.load import Bundle
    from streetvision_core.inference.predictor import Predictor


def open_session(data: bytes) -> Any:
    """Open an ONNX file in ONNX Runtime, on the CPU; whose file it is must be known (`reading`).

    Raises:
        BundleError: ONNX Runtime refuses it.
    """
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no base of their own
        raise BundleError(
            "a network that ONNX Runtime opens", str(error), ONNX, "Export it again."
        ) from error


def prove(data: bytes, predictor: Predictor, images: Iterable[Image]) -> Parity:
    """Compare ONNX Runtime with the predictor on upright RGB images.

    Raises:
        BundleError: a logit or a decision differs by more than `PARITY` explains, or there are no images.
    """
    session, waiting = open_session(data), iter(images)
    compared = []
    while batch := list(islice(waiting, BATCH_SIZE)):
        compared.append(_compare(session, predictor, batch))
    problems = [problem for batch in compared for problem in batch.problems]
    if problems or not compared:
        raise BundleError(
            f"logits and decisions of ONNX Runtime within {PARITY:g} of the predictor's",
            "; ".join(problems[:3]) or "no images to compare them on",
            ONNX,
            "Leave onnx off for this network, or ship golden images to compare on.",
        )
    logits, probability = (
        np.concatenate([getattr(batch, name) for batch in compared]) for name in ("logits", "probability")
    )
    return Parity(
        images=len(probability),
        logits=float(logits.max()),
        probability=float(probability.max()),
        decided_otherwise=sum(batch.decided_otherwise for batch in compared),
    )


def prove_shipped(bundle: Bundle, predictor: Predictor) -> bool:
    """Compare the `model.onnx` of a bundle with its predictor on the golden images.

    Return False where the file, golden images or ONNX Runtime are missing, so that nothing was compared.

    Raises:
        BundleError: they differ, as by `prove`.
    """
    expected, files = bundle.expected, bundle.contents.files
    if bundle.onnx is None or not expected.pictures or not has_runtime():
        return False
    prove(files[ONNX], predictor, golden_images(expected, files))
    return True


@dataclass(frozen=True)
class _Compared:
    """The differences of a batch [N], and a sentence for each image that differs by too much."""

    logits: npt.NDArray[np.float64]
    probability: npt.NDArray[np.float64]
    decided_otherwise: int
    problems: list[str]


def _compare(session: Any, predictor: Predictor, images: Sequence[Image]) -> _Compared:
    from streetvision_core.models.preprocessing import hub_transform

    policy, transform = predictor.policy, hub_transform(predictor.config)
    ((names, ours),) = predictor.measure(images, extras=policy.extras)
    theirs = answer(session, np.stack([transform.pixels(image).numpy() for image in images]))
    if DECISION in theirs:
        decided = tuple(DECISIONS[code] for code in theirs[DECISION].tolist())
    else:
        decided = policy.decide(theirs[LOGITS], ours.extras)
    recorded = [
        Recorded(name, (none, roadwork), decision)
        for name, (none, roadwork), decision in zip(names, theirs[LOGITS].tolist(), decided, strict=True)
    ]
    before = policy.decide(ours.logits, ours.extras)
    return _Compared(
        logits=np.abs(theirs[LOGITS].astype(np.float64) - ours.logits).max(axis=1),
        probability=np.abs(theirs[PROBABILITY] - positive_probability(ours.logits)),
        decided_otherwise=sum(decision != other for decision, other in zip(decided, before, strict=True)),
        problems=list(differing(policy, recorded, ours, tolerance=PARITY)),
    )


def answer(session: Any, pixels: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
    """Return the outputs of an ONNX file, by name, for pixels as its specification says."""
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {PIXELS: pixels}), strict=True))
