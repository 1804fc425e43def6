"""A JPEG that lacks some of its data is refused, whatever stands behind it; every sound one is read."""

from __future__ import annotations

import re
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from streetvision_core.data import Reason, UnusableImageError
from streetvision_core.data.decoding.decode import decode, decode_details
from streetvision_core.data.decoding.jpeg import Jpeg

from .inputs import shared_data, shared_input
from .making import encode, scene

END = b"\xff\xd9"
SIZE = (320, 240)


def noisy(seed: int = 1, size: tuple[int, int] = SIZE) -> Image.Image:
    """A scene with grain, so that its data is long."""
    grain = np.random.default_rng(seed).normal(0, 12, (size[1], size[0], 3))
    return Image.fromarray(np.clip(np.asarray(scene(seed, size=size)) + grain, 0, 255).astype(np.uint8))


def jpeg(mode: str = "RGB", **options) -> bytes:
    return encode(noisy().convert(mode), **{"quality": 90, **options})


def refusal(data: bytes, **options) -> Reason:
    with pytest.raises(UnusableImageError) as caught:
        decode(data, **options)
    return caught.value.reason


def scan_of(data: bytes) -> int:
    """The offset at which the data of the first scan begins."""
    return next(segment.end for segment in Jpeg(data).segments if segment.code == 0xDA)


def cut(data: bytes, share: float) -> bytes:
    """The file up to a share of its entropy-coded data."""
    start = scan_of(data)
    return data[: start + int((len(data) - start) * share)]


def segment(code: int, content: bytes) -> bytes:
    return bytes([0xFF, code]) + (len(content) + 2).to_bytes(2, "big") + content


KINDS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "optimised": {"optimize": True},
    "restarts": {"restart_marker_rows": 1},
    "grey": {"mode": "L"},
    "grey progressive": {"mode": "L", "progressive": True},
    "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
    "CMYK": {"mode": "CMYK"},
    "best": {"quality": 100, "subsampling": 0},
    "RGB inside": {"keep_rgb": True},
}


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("kind", KINDS)
def test_data_that_ends_early_is_refused_although_an_end_marker_stands_there(kind, share):
    part = cut(jpeg(**KINDS[kind]), share)
    missing = len(jpeg(**KINDS[kind])) - len(part)
    for closed in (part, part + END, part + bytes(missing) + END, part + b"\xff" * missing + END):
        assert refusal(closed) in (Reason.TRUNCATED, Reason.DAMAGED)
        assert refusal(closed, at_least=40) in (Reason.TRUNCATED, Reason.DAMAGED)


@pytest.mark.parametrize("kind", ["baseline", "best", "4:4:4"])
def test_zeros_over_the_end_are_no_padding(kind):
    """At high quality they decode to more blocks than are missing, so that the image ends before they do."""
    data = jpeg(**KINDS[kind])
    for share in (0.2, 0.6, 0.95):
        part = cut(data, share)
        assert refusal(part + bytes(len(data) - len(part)) + END) in (Reason.TRUNCATED, Reason.DAMAGED)


def test_a_progressive_image_that_ends_between_two_scans_is_refused_while_frequencies_are_missing():
    data = jpeg(progressive=True)
    scans = [segment.start for segment in Jpeg(data).segments if segment.code == 0xDA]
    assert [refusal(data[:start] + END) for start in scans[1:6]] == [Reason.TRUNCATED] * 5


def test_a_component_without_a_scan_is_missing():
    """Sequential, one scan a component: without the last two the image would be grey."""
    data = jpeg(progressive=True).replace(b"\xff\xc2", b"\xff\xc0", 1)
    scans = [segment for segment in Jpeg(data).segments if segment.code == 0xDA]
    scan = bytes([0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0])
    assert Jpeg(data[: scans[0].start] + scan + data[scans[0].end : scans[1].start] + END).lacks_scans
    assert not Jpeg(jpeg()).lacks_scans


@pytest.mark.parametrize("kind", KINDS)
def test_every_sound_jpeg_is_read_as_pillow_reads_it(kind):
    data = jpeg(**KINDS[kind])
    with Image.open(BytesIO(data)) as image:
        assert np.array_equal(np.asarray(decode(data)), np.asarray(image.convert("RGB")))
    assert decode_details(data, at_least=60).image.size == (80, 60)


