"""The golden pictures: a few of val_test, as their original bytes, with the logits they must give.

They prove on another machine, after any copy and with any version of a library, that the bundle still
computes what it computed when it was exported. Both classes are there; the choice depends on the
pictures' digests alone. A picture whose margin another machine's rounding could turn is passed over
where there are others.

What counts as the same is told in `reproduce`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, FiniteFloat

from streetvision_core.bundle.layout import EXPECTED, GOLDEN_PREFIX
from streetvision_core.bundle.reproduce import TOLERANCE, Recorded, reproduction_problems
from streetvision_core.errors import BundleError
from streetvision_core.eval.decisions import Decision, Record
from streetvision_core.io import bytes_digest, json_bytes
from streetvision_core.io.manifest import Sha256

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streetvision_core.bundle.evaluation import Evaluation, TestedPicture
    from streetvision_core.bundle.predictor import Predictor
    from streetvision_core.data.pictures import PictureReader
    from streetvision_core.eval.decisions import OperatingPoint

_SUFFIXES = ((b"\xff\xd8\xff", ".jpg"), (b"\x89PNG", ".png"), (b"RIFF", ".webp"), (b"BM", ".bmp"))


class GoldenPicture(Record):
    """One golden picture: its file in the bundle, its name in the splits, and what it must give."""

    file: str
    name: str
    sha256: Sha256
    label: Annotated[int, Field(ge=0, le=1)]
    logits: tuple[FiniteFloat, FiniteFloat]
    probability: Annotated[FiniteFloat, Field(ge=0, le=1)]
    decision: Decision


class Expected(Record):
    """``golden/expected.json``."""

    tolerance: Annotated[FiniteFloat, Field(gt=0, le=0.1)] = TOLERANCE
    pictures: Annotated[tuple[GoldenPicture, ...], Field(min_length=1)]


def choose_golden(
    tested: Sequence[TestedPicture], *, point: OperatingPoint, count: int
) -> list[TestedPicture]:
    """Choose up to ``count`` pictures, half of each label, the clearly answered ones first."""
    ranked = sorted(tested, key=lambda one: (_is_close(one.folded(point)), one.sha256, one.name))
    per_label = {
        label: [one for one in ranked if one.label == label][: (count + label) // 2] for label in (0, 1)
    }
    return sorted((*per_label[0], *per_label[1]), key=lambda one: one.name)


def golden_files(
    predictor: Predictor, evaluation: Evaluation, *, count: int, pictures: PictureReader
) -> dict[str, bytes]:
    """Return the files of ``golden/``: the pictures, and what ``predictor`` answers for them.

    Raises:
        BundleError: the predictor does not answer what the evaluation recorded.
    """
    chosen = choose_golden(evaluation.tested, point=predictor.policy.point, count=count)
    data = [pictures.read(one.name) for one in chosen]
    recorded = {one.name: one for one in evaluation.recorded(predictor.policy)}
    problems = reproduction_problems(predictor, [recorded[one.name] for one in chosen], data)
    if problems:
        raise BundleError(
            "an evaluation that this very model and policy made",
            "; ".join(problems[:3]),
            "the evaluation",
            "Materialize evaluation and bundle again.",
        )
    files: dict[str, bytes] = {}
    records = []
    answers = predictor.predict(data)
    for number, (one, content, answer) in enumerate(zip(chosen, data, answers, strict=True), start=1):
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
    return reproduction_problems(
        predictor,
        [Recorded(one.file, one.logits, one.decision) for one in expected.pictures],
        (files[one.file] for one in expected.pictures),
        tolerance=expected.tolerance,
    )


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


def _is_close(logits: tuple[float, float]) -> bool:
    return abs(logits[1] - logits[0]) < 10 * TOLERANCE * max(1.0, *map(abs, logits))


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
