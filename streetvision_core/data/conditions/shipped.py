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

AS_IS = Profile(name="as_is", dated="2026-11-28")

CAMERA = Profile(
    name="camera",
    dated="2026-11-28",
    size=256,
    quality=85,
    levels=[
        Level(name="day", weight=3),
        Level(
            name="night",
            operations=[
                Operation(gain=[0.2, 0.3, 0.45]),
                Operation(chroma=[0.4, 0.6]),
                Operation(noise=[4, 8]),
            ],
        ),
        Level(
            name="rain",
            operations=[Operation(fog=[0.2, 0.4]), Operation(rain=[2, 4]), Operation(gain=[0.7, 0.85])],
        ),
        Level(name="fog", operations=[Operation(fog=[0.8, 1.4, 2.0])]),
        Level(name="motion", operations=[Operation(motion=[0.02, 0.04, 0.06])]),
        Level(name="dirt", operations=[Operation(dirt=[6, 12, 20])]),
        Level(name="low_resolution", operations=[Operation(resample=[2, 3, 4])]),
        Level(name="jpeg", operations=[Operation(jpeg=[8, 12, 20])]),
    ],
)

_CROPPED = [Operation(rotate=[-20, 20]), Operation(crop=[0.2, 1])]
_NOISE = [math.sqrt(variance) * 255 * 255 / 219 for variance in (0.0, 0.001, 0.002)]

NATIX_CROPS_2025 = Profile(
    name="natix-crops-2025",
    dated="2025-01-01",
    size=224,
    quality=75,
    levels=[
        Level(name="level0", operations=[Operation(crop=[1, 1])]),
        Level(name="level1", operations=_CROPPED),
        Level(
            name="level2",
            operations=[
                *_CROPPED,
                Operation(chroma=[1, 0.4]),
                Operation(gain=[1, 0.85]),
                Operation(resample=[1, 2]),
            ],
        ),
        Level(
            name="level3",
            operations=[
                *_CROPPED,
                Operation(chroma=[1, 0.4, 0.3]),
                Operation(gain=[1, 0.85, 0.725]),
                Operation(resample=[1, 2, 3]),
                Operation(noise=_NOISE),
                Operation(blur=[0, 7 / 6, 9 / 6]),
            ],
        ),
    ],
)
