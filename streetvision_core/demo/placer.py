"""Paints and places that the samplers of works and of everything else share.

Both classes take their orange, red, white and hi-vis yellow from the same paints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streetvision_core.demo.scene import GREENS, Road, Thing

if TYPE_CHECKING:
    from streetvision_core.demo.canvas import Camera
    from streetvision_core.demo.dice import Colour, Dice

ORANGES: tuple[Colour, ...] = ((240, 104, 26), (232, 86, 30), (246, 128, 34), (222, 74, 36))
YELLOWS: tuple[Colour, ...] = ((240, 188, 30), (234, 168, 34), (226, 196, 52))
HI_VIS: tuple[Colour, ...] = ((216, 232, 50), (244, 108, 28), (236, 96, 34))
WHITE: Colour = (236, 236, 232)
RED: Colour = (206, 34, 32)
COATS: tuple[Colour, ...] = (
    (60, 70, 96),
    (44, 44, 50),
    (130, 44, 50),
    (98, 110, 92),
    (180, 168, 150),
    (70, 110, 140),
    (150, 120, 160),
)
LEAVES: tuple[Colour, ...] = (*GREENS, *GREENS, (206, 112, 40), (190, 88, 40), (212, 150, 50))


class Placer:
    """Makes things for one scene: knows where the road's edges are and what the camera sees."""

    def __init__(self, dice: Dice, *, road: Road, camera: Camera) -> None:
        self.dice = dice
        self.road = road
        self.camera = camera

    def sees(self, x: float, z: float) -> bool:
        """Tell whether a place is well inside the width of the image."""
        across = self.camera.vanishing + self.camera.focal * ((x - self.camera.x) / z + self.camera.bend * z)
        return 0.1 < across < 0.9

    def spot(self, low: float, high: float, *, near: float, far: float) -> tuple[float, float]:
        """A visible place whose |x| lies between low and high; the far end of the middle if none is found."""
        for _ in range(12):
            x = self.dice.side() * self.dice.between(low, high)
            z = self.dice.between(near, far)
            if self.sees(x, z):
                return x, z
        return x * 0.6, far

    def thing(
        self,
        kind: str,
        x: float,
        z: float,
        *,
        colour: Colour,
        accent: Colour = WHITE,
        scale: float = 1.0,
        facing: int = 0,
        drift: float = 0.0,
    ) -> Thing:
        """A thing with its own variant, turned either way unless told."""
        return Thing(
            kind=kind,
            x=x,
            z=z,
            scale=scale,
            colour=self.dice.tint(colour),
            accent=self.dice.tint(accent, 6),
            variant=self.dice.whole(0, 2**30),
            facing=facing or self.dice.side(),
            drift=drift,
        )
