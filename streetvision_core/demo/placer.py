"""Paints and places that the samplers of works and of everything else share.

Both classes take their orange, red, white and hi-vis yellow from the same paints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streetvision_core.demo.dice import Colour, Dice, colours
from streetvision_core.demo.scene import GREENS, Road, Thing

if TYPE_CHECKING:
    from streetvision_core.demo.canvas import Camera

ORANGES = colours("f0681a e8561e f68022 de4a24")
YELLOWS = colours("f0bc1e eaa822 e2c434")
HI_VIS = colours("d8e832 f46c1c ec6022")
WHITE: Colour = (236, 236, 232)
RED: Colour = (206, 34, 32)
COATS = colours("3c4660 2c2c32 822c32 626e5c b4a896 466e8c 9678a0")
LEAVES = (*GREENS, *GREENS, *colours("ce7028 be5828 d49632"))


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
