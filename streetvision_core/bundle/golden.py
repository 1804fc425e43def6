"""The golden pictures: a few of val_test, as their original bytes, with the logits they must give.

They prove on another machine, after any copy and with any version of a library, that the bundle still
computes what it computed when it was exported. Both classes are there; the choice depends on the
pictures' digests alone. A picture whose margin another machine's rounding could turn is passed over
where there are others.

Logits are compared within an absolute and relative tolerance, because processors round differently in
the last digits and decoders of JPEG differ by a grey level; decisions must be the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, FiniteFloat

from streetvision_core.bundle.evaluation import agrees
from streetvision_core.bundle.layout import EXPECTED, GOLDEN_PREFIX
from streetvision_core.bundle.records import Record
from streetvision_core.errors import BundleError
from streetvision_core.io import bytes_digest, json_bytes
from streetvision_core.io.manifest import Sha256  # noqa: TC001 - records read their annotations

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streetvision_core.bundle.evaluation import TestedPicture
    from streetvision_core.bundle.predictor import Predictor
    from streetvision_core.data.pictures import PictureReader

TOLERANCE = 1e-3
_SUFFIXES = ((b"\xff\xd8\xff", ".jpg"), (b"\x89PNG", ".png"), (b"RIFF", ".webp"), (b"BM", ".bmp"))


class GoldenPicture(Record):
    """One golden picture: its file in the bundle, its name in the splits, and what it must give."""

    file: str
    name: str
    sha256: Sha256
    label: Annotated[int, Field(ge=0, le=1)]
    logits: tuple[FiniteFloat, FiniteFloat]
    probability: Annotated[FiniteFloat, Field(ge=0, le=1)]
    decision: Literal["none", "roadwork"]


class Expected(Record):
    """``golden/expected.json``."""

    tolerance: Annotated[FiniteFloat, Field(gt=0, le=0.1)] = TOLERANCE
    pictures: Annotated[tuple[GoldenPicture, ...], Field(min_length=1)]


def choose_golden(tested: Sequence[TestedPicture], *, count: int) -> list[TestedPicture]:
    """Choose up to ``count`` pictures, half of each label, the clearly decided ones first."""
    ranked = sorted(tested, key=lambda one: (_is_close(one), one.sha256, one.name))
    per_label = {
        label: [one for one in ranked if one.label == label][: (count + label) // 2] for label in (0, 1)
    }
    return sorted((*per_label[0], *per_label[1]), key=lambda one: one.name)


def golden_files(
    predictor: Predictor, tested: Sequence[TestedPicture], *, count: int, pictures: PictureReader
) -> dict[str, bytes]:
    """Return the files of ``golden/``: the pictures, and what ``predictor`` answers for them.

    Raises:
        BundleError: the predictor does not answer what the evaluation recorded.
    """
    chosen = choose_golden(tested, count=count)
    data = [pictures.read(one.name) for one in chosen]
    answers = list(predictor.predict(data))
    files: dict[str, bytes] = {}
    records = []
    for number, (one, content, answer) in enumerate(zip(chosen, data, answers, strict=True), start=1):
        if not agrees((one.logit_none, one.logit_roadwork), one.decision, answer, tolerance=TOLERANCE):
            raise BundleError(
                "an evaluation that this very model and policy made",
                f"{one.name} evaluated as {one.decision} ({one.probability:.4f}),"
                f" but predicted {answer.decision} ({answer.probability:.4f})",
                "the evaluation",
                "Materialize evaluation and bundle again.",
            )
        file = f"{GOLDEN_PREFIX}{number:03d}{_suffix(content)}"
        files[file] = content
        records.append(
            GoldenPicture(
                file=file, name=one.name, sha256=one.sha256, label=one.label,
                logits=answer.logits, probability=answer.probability, decision=answer.decision,
            )
        )  # fmt: skip
    expected = Expected(pictures=tuple(records))
    return {**files, EXPECTED: json_bytes(expected.model_dump(mode="json"))}


def golden_problems(expected: Expected, files: Mapping[str, bytes], predictor: Predictor) -> list[str]:
    """Answer the golden pictures again; return what differs, one sentence a picture."""
    answers = predictor.predict(files[one.file] for one in expected.pictures)
    return [
        f"{one.file} gives the logits ({now.logits[0]:.5f}, {now.logits[1]:.5f}) and {now.decision}"
        f" instead of ({one.logits[0]:.5f}, {one.logits[1]:.5f}) and {one.decision}"
        for one, now in zip(expected.pictures, answers, strict=True)
        if not agrees(one.logits, one.decision, now, tolerance=expected.tolerance)
    ]


def listing_problems(expected: Expected, files: Mapping[str, bytes]) -> list[str]:
    """Return where ``expected`` and the pictures beside it do not fit together, without predicting."""
    listed = [one.file for one in expected.pictures]
    present = sorted(name for name in files if name.startswith(GOLDEN_PREFIX) and name != EXPECTED)
    if sorted(listed) != present:
        return [f"golden/expected.json lists {', '.join(listed)}, but there are {', '.join(present)}"]
    return [
        f"{one.file} is not the picture that golden/expected.json names"
        for one in expected.pictures
        if bytes_digest(files[one.file]) != one.sha256
    ]


def _is_close(one: TestedPicture) -> bool:
    largest = max(1.0, abs(one.logit_none), abs(one.logit_roadwork))
    return abs(one.logit_roadwork - one.logit_none) < 10 * TOLERANCE * largest


def _suffix(data: bytes) -> str:
    for signature, suffix in _SUFFIXES:
        if data.startswith(signature):
            return suffix
    raise BundleError(
        "a golden picture in JPEG, PNG, WebP or BMP",
        f"bytes that start with {data[:4]!r}",
        "golden/",
        "Materialize images again; the picture was indexed by another version.",
    )
