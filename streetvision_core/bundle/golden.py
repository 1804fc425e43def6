"""The golden images: the pixels of a few images of val_test, with the logits they must give.

They prove on another machine, after any copy and with any version of a library, that the bundle still
computes what it computed when it was exported. Both classes are there; the choice depends on the images'
digests alone. An image is passed over, where there are others, if another machine's rounding could turn its
margin.

What a camera writes beside the pixels (position, serial number, time, comments) does not leave the machine:
each image is decoded, reduced where it is large, and encoded anew; its logits are those of the bytes that
are shipped. What counts as the same is told in `reproduce`.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field, FiniteFloat

from streetvision_core.bundle.layout import EXPECTED, GOLDEN_PREFIX
from streetvision_core.errors import BundleError
from streetvision_core.eval.decisions import Decision, decisions
from streetvision_core.eval.inputs import margin_vector
from streetvision_core.eval.thresholds import positive_probability
from streetvision_core.inference.reproduce import TOLERANCE, Recorded, reproduction_problems
from streetvision_core.io import bytes_digest
from streetvision_core.io.manifest import Sha256
from streetvision_core.io.records import Record
from streetvision_core.report.evaluation import in_use

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from PIL.Image import Image

    from streetvision_core.data.decoding.decode import ImageReader
    from streetvision_core.data.index import IndexedImage
    from streetvision_core.eval.decisions import Policy
    from streetvision_core.inference.predictor import Predictor
    from streetvision_core.report.evaluation import Evaluation

LONGEST_SIDE = 1024
LOOSEST = 1e-3  # tolerance that a bundle may ask for; every version so far wrote this one
# How many images are looked at for each golden one, where no evaluation has looked at all of them.
_LOOKED_AT = 4
_HAIR = 1e-6  # what float32 may lose


class GoldenImage(Record):
    """One golden image: its file in the bundle, its name in the splits, and what it must give.

    In a redacted bundle the name is the SHA-256 of the image that the pixels are of. `sha256` is that of
    the file.
    """

    file: str
    name: str
    sha256: Sha256
    label: Annotated[int, Field(ge=0, le=1)]
    logits: tuple[FiniteFloat, FiniteFloat]
    probability: Annotated[FiniteFloat, Field(ge=0, le=1)]
    decision: Decision


class Expected(Record):
    """`golden/expected.json`."""

    tolerance: Annotated[FiniteFloat, Field(gt=0, le=LOOSEST)] = TOLERANCE
    pictures: tuple[GoldenImage, ...]


@dataclass(frozen=True)
class Candidate:
    """An image of val_test that may become golden, with its folded logits of None and Roadwork."""

    name: str
    sha256: str
    label: int
    logits: tuple[float, float]


def evaluated_candidates(
    predictor: Predictor, evaluation: Evaluation, *, count: int, images: ImageReader
) -> list[Candidate]:
    """Return `count` images of an evaluation, which must answer here as they did there.

    Raises:
        BundleError: the predictor does not answer what the evaluation recorded.
    """
    point = predictor.policy.point
    tested = [Candidate(row.name, row.sha256, row.label, row.folded(point)) for row in evaluation.tested]
    chosen = choose_golden(tested, count=count)
    recorded = {row.name: row for row in evaluation.recorded(predictor.policy)}
    problems = reproduction_problems(
        predictor,
        [recorded[candidate.name] for candidate in chosen],
        in_use((candidate.name for candidate in chosen), images),
    )
    if problems:
        raise BundleError(
            "an evaluation that this very model and policy made",
            "; ".join(problems[:3]),
            "the evaluation",
            "Materialize evaluation and bundle again.",
        )
    return chosen


def measured_candidates(
    predictor: Predictor, tested: Iterable[IndexedImage], *, count: int, images: ImageReader
) -> list[Candidate]:
    """Return `count` images of val_test, answered here; a few more are looked at than are taken."""
    by_digest = sorted(tested, key=lambda image: (image.sha256, image.name))
    looked_at = [
        image
        for label in (0, 1)
        for image in [image for image in by_digest if image.label == label][: _LOOKED_AT * count]
    ]
    answers = predictor.predict(in_use((image.name for image in looked_at), images))
    measured = [
        Candidate(image.name, image.sha256, image.label, answer.logits)
        for image, answer in zip(looked_at, answers, strict=True)
    ]
    return choose_golden(measured, count=count)


def choose_golden(candidates: Sequence[Candidate], *, count: int) -> list[Candidate]:
    """Choose up to `count` images, half of each label, the clearly answered ones first."""
    ranked = sorted(candidates, key=lambda image: (_is_close(image.logits), image.sha256, image.name))
    per_label = {
        label: [image for image in ranked if image.label == label][: (count + label) // 2] for label in (0, 1)
    }
    return sorted((*per_label[0], *per_label[1]), key=lambda image: image.name)


def golden_files(
    predictor: Predictor, chosen: Sequence[Candidate], *, images: ImageReader, by_sha256: bool = False
) -> dict[str, bytes]:
    """Return the files of `golden/`: the pixels of the chosen images, and what `predictor` answers.

    Args:
        predictor: What the bundle answers with.
        chosen: The images.
        images: Reads them.
        by_sha256: Whether they are named by the SHA-256 of the original image, as in a redacted bundle.
    """
    names = [f"{GOLDEN_PREFIX}{number:03d}.jpg" for number in range(1, len(chosen) + 1)]
    files = {name: pixels_alone(images.image(image.name)) for name, image in zip(names, chosen, strict=True)}
    answers = predictor.predict(files.values())
    records = tuple(
        GoldenImage(
            file=name, name=image.sha256 if by_sha256 else image.name, sha256=bytes_digest(files[name]),
            label=image.label, logits=answer.logits, probability=answer.probability,
            decision=answer.decision,
        )
        for name, image, answer in zip(names, chosen, answers, strict=True)
    )  # fmt: skip
    return {**files, EXPECTED: Expected(pictures=records).to_bytes()}


def pixels_alone(image: Image) -> bytes:
    """Encode an RGB image anew, at most 1,024 pixels wide and high, with no metadata of any kind."""
    from PIL.Image import Resampling

    image = image.copy()
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Resampling.LANCZOS)
    image.info.clear()  # Pillow would write a comment again that it remembers
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def golden_images(expected: Expected, files: Mapping[str, bytes]) -> Iterator[Image]:
    """Decode the golden images."""
    from streetvision_core.data.decoding.decode import decode

    return (decode(files[image.file]) for image in expected.pictures)


def golden_problems(expected: Expected, files: Mapping[str, bytes], predictor: Predictor) -> list[str]:
    """Answer the golden images again; return what differs, one sentence an image."""
    return reproduction_problems(
        predictor,
        [Recorded(image.file, image.logits, image.decision) for image in expected.pictures],
        (files[image.file] for image in expected.pictures),
        tolerance=expected.tolerance,
    )


def listing_problems(expected: Expected, files: Mapping[str, bytes]) -> list[str]:
    """Return where `expected` and the images beside it do not fit together, without predicting."""
    listed = [image.file for image in expected.pictures]
    present = sorted(name for name in files if name.startswith(GOLDEN_PREFIX) and name != EXPECTED)
    if sorted(listed) != present:
        return [f"golden/expected.json lists {', '.join(listed)}, but there are {', '.join(present)}"]
    return [
        f"{image.file} is not the image that golden/expected.json names"
        for image in expected.pictures
        if bytes_digest(files[image.file]) != image.sha256
    ]


def answer_problems(expected: Expected, policy: Policy) -> list[str]:
    """Return which recorded answers do not follow from the recorded logits; one sentence an image.

    A policy that looks at more than logits may defer anything.
    """
    if not expected.pictures:
        return []
    margins = margin_vector([image.logits for image in expected.pictures])
    reach = _HAIR * (1 + np.abs(margins))
    near = [
        policy.decide(margins + by * reach) if not policy.extras else decisions(margins + by * reach)
        for by in (-1, 0, 1)
    ]
    deferring: set[Decision] = {"defer"} if policy.extras else set()
    return [
        f"{EXPECTED} has {image.file} decided {image.decision} with probability {image.probability:g}, and"
        f" its logits give {probability:g}"
        for image, probability, *possible in zip(
            expected.pictures, positive_probability(margins).tolist(), *near, strict=True
        )
        if abs(image.probability - probability) > _HAIR or image.decision not in {*possible, *deferring}
    ]


def _is_close(logits: tuple[float, float]) -> bool:
    return abs(logits[1] - logits[0]) < 10 * TOLERANCE * max(1.0, *map(abs, logits))
