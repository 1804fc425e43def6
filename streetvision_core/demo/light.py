"""Time of day and weather: what they do to colours, and how far one can see.

A `Light` is sampled once a sequence. Everything is lit while it is drawn: a surface takes the
ambient colour, plus the car's own headlights where it is dark, and fades into the haze with its
distance. Lamps, windows and signals shine by themselves, they take only the haze.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streetvision_core.demo.dice import colours

if TYPE_CHECKING:
    from streetvision_core.demo.dice import Colour, Dice

TIMES_OF_DAY = ("day", "dusk", "night")
WEATHERS = ("clear", "rain", "fog")


@dataclass(frozen=True, slots=True)
class Light:
    """The light of one sequence; colours are RGB 0..255, ambient is a factor for each channel."""

    time_of_day: str
    weather: str
    zenith: Colour
    horizon: Colour
    ambient: tuple[float, float, float]
    headlights: float
    visibility: float
    shadow: float
    cloudiness: float
    sun: tuple[float, float]

    @property
    def lamps_on(self) -> bool:
        """True if street lamps and windows shine."""
        return self.time_of_day != "day"

    def shade(
        self, colour: Colour, distance: float, *, light: float = 1.0, reflective: bool = False
    ) -> Colour:
        """The colour of a surface at a distance in metres, lit from outside."""
        beam = 0.0
        if self.headlights:
            beam = self.headlights * math.exp(-distance / (60.0 if reflective else 22.0))
            if reflective:
                beam *= 1.6
        clear = math.exp(-distance / self.visibility)
        veil = 1.0 - clear
        light *= clear
        red, green, blue = self.ambient
        haze = self.horizon
        return (
            min(255, int(colour[0] * light * (red + beam) + haze[0] * veil)),
            min(255, int(colour[1] * light * (green + beam) + haze[1] * veil)),
            min(255, int(colour[2] * light * (blue + beam) + haze[2] * veil)),
        )

    def shine(self, colour: Colour, distance: float) -> Colour:
        """The colour of something that gives light by itself."""
        clear = math.exp(-distance / (1.6 * self.visibility))
        red, green, blue = (
            int(level * clear + haze * (1.0 - clear))
            for level, haze in zip(colour, self.horizon, strict=True)
        )
        return red, green, blue


def _skies(text: str) -> tuple[tuple[Colour, ...], ...]:
    return tuple(colours(sky) for sky in text.split(", "))


# Zenith and horizon of each sky.
_SKIES = {
    "day": _skies("4a8ad8 c4def3, 68a6e2 e2eaee, 3a78be eee2c8, 96acc4 d6dce2"),
    "dusk": _skies("3a4280 f69e66, 544a88 e88480, 2e4878 deb08c, 463c60 c4785c"),
    "night": _skies("0a0e26 2a2e4a, 060814 3a3032, 10162c 1e2842"),
}
_GREYS = {
    "day": colours("808a96 babfc4"),
    "dusk": colours("4c4c62 a88c8a"),
    "night": colours("0e101a 30323e"),
}
_AMBIENT: dict[str, tuple[float, float, float]] = {
    "day": (1.0, 0.99, 0.97),
    "dusk": (0.76, 0.62, 0.62),
    "night": (0.27, 0.28, 0.38),
}


def sample_light(dice: Dice) -> Light:
    """Draw the light of one sequence: half of them by day, six in ten in clear weather."""
    time_of_day = dice.pick(("day", "day", "dusk", "night"))
    weather = dice.pick(("clear", "clear", "clear", "rain", "fog"))
    zenith, horizon = dice.pick(_SKIES[time_of_day])
    grey_zenith, grey_horizon = _GREYS[time_of_day]
    if weather == "rain":
        zenith, horizon = grey_zenith, grey_horizon
    elif weather == "fog":
        zenith = horizon = grey_horizon
    dimmed = {"clear": 1.0, "rain": 0.8, "fog": 0.9}[weather] * dice.between(0.82, 1.08)
    red, green, blue = _AMBIENT[time_of_day]
    warmth = dice.between(-0.06, 0.06)
    visibility = {"clear": dice.between(220, 600), "rain": dice.between(80, 160), "fog": dice.between(30, 60)}
    return Light(
        time_of_day=time_of_day,
        weather=weather,
        zenith=dice.tint(zenith, 12),
        horizon=dice.tint(horizon, 12),
        ambient=(red * dimmed * (1 + warmth), green * dimmed, blue * dimmed * (1 - warmth)),
        headlights={"day": 0.0, "dusk": 0.25, "night": 0.7}[time_of_day],
        visibility=visibility[weather],
        shadow=0.62 if (time_of_day, weather) == ("day", "clear") else 0.78,
        cloudiness=dice.between(0, 1) if weather == "clear" else dice.between(0.5, 1),
        sun=(dice.between(-0.1, 1.1), dice.between(0.04, 0.3)),
    )
