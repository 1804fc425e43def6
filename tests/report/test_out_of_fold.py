"""A cross-validation by attributes: the figure inside a source, which the source itself cannot lift."""

from types import SimpleNamespace

import numpy as np
import pytest

from streetvision_core.data import ImageIndex
from streetvision_core.report.out_of_fold import attribute_rows
from streetvision_core.report.plots import plot_set_sizes
from streetvision_core.training.out_of_fold.record import CrossValidation


@pytest.fixture
def result():
    """Of 80 images the model knows the source alone, which tells the label of three in four."""
    labels = np.array([0, 0, 0, 1] * 10 + [1, 1, 1, 0] * 10)
    margins = np.repeat([-1.0, 1.0], 40)
    logits = np.stack([-margins, margins], axis=1).astype(np.float32)[None] / 2
    ids = tuple(f"{number:02d}.png" for number in range(80))
    return CrossValidation(
        ids=ids,
        groups=tuple(f"group {number // 2}" for number in range(80)),
        labels=labels,
        fold=np.arange(80)[None] // 2 % 4,
        logits=logits,
        curve=np.empty((0, 80, 2), np.float32),
        shares=(1.0,),
        trained_on=(40.0,),
        roles=("train", "val_select"),
        method="probe",
    )


@pytest.fixture
def index(result):
    attributes = [{"source": "ab"[number // 40], "frame": str(number)} for number in range(80)]
    images = [
        SimpleNamespace(name=name, attributes=own) for name, own in zip(result.ids, attributes, strict=True)
    ]
    return ImageIndex(tuple(images))


def test_inside_a_source_the_source_says_nothing(result, index):
    rows = attribute_rows(result, index)
    assert result.pooled.mcc == pytest.approx(0.5)
    assert [(row["attribute"], row["value"], row["mcc"]) for row in rows] == [
        ("source", "a", 0.0),
        ("source", "b", 0.0),
    ]
    assert [(row["images"], row["roadwork"], row["groups"]) for row in rows] == [(40, 10, 20), (40, 30, 20)]


def test_the_plot_of_set_sizes_is_a_small_image_even_of_one_size(result):
    drawn = plot_set_sizes(result.rows_of_sizes(), result.rows_of_repeats())
    assert drawn.startswith(b"\x89PNG")
    assert len(drawn) < 60_000
