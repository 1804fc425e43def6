"""The plots of the report: small PNG files, the same twice, of the curves that scikit-learn draws."""

from __future__ import annotations

import functools
import io
import math

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics as oracle

from streetvision_core.errors import DataError
from streetvision_core.eval.curves import thin
from streetvision_core.eval.ranking import precision_recall_curve, risk_coverage_curve, roc_curve
from streetvision_core.eval.thresholds import positive_probability
from streetvision_core.report import drawing, report_plots
from streetvision_core.report.report_plots import (
    plot_precision_recall,
    plot_reliability,
    plot_risk_coverages,
    plot_roc,
)

NOTHING = (0.0, math.nan)


@functools.cache
def margins_and_labels(count=300):
    random = np.random.default_rng(count)
    labels = np.arange(count) % 5 < 2
    return random.normal(0, 2, count) + np.where(labels, 2.9, -2.9), labels


def probabilities(count=300):
    margins, labels = margins_and_labels(count)
    return positive_probability(margins), labels


def curves(count=300):
    margins, labels = margins_and_labels(count)
    wrong = (margins > 0) != labels
    noise = np.random.default_rng(1).normal(0, 1, count)
    confidences = {"threshold": abs(margins), "gate": abs(margins) + noise, "scrc": abs(margins)}
    return {name: risk_coverage_curve(confidence, wrong) for name, confidence in confidences.items()}


