"""The operations on pixels: pure functions of an RGB image, one strength and drawn numbers.

All work on 8-bit values on the CPU. What is drawn comes from `Drawn` alone, whose numbers are promised by
NumPy and by this module never to change, so that the same image, level, draw and seed give the same pixels
everywhere (but for what decoders and encoders of JPEG differ in).

Pillow is taken where it is exact and fast. torchvision's Gaussian blur of 8-bit values takes 8 to 20 ms where
this one, which gives the same values, takes 2.
"""

from __future__ import annotations

import math
from io import BytesIO
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    Operate: TypeAlias = Callable[[Image.Image, float, "Drawn"], Image.Image]

_MIX = np.float32
# From Y, Cb, Cr to R, G, B (ITU-R BT.601), a row each.
_TO_RGB = np.array([[1, 1, 1], [0, -0.344136, 1.772], [1.402, -0.714136, 0]], dtype=_MIX)
# Video range has 219 steps of luma and 224 of chroma: noise of one strength is smaller in chroma by this.
_CHROMA_NOISE = 219 / 224
_SUM_OF_BYTES = 4  # bytes whose sum stands for a normal number: within 1 % of it up to two sigma
_BYTE_SIGMA = math.sqrt(_SUM_OF_BYTES * (256**2 - 1) / 12)
_AIR = 205  # grey of fog
_HORIZON = 0.45  # as share of the height, where nothing better is known
_NEAREST = 0.15  # depth of the lower edge, as share of that of the horizon
_DROP, _WIND = 0.09, 0.25  # length of a streak as share of the height, and how far it leans
_GRIME = (34, 30, 26)


