"""The report for people: plots as files, and one HTML page that holds everything and loads nothing.

The page is written by a template that escapes whatever it is given, since names of images and values of
attributes come from whoever made the data set. It has no script, and a policy of its own forbids any.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from streetvision_core.escape import for_html
from streetvision_core.eval.metrics import Confusion
from streetvision_core.eval.ranking import risk_coverage_curve
from streetvision_core.report.plots import plot_confusion_matrix
from streetvision_core.report.report_plots import (
    plot_precision_recall,
    plot_reliability,
    plot_risk_coverages,
    plot_roc,
)
from streetvision_core.report.template import PAGE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from streetvision_core.data.decoding.decode import ImageReader
    from streetvision_core.data.index import IndexedImage
    from streetvision_core.report.report import Decided, PolicyReport, Report, Slice, Tested

PAGE_NAME, PLOT_PREFIX = "report.html", "plots/"
MISTAKES_SHOWN = 20
_NAN = float("nan")
# What a plot shows, for those who do not see it; the figures stand in the tables.
_SHOWN_BY = {
    "confusion_matrix.png": "Confusion matrix of the leading policy",
    "risk_coverage.png": "Share of wrong answers against the share of images answered, for each policy",
    "reliability.png": "Reliability diagram: share of roadwork against the mean probability, by bins",
    "roc.png": "ROC curve with the point of each policy",
    "precision_recall.png": "Precision-recall curve with the point of each policy",
    "mistakes.jpg": "The most confident mistakes of the leading policy, listed below",
}


def draw_report(
    tested: Tested,
    decided: Mapping[str, Decided],
    report: Report,
    chosen: Sequence[IndexedImage],
    *,
    pictures: ImageReader,
) -> dict[str, bytes]:
    """Return `report.html` and the plots in it by name.

    Args:
        tested: The images of val_test, as numbers.
        decided: What each policy made of them, by its type.
        report: What was counted.
        chosen: The same images, of the index.
        pictures: Reads their bytes, for the mistakes.
    """
    lead = decided[report.lead.policy.type]
    wrong = _mistakes(tested, lead)[:MISTAKES_SHOWN]
    plots = draw_plots(tested, decided, report)
    if wrong:
        plots["mistakes.jpg"] = _draw_mistakes(tested, lead, wrong, chosen, pictures)
    files = {f"{PLOT_PREFIX}{name}": data for name, data in plots.items()}
    rows = [_mistake_row(tested, decided, lead, position, chosen[position]) for position in wrong]
    return {**files, PAGE_NAME: write_page(report, plots=plots, mistakes=rows).encode()}


def draw_plots(tested: Tested, decided: Mapping[str, Decided], report: Report) -> dict[str, bytes]:
    """Return the plots by name; without both classes there is no ROC and no precision-recall curve."""
    policies, lead = report.policies, decided[report.lead.policy.type]
    margins = np.diff(lead.policy.point.fold(tested.logits), axis=1)[:, 0]
    curves = {
        kind: risk_coverage_curve(one.confidence, one.answers(tested) != tested.labels)
        for kind, one in decided.items()
    }
    plots = {
        "confusion_matrix.png": plot_confusion_matrix(_confusion(report.lead)),
        "risk_coverage.png": plot_risk_coverages(
            curves, points={kind: (one.coverage.share, _risk(one)) for kind, one in policies.items()}
        ),
        "reliability.png": plot_reliability(lead.policy.probabilities(margins), tested.labels),
    }
    if tested.labels.any() and not tested.labels.all():
        stands = {kind: _rates(one) for kind, one in policies.items()}
        plots["roc.png"] = plot_roc(
            margins, tested.labels, at={kind: (one["fpr"], one["recall"]) for kind, one in stands.items()}
        )
        plots["precision_recall.png"] = plot_precision_recall(
            margins,
            tested.labels,
            at={kind: (one["recall"], one["precision"]) for kind, one in stands.items()},
        )
    return plots


def write_page(
    report: Report, *, plots: Mapping[str, bytes], mistakes: Sequence[Mapping[str, object]]
) -> str:
    """Return the report as one HTML page that refers to nothing outside itself."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, finalize=_finalize, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(PAGE).render(
        report=report,
        lead=report.lead,
        policies=report.policies,
        slices=slice_rows(report),
        mistakes=mistakes,
        pictures={name: _data_url(name, data) for name, data in plots.items()},
        told=_SHOWN_BY,
    )