AT = {"threshold": (0.06, 0.93), "gate": (0.02, 0.97), "scrc": (0.02, 0.97)}
POINTS = {"threshold": (1.0, 0.06), "gate": (0.8, 0.02), "scrc": NOTHING}
PLOTS = {
    "reliability": lambda: plot_reliability(*probabilities(), groups=np.arange(300)),
    "reliability of many": lambda: plot_reliability(*probabilities(100_000), groups=np.arange(100_000) // 3),
    "reliability of one class": lambda: plot_reliability([0.1, 0.9, 1.0], [1, 1, 1], groups=["a", "b", "c"]),
    "reliability of one image": lambda: plot_reliability([0.0], [0], groups=["a"]),
    "ROC": lambda: plot_roc(*margins_and_labels(), at=AT),
    "ROC of many": lambda: plot_roc(*margins_and_labels(100_000), at=AT),
    "ROC of nothing told apart": lambda: plot_roc([0, 0], [0, 1], at={"threshold": (1.0, 0.0)}),
    "ROC without policies": lambda: plot_roc([0, 1], [0, 1], at={}),
    "ROC of a policy that defers everything": lambda: plot_roc([0, 1], [0, 1], at={"scrc": NOTHING}),
    "precision and recall": lambda: plot_precision_recall(*margins_and_labels(), at=AT),
    "precision and recall of many": lambda: plot_precision_recall(*margins_and_labels(100_000), at=AT),
    "risk and coverage": lambda: plot_risk_coverages(curves(), points=POINTS),
    "risk and coverage of many": lambda: plot_risk_coverages(curves(100_000), points=POINTS),
    "risk and coverage of one image": lambda: plot_risk_coverages(
        {"threshold": risk_coverage_curve([1.0], [0])}, points={}
    ),
}


@functools.cache
def drawn_once(name):
    return PLOTS[name]()


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_is_a_small_png_640_pixels_wide_that_shows_something(name):
    data = drawn_once(name)
    assert len(data) <= 60_000
    image = Image.open(io.BytesIO(data))
    image.load()
    assert (image.format, image.width, image.info) == ("PNG", 640, {})
    assert 300 <= image.height <= 500
    assert len(image.convert("RGB").getcolors(1 << 20)) > 10


@pytest.mark.parametrize("name", PLOTS)
def test_the_same_numbers_give_the_same_bytes(name):
    assert drawn_once(name) == PLOTS[name]()


@pytest.fixture
def figures(monkeypatch):
    """Keep every figure that is drawn."""
    kept = []

    def keep(**how):
        kept.append(drawing.new_figure(**how))
        return kept[-1]

    monkeypatch.setattr(report_plots, "new_figure", keep)
    return kept


@pytest.mark.parametrize("name", PLOTS)
def test_no_word_and_no_mark_is_cut_off_at_an_edge(name, figures):
    PLOTS[name]()
    drawn, (width, height) = figures[0].get_tightbbox(), figures[0].get_size_inches()
    assert 0 < drawn.x0 < drawn.x1 < width
    assert 0 < drawn.y0 < drawn.y1 < height


def curve_of(axes):
    return axes.lines[0].get_data()


@pytest.mark.parametrize("digits", [0, 1, 12])
def test_the_points_of_the_roc_curve_are_those_of_scikit_learn(digits, figures):
    margins, labels = margins_and_labels()
    scores = np.round(margins, digits)
    plot_roc(scores, labels, at=AT)
    false_alarms, recalls, _ = oracle.roc_curve(labels, scores, drop_intermediate=False)
    for axes in figures[0].axes:
        np.testing.assert_allclose(curve_of(axes), (false_alarms, recalls), rtol=1e-12)
    area = oracle.roc_auc_score(labels, scores)
    assert figures[0].axes[0].get_title(loc="left") == f"ROC: AUROC {area:.4f}"


@pytest.mark.parametrize("digits", [0, 1, 12])
def test_the_steps_of_precision_and_recall_are_those_of_scikit_learn(digits, figures):
    margins, labels = margins_and_labels()
    scores = np.round(margins, digits)
    plot_precision_recall(scores, labels, at=AT)
    precision, recall, _ = oracle.precision_recall_curve(labels, scores)
    x, y = curve_of(figures[0].axes[0])
    # scikit-learn makes a last point up, precision 1 at recall 0.
    np.testing.assert_allclose((x[1::2], y[1::2]), (recall[-2::-1], precision[-2::-1]), rtol=1e-12)
    np.testing.assert_array_equal((x[2::2], y[2::2]), (x[1:-1:2], y[3::2]))
    area = oracle.average_precision_score(labels, scores)
    assert figures[0].axes[0].get_title(loc="left") == f"Average precision {area:.4f}"
    assert np.trapezoid(y, x) == pytest.approx(area)


def test_the_enlarged_corner_holds_every_policy(figures):
    for at in (AT, {"bad": (0.7, 0.2)}, {"perfect": (0.0, 1.0)}, {"far": (0.01, 0.5)}, {}):
        plot_roc([0, 1, 2, 3], [0, 1, 0, 1], at=at)
        corner = figures[-1].axes[1]
        (left, right), (low, high) = corner.get_xlim(), corner.get_ylim()
        assert all(left < x < right and low < y < high for x, y in at.values())


def test_policies_keep_their_look_and_are_named_with_what_they_reach(figures):
    plot_roc(*margins_and_labels(), at=AT)
    plot_risk_coverages(curves(), points=POINTS)
    roc, risk = (
        {line.get_label(): line for line in figure.axes[0].lines if not line.get_label().startswith("_")}
        for figure in figures
    )
    assert list(roc) == [
        "threshold: FPR 6.0%, recall 93.0%",
        "gate: FPR 2.0%, recall 97.0%",
        "scrc: FPR 2.0%, recall 97.0%",
    ]
    names = [f"{name}: AUGRC {curve.augrc:.4f}" for name, curve in curves().items()]
    assert list(risk) == [
        *names,
        "threshold: answers 100.0%, 6.00% wrong",
        "gate: answers 80.0%, 2.00% wrong",
        "scrc: answers nothing",
    ]
    for figure, named in zip(figures, (roc, risk), strict=True):
        assert [text.get_text() for text in figure.legends[0].get_texts()] == list(named)
    looks = [(line.get_color(), line.get_marker()) for line in roc.values()]
    assert looks == [(line.get_color(), line.get_marker()) for line in list(risk.values())[3:]]
    assert [colour for colour, _ in looks] == [line.get_color() for line in list(risk.values())[:3]]
    assert len({line.get_linestyle() for line in list(risk.values())[:3]}) == 3


def test_the_bars_of_a_bin_are_its_interval_over_groups(figures):
    plot_reliability([0.55, 0.56, 0.57, 0.58, 0.9], [0, 1, 1, 1, 1], groups=list("abcde"))
    (segments,) = (bars.get_segments() for bars in figures[0].axes[0].collections)
    # Of 3 in 4 Clopper and Pearson's interval is (.1941, .9937); of one group a share can be anything.
    np.testing.assert_allclose([segment[:, 1] for segment in segments], [[0.1941, 0.9937], [0, 1]], atol=1e-4)
    np.testing.assert_allclose([segment[:, 0] for segment in segments], [[0.565, 0.565], [0.9, 0.9]])
    assert [bar.get_height() for bar in figures[0].axes[1].patches] == [4, 1]


@pytest.mark.parametrize("plot", [plot_roc, plot_precision_recall])
def test_one_class_has_no_curve_and_is_a_paragraph(plot):
    with pytest.raises(DataError, match="images of both classes to measure how scores rank them"):
        plot([0.1, 0.2], [1, 1], at={})


def test_a_plot_of_no_curves_is_refused():
    with pytest.raises(DataError, match="at least one row to draw"):
        plot_risk_coverages({}, points={})


@pytest.mark.parametrize("make", [roc_curve, precision_recall_curve])
def test_a_thinned_curve_covers_the_same_heights_in_each_column(make):
    x, y = make(*margins_and_labels(100_000))
    few_x, few_y = thin(x, y)
    assert few_x.size <= 1000
    assert (few_x[0], few_y[0], few_x[-1], few_y[-1]) == (x[0], y[0], x[-1], y[-1])
    assert set(zip(few_x.tolist(), few_y.tolist(), strict=True)) <= set(
        zip(x.tolist(), y.tolist(), strict=True)
    )
    column, few = (np.minimum((some - x[0]) / (x[-1] - x[0]) * 250, 249).astype(int) for some in (x, few_x))
    for extreme in (np.min, np.max):
        for place in np.unique(column):
            assert extreme(y[column == place]) == extreme(few_y[few == place])


def test_a_short_curve_and_one_without_width_stay_whole_or_their_extremes():
    x = np.arange(1000.0)
    assert thin(x, x)[0] is x
    few_x, few_y = thin(np.ones(5000), np.sin(np.arange(5000.0)))
    assert few_x.size <= 4
    assert (few_y.min(), few_y.max()) == (np.sin(np.arange(5000.0)).min(), np.sin(np.arange(5000.0)).max())