class Drawn:
    """Numbers drawn for one image, in the order they are asked for."""

    def __init__(self, seed: int) -> None:
        self._bits = np.random.PCG64(seed)

    def share(self) -> float:
        """Return a uniform number in [0, 1)."""
        return int(self._bits.random_raw() >> 11) / 2**53

    def between(self, low: float, high: float) -> float:
        """Return a uniform number in [low, high)."""
        return low + (high - low) * self.share()

    def choose(self, values: Sequence[float]) -> float:
        """Return one of the values, each with the same chance."""
        return values[int(self.share() * len(values))]

    def normal(self, *shape: int) -> npt.NDArray[np.float32]:
        """Return nearly normal numbers of mean 0 and deviation 1: sums of four random bytes."""
        count = math.prod(shape)
        words = np.atleast_1d(self._bits.random_raw(-(-count * _SUM_OF_BYTES // 8)))
        # Little-endian on every machine, so that the bytes come in one order.
        octets = words.astype("<u8").view(np.uint8)[: count * _SUM_OF_BYTES].reshape(_SUM_OF_BYTES, count)
        sums = octets.sum(axis=0, dtype=np.int16).astype(np.float32)
        centred: npt.NDArray[np.float32] = (sums - _MIX(_SUM_OF_BYTES * 127.5)) / _MIX(_BYTE_SIGMA)
        return centred.reshape(shape)


def rotate(image: Image.Image, degrees: float, _: Drawn) -> Image.Image:
    """Turn it counter-clockwise about its centre, to the nearest pixel; what comes from outside is black."""
    return image.rotate(degrees, resample=Image.Resampling.NEAREST)


def crop_box(width: int, height: int, shares: tuple[float, float], drawn: Drawn) -> tuple[int, int, int, int]:
    """Return left, upper, right and lower edge of a square of a drawn share of the area.

    As torchvision's RandomResizedCrop with ratio 1: a square that does not fit is drawn again, ten times in
    all; then it is the largest in the centre.
    """
    for _ in range(10):
        side = round(math.sqrt(drawn.between(*shares) * width * height))
        if 0 < side <= min(width, height):
            left = int(drawn.share() * (width - side + 1))
            upper = int(drawn.share() * (height - side + 1))
            return left, upper, left + side, upper + side
    side = min(width, height)
    left, upper = (width - side) // 2, (height - side) // 2
    return left, upper, left + side, upper + side


def gain(image: Image.Image, factor: float, _: Drawn) -> Image.Image:
    """Multiply every value, cut at 255 and rounded down: darkening below 1, which lowers contrast as well."""
    table = [min(255, int(value * factor + 1e-6)) for value in range(256)]
    return image.point(table * 3)


def chroma(image: Image.Image, factor: float, _: Drawn) -> Image.Image:
    """Multiply the distance of every pixel to its grey (ITU-R BT.601)."""
    return ImageEnhance.Color(image).enhance(factor)


def resample(image: Image.Image, factor: float, _: Drawn) -> Image.Image:
    """Shrink to 1/factor of the sides without smoothing, and enlarge again; both bilinear."""
    size = (max(1, int(image.width / factor)), max(1, int(image.height / factor)))
    # A transform takes the nearest two pixels of each axis, where a resize would take the mean of all.
    small = image.transform(size, Image.Transform.EXTENT, (0, 0, *image.size), Image.Resampling.BILINEAR)
    return small.resize(image.size, Image.Resampling.BILINEAR)


def noise(image: Image.Image, sigma: float, drawn: Drawn) -> Image.Image:
    """Add normal noise of `sigma` grey levels to luma, and nearly as much to both chromas."""
    if not sigma:
        return image
    mixed = _TO_RGB * np.array([[sigma], [sigma * _CHROMA_NOISE], [sigma * _CHROMA_NOISE]], dtype=_MIX)
    added = drawn.normal(image.height, image.width, 3).reshape(-1, 3) @ mixed
    return _image(np.asarray(image, dtype=_MIX) + added.reshape(image.height, image.width, 3))


def blur(image: Image.Image, sigma: float, _: Drawn) -> Image.Image:
    """Blur with a Gaussian kernel of 2 * int(3 * sigma) + 1 pixels, mirrored at the edges."""
    radius = min(int(3 * sigma), min(image.size) - 1)
    if not radius:
        return image
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return _image(_convolved(_convolved(np.asarray(image, dtype=_MIX), taps, axis=0), taps, axis=1))


def motion(image: Image.Image, share: float, drawn: Drawn) -> Image.Image:
    """Smear it along one axis, as a turn (twice as often) or a bump does."""
    radius = round(share * min(image.size) / 2)
    axis = 1 if drawn.share() < 2 / 3 else 0
    if not radius:
        return image
    return _image(_convolved(np.asarray(image, dtype=_MIX), np.ones(2 * radius + 1), axis=axis))


def _convolved(
    pixels: npt.NDArray[np.float32], taps: npt.NDArray[np.float64], *, axis: int
) -> npt.NDArray[np.float32]:
    radius, length = len(taps) // 2, pixels.shape[axis]
    edges = [(radius, radius) if number == axis else (0, 0) for number in range(3)]
    padded = np.pad(pixels, edges, mode="reflect")
    total = np.zeros_like(pixels)
    for start, weight in enumerate((taps / taps.sum()).astype(_MIX)):
        total += weight * (padded[start : start + length] if axis == 0 else padded[:, start : start + length])
    return total


def fog(image: Image.Image, density: float, _: Drawn) -> Image.Image:
    """Mix with grey air by exp(-density * depth): whole above the horizon, less towards the lower edge."""
    below = np.linspace(0, 1, image.height, dtype=_MIX)[:, None, None]
    depth = 1 - (1 - _NEAREST) * np.clip((below - _HORIZON) / (1 - _HORIZON), 0, 1)
    seen = np.exp(-density * depth)
    return _image(np.asarray(image, dtype=_MIX) * seen + _AIR * (1 - seen))


def rain(image: Image.Image, density: float, drawn: Drawn) -> Image.Image:
    """Draw `density` streaks per 1,000 pixels, leaning one way, each brighter than what is behind it."""
    streaks = Image.new("L", image.size)
    pen, lean = ImageDraw.Draw(streaks), drawn.between(-_WIND, _WIND)
    for _ in range(round(density * image.width * image.height / 1000)):
        x, y = drawn.share() * image.width, drawn.share() * image.height
        length = drawn.between(0.5, 1.5) * _DROP * image.height
        pen.line((x, y, x + lean * length, y + length), fill=int(drawn.between(60, 150)))
    soft = streaks.filter(ImageFilter.BoxBlur(0.5))
    return Image.composite(Image.new("RGB", image.size, (_AIR,) * 3), image, soft)


def dirt(image: Image.Image, spots: float, drawn: Drawn) -> Image.Image:
    """Lay soft dark spots over it, as mud and dried drops on the lens."""
    side = 64  # spots are soft: they are drawn small
    mask = Image.new("L", (side, side))
    pen = ImageDraw.Draw(mask)
    for _ in range(round(spots)):
        x, y, radius = drawn.share() * side, drawn.share() * side, drawn.between(0.02, 0.09) * side
        stretched = radius * drawn.between(0.7, 1.4)
        pen.ellipse((x - radius, y - stretched, x + radius, y + stretched), fill=int(drawn.between(110, 235)))
    soft = mask.filter(ImageFilter.GaussianBlur(1.5)).resize(image.size, Image.Resampling.BILINEAR)
    return Image.composite(Image.new("RGB", image.size, _GRIME), image, soft)


def jpeg(image: Image.Image, quality: float, _: Drawn) -> Image.Image:
    """Encode as a JPEG with chroma at half the resolution, and decode."""
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=int(quality), subsampling="4:2:0")
    return Image.open(buffer).convert("RGB")


def _image(values: npt.NDArray[np.float32]) -> Image.Image:
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))


# All but the crop, which also gives the image its size.
OPERATIONS: Mapping[str, Operate] = MappingProxyType(
    {
        operate.__name__: operate
        for operate in (rotate, gain, chroma, fog, rain, dirt, motion, blur, resample, noise, jpeg)
    }
)