HARMLESS = {
    "nothing": lambda data: data,
    "trailing text": lambda data: data + b"taken with a phone",
    "trailing zeros": lambda data: data + bytes(5000),
    "a film behind it": lambda data: data + b"\0\0\0\x18ftypmp42" + bytes(2000) + END,
    "another image behind it": lambda data: data + jpeg("L"),
    "no end marker": lambda data: data.removesuffix(END),
    "fill bytes": lambda data: data.replace(b"\xff\xda", b"\xff\xff\xff\xff\xda", 1),
    "bytes between segments": lambda data: data.replace(b"\xff\xdb", b"\x01\x02\x03\xff\xdb", 1),
    "zeros before the end": lambda data: data.removesuffix(END) + bytes(3000) + END,
    "fill before the end": lambda data: data.removesuffix(END) + b"\xff" * 3000 + END,
    "two bytes before the end": lambda data: data.removesuffix(END) + b"\x12\x34" + END,
    "a thumbnail": lambda data: data[:2] + segment(0xE1, b"Exif\0\0" + cut(jpeg("L"), 0.3)) + data[2:],
    "a comment": lambda data: data[:2] + segment(0xFE, b"\xff\xd9\xff\xda") + data[2:],
    "an unknown revision": lambda data: data.replace(b"JFIF\0\x01", b"JFIF\0\x07", 1),
    "an unknown segment": lambda data: data[:2] + segment(0xEB, b"x" * 70) + data[2:],
    "no JFIF": lambda data: data[:2] + data[20:],
}


@pytest.mark.parametrize("kind", ["baseline", "progressive", "restarts", "grey"])
@pytest.mark.parametrize("harm", HARMLESS)
def test_what_harms_nothing_is_no_damage(harm, kind):
    data = HARMLESS[harm](jpeg(**KINDS[kind]))
    assert np.array_equal(np.asarray(decode(data)), np.asarray(decode(jpeg(**KINDS[kind]))))


@pytest.mark.parametrize("harm", sorted(set(HARMLESS) - {"another image behind it"}))
def test_what_harms_nothing_hides_no_damage(harm):
    data = HARMLESS[harm](cut(jpeg(), 0.5) + END)
    assert refusal(data) in (Reason.TRUNCATED, Reason.DAMAGED)


def test_the_number_of_segments_is_bounded():
    assert refusal(b"\xff\xd8" + b"\xff\xe5\0\2" * 30_000 + jpeg()[2:]) is Reason.TOO_LARGE


@pytest.mark.parametrize("code", [0xC3, 0xC9])
def test_a_kind_of_jpeg_that_cannot_be_decoded_is_refused(code):
    assert refusal(re.sub(b"\xff\xc0", bytes([0xFF, code]), jpeg(), count=1)) in (
        Reason.DAMAGED,
        Reason.TRUNCATED,
    )


def test_the_street_images_are_all_read():
    """583 JPEGs of many encoders: not one is refused wrongly, and each has Pillow's pixels."""
    files = sorted(shared_data("streets").rglob("*.jpg"))
    assert len(files) == 583
    for number, path in enumerate(files):
        data = path.read_bytes()
        image = decode(data, at_least=None if number % 10 == 0 else 8)
        if number % 10 == 0:
            with Image.open(BytesIO(data)) as pillow:
                assert np.array_equal(np.asarray(image), np.asarray(pillow.convert("RGB")))


@pytest.mark.parametrize(
    "folder", ["d05_jpeg_tail_zeroed_with_eoi", "d05e_jpeg_cut_then_eoi", "d05f_progressive_cut_then_eoi"]
)
def test_the_broken_jpegs_that_users_met_are_refused(folder):
    root = shared_input(f"05-jpeg-broken-but-ended/{folder}")
    broken, sound = sorted(root.rglob("odd*.jpg")), sorted(root.rglob("p*.jpg"))
    assert [refusal(path.read_bytes()) for path in broken] == [Reason.TRUNCATED] * 4
    assert all(decode(path.read_bytes()).size for path in sound)
