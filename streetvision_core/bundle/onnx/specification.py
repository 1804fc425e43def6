"""The specification of `model.onnx`, to the pixel: what goes in, what comes out, and what decides.

It stands in the file itself, as canonical JSON under `METADATA`, and in `onnx.json` beside the proof that the
file computes what the predictor does. It follows from config.json, the policy and the weights alone, so a
bundle whose specification says something else is refused. docs/bundle.md says how to carry it out.

A policy that decides by logits alone decides by the margin, roadwork - none. From one number above 0 upwards
an image is answered roadwork, from another below 0 downwards none, and between the two it is deferred. These
two numbers are the whole policy (`Answers`). A gate with a learned head also looks at features, so the file
holds no decision of it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

import numpy as np
from pydantic import Field, FiniteFloat

from streetvision_core.bundle.layout import LABELS
from streetvision_core.io.manifest import Sha256
from streetvision_core.io.records import Record
from streetvision_core.models.views import find_views

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streetvision_core.eval.decisions import Decision, Policy

METADATA, OPSET, PARITY = "streetvision", 18, 1e-4
PIXELS, LOGITS, PROBABILITY, DECISION = "pixels", "logits", "probability", "decision"
_RESIZES: Final[Mapping[str, Literal["exact", "fit", "shorter_side"]]] = {
    "squash": "exact",
    "border": "fit",
    "center": "shorter_side",
}
_Count = Annotated[int, Field(ge=0)]
_Difference = Annotated[FiniteFloat, Field(ge=0, le=PARITY)]


class Resize(Record):
    """Pillow's `Image.resize` with this filter, to `width` x `height` pixels or as `mode` says.

    `exact` to that size; `shorter_side` so that the shorter side has `height` pixels; `fit` and `fill` so
    that the image fits into that size, or fills it, in its own shape.
    """

    mode: Literal["exact", "shorter_side", "fit", "fill"]
    height: int
    width: int
    filter: str


class Crop(Record):
    """The centre of the resized image; where it is smaller, `fill` (RGB) is put around it."""

    height: int
    width: int
    fill: tuple[int, int, int] | None


class Cells(Record):
    """The views of an image: the whole of it, and `grid` x `grid` crops that share `overlap` of a side."""

    grid: int
    overlap: FiniteFloat


class Answers(Record):
    """The margins, logit(Roadwork) - logit(None), from which on an image is answered.

    Above 0 it is roadwork where it is at least `roadwork_from`, up to 0 it is none where it is at most
    `none_to`; else it is deferred. None: there is no such answer.
    """

    roadwork_from: FiniteFloat | None
    none_to: FiniteFloat | None

    @classmethod
    def of(cls, policy: Policy) -> Self | None:
        """Return the margins of a policy, exact in float32; None where it looks at more than logits."""
        if policy.extras:
            return None
        return cls(roadwork_from=_first(policy, "roadwork", sign=1), none_to=_first(policy, "none", sign=-1))


class Specification(Record):
    """The input and the outputs of `model.onnx`; `mean` and `std` are applied inside of it, to pixels / 255.

    `shape` is that of the pixels, uint8 RGB, where "batch" is any number of images.
    """

    schema_version: Literal[1] = 1
    weights_sha256: Sha256
    label_names: tuple[str, ...]
    shape: tuple[int | str, ...]
    views: Cells | None
    resize: Resize
    crop: Crop
    mean: tuple[FiniteFloat, ...]
    std: tuple[FiniteFloat, ...]
    answers: Answers | None


class Parity(Record):
    """The largest differences between ONNX Runtime and the predictor, on so many images of val_test.

    Logits are compared as golden images are, within `PARITY`, and every decision is one that this
    tolerance can lead to; `decided_otherwise` counts the near-ties in which it did.
    """

    images: Annotated[int, Field(ge=1)]
    logits: FiniteFloat
    probability: _Difference
    decided_otherwise: _Count


class OnnxRecord(Record):
    """`onnx.json`: the specification, and the proof at export with the versions that it was made with."""

    opset: int
    specification: Specification
    parity: Parity
    made_with: dict[str, str]


def specify(config: Mapping[str, Any], policy: Policy, *, weights_sha256: str) -> Specification:
    """Return the specification of a bundle's `config`, its policy and its weights."""
    given, views = config["pretrained_cfg"], find_views(config)
    height, width = given["input_size"][1:]
    scaled = [math.floor(side / given["crop_pct"]) for side in (height, width)]
    mode = _RESIZES[given["crop_mode"]]
    fills = mode == "shorter_side" and scaled[0] != scaled[1]
    red, green, blue = (round(255 * value) for value in given["mean"])
    return Specification(
        weights_sha256=weights_sha256,
        label_names=LABELS,
        shape=("batch", *((views.count,) if views else ()), 3, height, width),
        views=Cells(grid=views.grid, overlap=views.overlap) if views else None,
        resize=Resize(
            mode="fill" if fills else mode, height=scaled[0], width=scaled[1], filter=given["interpolation"]
        ),
        crop=Crop(height=height, width=width, fill=(red, green, blue) if mode == "fit" else None),
        mean=tuple(map(float, given["mean"])),
        std=tuple(map(float, given["std"])),
        answers=Answers.of(policy),
    )


def _first(policy: Policy, answer: Decision, *, sign: int) -> float | None:
    """Return the float32 margin of this sign and of the smallest size that is answered so, if any is.

    Where margins grow the answer stays, so bisecting finds it; the bits of a positive float32 rise with it.
    """

    def is_answered(bits: int) -> bool:
        margin = sign * np.array([bits], np.uint32).view(np.float32)
        return policy.decide(margin.astype(np.float64))[0] == answer

    low, high = 0, int(np.finfo(np.float32).max.view(np.uint32))
    if not is_answered(high):
        return None
    if is_answered(1):  # the smallest there is: no image of this sign is deferred
        return 0.0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_answered(middle) else (middle, high)
    return float(sign * np.array([high], np.uint32).view(np.float32)[0])
