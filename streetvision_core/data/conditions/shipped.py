"""The profiles that ship.

`camera` is our own choice of what dash cams and phones meet; its constants say how strong, not how often in
anybody's traffic: one who knows better writes a profile of their own.

`natix-crops-2025` is what validators of the StreetVision subnet sent until 2026-04-06, after their code
(natix/utils/image_transforms.py), which was read and not copied. Each of its distortions is drawn anew for
each image among no change and one (level 2) or two (level 3) strengths. Its flips never happen. Chroma 0.4,
0.3; contrast, which is a darkening, 0.85, 0.725; resampling to 1/2, 1/3; blur with kernels of 7 and 9 pixels
and a sixth of that as sigma; noise of variance 0.001 and 0.002, which its scaling to video range makes
sqrt(variance) * 255 * 255 / 219 grey levels of luma.
"""

from __future__ import annotations

import math

from streetvision_core.data.conditions.profile import Level, Operation, Profile


def _level(name: str, **operations: list[float]) -> Level:
    """Return a level of these operations, in this order."""
    named = [Operation.model_validate({operation: strengths}) for operation, strengths in operations.items()]
    return Level(name=name, operations=named)


AS_IS = Profile(name="as_is", dated="2026-11-28")

CAMERA = Profile(
    name="camera",
    dated="2026-11-28",
    size=256,
    quality=85,
    levels=[
        Level(name="day", weight=3),
        _level("night", gain=[0.2, 0.3, 0.45], chroma=[0.4, 0.6], noise=[4, 8]),
        _level("rain", fog=[0.2, 0.4], rain=[2, 4], gain=[0.7, 0.85]),
        _level("fog", fog=[0.8, 1.4, 2.0]),
        _level("motion", motion=[0.02, 0.04, 0.06]),
        _level("dirt", dirt=[6, 12, 20]),
        _level("low_resolution", resample=[2, 3, 4]),
        _level("jpeg", jpeg=[8, 12, 20]),
    ],
)

_CROPPED: dict[str, list[float]] = {"rotate": [-20, 20], "crop": [0.2, 1]}
_NOISE = [math.sqrt(variance) * 255 * 255 / 219 for variance in (0.0, 0.001, 0.002)]
_BLUR = [0, 7 / 6, 9 / 6]

NATIX_CROPS_2025 = Profile(
    name="natix-crops-2025",
    dated="2025-01-01",
    size=224,
    quality=75,
    levels=[
        _level("level0", crop=[1, 1]),
        _level("level1", **_CROPPED),
        _level("level2", **_CROPPED, chroma=[1, 0.4], gain=[1, 0.85], resample=[1, 2]),
        _level(
            "level3",
            **_CROPPED,
            chroma=[1, 0.4, 0.3],
            gain=[1, 0.85, 0.725],
            resample=[1, 2, 3],
            noise=_NOISE,
            blur=_BLUR,
        ),
    ],
)