def _finalize(value: object) -> object:
    """Return what the template puts where a value stands: numbers and finished HTML as they are."""
    return for_html(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def policy_rows(report: Report) -> list[dict[str, object]]:
    """Return one row a policy for a table: its coverage, metrics and intervals."""
    return [
        {
            "policy": kind,
            "coverage": one.coverage.share,
            "answered": one.coverage.answered,
            "mcc": one.metrics["mcc"] if one.intervals else "-",
            "mcc 95 %": _range(one, "mcc"),
            "accuracy": one.metrics["accuracy"] if one.intervals else "-",
            "fnr 95 %": _range(one, "fnr"),
            "fpr 95 %": _range(one, "fpr"),
            "augrc": one.ranking.augrc,
        }
        for kind, one in report.policies.items()
    ]


def slice_rows(report: Report) -> list[dict[str, object]]:
    """Return one row a slice of the leading policy, the worst first, and how the others answer there."""
    lead = report.lead
    others = {kind: one for kind, one in report.policies.items() if one is not lead}
    known = {(kind, part.attribute, part.value): part for kind, one in others.items() for part in one.slices}
    return [
        {
            "attribute": part.attribute,
            "value": part.value,
            "n": part.n,
            "accuracy": part.metrics["accuracy"],
            "accuracy 95 %": _accuracy_range(part),
            "mcc": part.metrics["mcc"],
            "misses": part.metrics["fn"],
            "false alarms": part.metrics["fp"],
            **{kind: _answered(known[kind, part.attribute, part.value]) for kind in others},
            "reading": "too small to read" if part.too_small else "",
        }
        for part in lead.slices
    ]


def _mistakes(tested: Tested, decided: Decided) -> list[int]:
    """Return the positions of the wrongly answered images, the most confident mistake first."""
    wrong = np.flatnonzero(decided.answered & (decided.answers(tested) != tested.labels))
    return [int(one) for one in wrong[np.argsort(-decided.confidence[wrong], kind="stable")]]


def _draw_mistakes(
    tested: Tested,
    decided: Decided,
    positions: Sequence[int],
    chosen: Sequence[IndexedImage],
    pictures: ImageReader,
) -> bytes:
    from streetvision_core.data.overview import image_sheet

    shown = [
        (chosen[at], f"{decided.decisions[at]} {_probability(tested, decided, at):.2f}") for at in positions
    ]
    return image_sheet(shown, pictures)


def _mistake_row(
    tested: Tested, decided: Mapping[str, Decided], lead: Decided, position: int, image: IndexedImage
) -> dict[str, object]:
    return {
        "name": image.name,
        "group": image.group,
        "label": "roadwork" if image.label else "none",
        "probability": f"{_probability(tested, lead, position):.3f}",
        **{kind: one.decisions[position] for kind, one in decided.items()},
    }


def _probability(tested: Tested, decided: Decided, position: int) -> float:
    """Probability of roadwork with the operating point folded in, as the bundle gives it."""
    from streetvision_core.eval.thresholds import positive_probability

    folded = decided.policy.point.fold(tested.logits[position : position + 1])
    return float(positive_probability(folded)[0])


def _confusion(one: PolicyReport) -> Confusion:
    counts: dict[str, Any] = {name: int(one.metrics[name]) for name in ("tp", "tn", "fp", "fn")}
    return Confusion(**counts)


def _risk(one: PolicyReport) -> float:
    return 1 - one.metrics["accuracy"] if one.coverage.answered else _NAN


def _rates(one: PolicyReport) -> dict[str, float]:
    answered = one.coverage.answered > 0
    return {name: one.metrics[name] if answered else _NAN for name in ("fpr", "recall", "precision")}


def _range(one: PolicyReport, name: str) -> str:
    if one.intervals is None:
        return "-"
    found = getattr(one.intervals, name)
    return f"{found.low:.3f} to {found.high:.3f}"


def _answered(part: Slice) -> str:
    wrong = part.metrics["fp"] + part.metrics["fn"]
    return f"{part.answered} answered, {wrong} wrong"


def _accuracy_range(part: Slice) -> str:
    return "-" if part.accuracy is None else f"{part.accuracy.low:.3f} to {part.accuracy.high:.3f}"


def _data_url(name: str, data: bytes) -> Markup:
    kind = "png" if name.endswith(".png") else "jpeg"
    return Markup(f"data:image/{kind};base64,{base64.b64encode(data).decode()}")  # noqa: S704 - nothing of it is text
