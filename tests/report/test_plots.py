"""The plots are small valid PNG files, the same twice, and leave matplotlib as it was."""

from __future__ import annotations

import functools
import io
import sys

import numpy as np
import pytest
from PIL import Image

from streetvision_core.errors import DataError
from streetvision_core.eval.metrics import Confusion
from streetvision_core.eval.selective import selective_sweep
from streetvision_core.eval.thresholds import positive_probability
from streetvision_core.report.plots import (
    plot_confusion_matrix,
    plot_mcc_curve,
    plot_risk_coverage,
    plot_training_curve,
)


def scores_and_labels(count=400):
    random = np.random.default_rng(0)
    labels = random.random(count) < 0.4
    return positive_probability(random.normal(0, 2.4, count) + np.where(labels, 3, -3)), labels


def epochs(count):
    return [
        {"epoch": n, "train_loss": 0.7 / n, "val_loss": 0.8 / n, "val_mcc": 0.9 - 0.6 / n}
        for n in range(1, count + 1)
    ]


PLOTS = {
    "training curve": lambda: plot_training_curve(epochs(30)),
    "training curve of one epoch": lambda: plot_training_curve(epochs(1)),
    "training curve without losses": lambda: plot_training_curve([{"epoch": 0, "val_mcc": 0.0}]),
    "MCC curve": lambda: plot_mcc_curve(*scores_and_labels(), 0.5),
    "MCC curve of saturated scores": lambda: plot_mcc_curve([0.0, 1.0], [0, 1], 0.5),
    "confusion matrix": lambda: plot_confusion_matrix(Confusion(tp=120, tn=200, fp=10, fn=30).metrics()),
    "empty confusion matrix": lambda: plot_confusion_matrix(Confusion(0, 0, 0, 0).metrics()),
    "risk and coverage": lambda: plot_risk_coverage(selective_sweep(*scores_and_labels(), threshold=0.5)),
    "risk at one coverage": lambda: plot_risk_coverage(
        selective_sweep(*scores_and_labels(), threshold=0.5, coverages=[1.0])
    ),
}


@functools.cache
def drawn_once(name):
    return PLOTS[name]()


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_is_a_small_png_about_640_pixels_wide_that_shows_something(name):
    data = drawn_once(name)
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(data) <= 40_000
    image = Image.open(io.BytesIO(data))
    image.load()
    assert image.width == 640
    assert 300 <= image.height <= 480
    assert len(image.convert("RGB").getcolors(1 << 20)) > 10


@pytest.mark.parametrize("name", PLOTS)
def test_the_same_numbers_give_the_same_bytes_without_metadata(name):
    data = drawn_once(name)
    assert data == PLOTS[name]()
    assert Image.open(io.BytesIO(data)).info == {}


def test_other_numbers_give_another_image():
    assert plot_training_curve(epochs(30)) != plot_training_curve(epochs(29))
    scores, labels = scores_and_labels()
    assert plot_mcc_curve(scores, labels, 0.5) != plot_mcc_curve(scores, labels, 0.7)


def test_nothing_is_drawn_through_pyplot():
    PLOTS["MCC curve"]()
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_a_plot_of_nothing_is_refused():
    with pytest.raises(DataError, match="at least one row"):
        plot_training_curve([])
    with pytest.raises(DataError, match="at least one row"):
        plot_risk_coverage([])


def test_a_row_without_its_columns_is_refused_by_name():
    with pytest.raises(DataError, match=r"no val_mcc.*row 1 of 2"):
        plot_training_curve([{"epoch": 1, "val_mcc": 0.1}, {"epoch": 2}])
