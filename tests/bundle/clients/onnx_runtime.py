"""A client of model.onnx, written from docs/bundle.md: NumPy, Pillow and ONNX Runtime, and nothing else.

`python onnx_runtime.py model.onnx street.jpg ...` prints one JSON line an image.
"""

import json
import math
import sys

import numpy as np
from PIL import Image, ImageOps

DECISIONS = ("none", "roadwork", "defer")


def resized_size(width, height, resize):
    """Return the size that an image is resized to, before the crop."""
    wide, high = resize["width"], resize["height"]
    if resize["mode"] == "exact":
        return wide, high
    if resize["mode"] == "shorter_side":
        return (high, int(high * height / width)) if width <= height else (int(high * width / height), high)
    choose = max if resize["mode"] == "fit" else min
    ratio = choose(width / wide, height / high)
    return round(width / ratio), round(height / ratio)


def see(image, specification):
    """Return what the network sees of an upright RGB image or view: uint8 [3, H, W]."""
    resize, crop = specification["resize"], specification["crop"]
    kernel = getattr(Image.Resampling, resize["filter"].upper())
    image = image.resize(resized_size(*image.size, resize), kernel)
    size = crop["width"], crop["height"]
    if crop["fill"] is not None:
        whole = tuple(max(pair) for pair in zip(image.size, size, strict=True))
        ground = Image.new("RGB", whole, tuple(crop["fill"]))
        ground.paste(image, tuple((w - i) // 2 for w, i in zip(whole, image.size, strict=True)))
        image = ground
    left, top = (round((i - s) / 2) for i, s in zip(image.size, size, strict=True))
    return np.asarray(image.crop((left, top, left + size[0], top + size[1]))).transpose(2, 0, 1)


def spans(side, cells):
    """Return where the cells of a grid begin and end on one side of an image."""
    grid, overlap = cells["grid"], cells["overlap"]
    cell = min(side, max(1, math.ceil(side / (grid - (grid - 1) * overlap) - 1e-9)))
    return [(start, start + cell) for start in (i * (side - cell) // max(1, grid - 1) for i in range(grid))]


def pixels_of(image, specification):
    """Return the pixels of an image: uint8 [3, H, W], or [V, 3, H, W] of its views."""
    image, cells = ImageOps.exif_transpose(image).convert("RGB"), specification["views"]
    if cells is None:
        return see(image, specification)
    boxes = [(x, y, r, b) for y, b in spans(image.height, cells) for x, r in spans(image.width, cells)]
    return np.stack([see(view, specification) for view in (image, *map(image.crop, boxes))])


def main(model, *files):
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    specification = json.loads(session.get_modelmeta().custom_metadata_map["streetvision"])
    names = [output.name for output in session.get_outputs()]
    for file in files:
        with Image.open(file) as image:
            pixels = pixels_of(image, specification)[None]
        first = (output[0] for output in session.run(names, {"pixels": pixels}))
        answer = dict(zip(names, first, strict=True))
        line = {"logits": answer["logits"].tolist(), "probability": float(answer["probability"])}
        decision = {"decision": DECISIONS[answer["decision"]]} if "decision" in answer else {}
        print(json.dumps({**line, **decision}))


if __name__ == "__main__":
    main(*sys.argv[1:])
