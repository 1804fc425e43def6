"""The report for people: plots as files, and one HTML page that holds everything and loads nothing.

The page is written by a template that escapes whatever it is given, since names of images and values of
attributes come from whoever made the data set. It has no script, and a policy of its own forbids any.

The page says at its top what it is of: the model by the digest of its weights, the data by the digests of the
tested images. It is content, which is the same for every run that gives it, so the run stands in the
`manifest.json` beside it.
"""

from __future__ import annotations

import base64
import hashlib
import io
import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from streetvision_core.escape import for_html
from streetvision_core.eval.metrics import BRIEF
from streetvision_core.eval.ranking import risk_coverage_curve
from streetvision_core.report.conditions import CAPTIONS as LEVEL_CAPTIONS
from streetvision_core.report.conditions import draw_levels
from streetvision_core.report.figures import with_interval
from streetvision_core.report.in_use import CAPTIONS, draw_use, expected_rows
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

    from streetvision_core.data.decoding.decode import ImageReader
    from streetvision_core.data.index import IndexedImage
    from streetvision_core.report.report import Decided, PolicyReport, Report, Tested
    from streetvision_core.report.slices import Slice

PAGE_NAME, PLOT_PREFIX = "report.html", "plots/"
MISTAKES_SHOWN, MISTAKE_PIXELS = 12, 360
# What a plot shows, for those who do not see it; the figures stand in the tables.
_SHOWN_BY = {
    "confusion_matrix.png": "Confusion matrix of the leading policy",
    "risk_coverage.png": "Share of wrong answers against the share of images answered, for each policy",
    "reliability.png": "Reliability diagram: share of roadwork against the mean probability, by bins",
    "roc.png": "ROC curve with the point of each policy",
    "precision_recall.png": "Precision-recall curve with the point of each policy",
}


@dataclass(frozen=True)
class Mistake:
    """The most confident mistake in a group: the image as JPEG, and its facts by name.

    `others` counts the further mistakes of the group.
    """

    name: str
    image: bytes
    facts: Mapping[str, str]
    others: int


def draw_report(
    tested: Tested,
    decided: Mapping[str, Decided],
    report: Report,
    chosen: Sequence[IndexedImage],
    *,
    model: Mapping[str, str],
    images: ImageReader,
) -> dict[str, bytes]:
    """Return `report.html` and the plots in it by name.

    Args:
        tested: The images of val_test, as numbers.
        decided: What each policy made of them, by its type.
        report: What was counted.
        chosen: The same images, of the index.
        model: What the classifier is, by name, for the top of the page.
        images: Reads their bytes, for the mistakes.
    """
    lead = decided[report.lead.policy.type]
    wrong = _mistakes(tested, lead)
    # Frames of one place are wrong together: one of them shows it.
    first = {tested.groups[at]: at for at in reversed(wrong)}
    shown = [at for at in wrong if first[tested.groups[at]] == at][:MISTAKES_SHOWN]
    plots = draw_plots(tested, decided, report)
    per_group = Counter(tested.groups[at] for at in wrong)
    mistakes = [
        Mistake(
            chosen[at].name,
            _jpeg(chosen[at], images),
            _mistake_facts(tested, decided, lead, at, chosen[at]),
            per_group[tested.groups[at]] - 1,
        )
        for at in shown
    ]
    page = write_page(report, plots=plots, mistakes=mistakes, identity={**model, **_data(chosen, report)})
    if shown:
        plots["mistakes.jpg"] = _draw_mistakes(tested, lead, shown, chosen, images)
    files = {f"{PLOT_PREFIX}{name}": data for name, data in plots.items()}
    return {**files, PAGE_NAME: page.encode()}


def _data(chosen: Sequence[IndexedImage], report: Report) -> dict[str, str]:
    """Return what the tested images are: their number and groups, and a digest that only they have."""
    digests = "".join(sorted(image.sha256 for image in chosen))
    groups = {image.group for image in chosen}
    named = "no groups known" if report.groups_known is False else f"{len(groups):,} groups"
    return {
        "data": f"{len(chosen):,} images of val_test, {named}; SHA-256 of their sorted SHA-256"
        f" {hashlib.sha256(digests.encode()).hexdigest()[:16]}",
        "run": "named in manifest.json beside this page, with code, configuration and inputs",
    }


def draw_plots(tested: Tested, decided: Mapping[str, Decided], report: Report) -> dict[str, bytes]:
    """Return the plots by name; without both classes there is no ROC and no precision-recall curve."""
    stands = {kind: _stand(result) for kind, result in report.policies.items()}
    lead = decided[report.lead.policy.type]
    margins = np.diff(lead.policy.point.fold(tested.logits), axis=1)[:, 0]
    curves = {
        kind: risk_coverage_curve(outcome.confidence, outcome.answers(tested) != tested.labels)
        for kind, outcome in decided.items()
    }
    plots = {
        "confusion_matrix.png": plot_confusion_matrix(report.lead.metrics),
        "risk_coverage.png": plot_risk_coverages(
            curves,
            points={kind: (metrics["coverage"], 1 - metrics["accuracy"]) for kind, metrics in stands.items()},
        ),
        "reliability.png": plot_reliability(
            lead.policy.probabilities(margins), tested.labels, groups=tested.groups
        ),
    }
    if tested.labels.any() and not tested.labels.all():
        plots["roc.png"] = plot_roc(
            margins,
            tested.labels,
            at={kind: (metrics["fpr"], metrics["recall"]) for kind, metrics in stands.items()},
        )
        plots["precision_recall.png"] = plot_precision_recall(
            margins,
            tested.labels,
            at={kind: (metrics["recall"], metrics["precision"]) for kind, metrics in stands.items()},
        )
    return plots | draw_levels(report) | draw_use(tested, decided, report)


def write_page(
    report: Report, *, plots: Mapping[str, bytes], mistakes: Sequence[Mistake], identity: Mapping[str, str]
) -> str:
    """Return the report as one HTML page that refers to nothing outside itself.

    Args:
        report: The figures.
        plots: The plots by name, and nothing else.
        mistakes: One a group.
        identity: What the figures are of, by name, at the top of the page.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, finalize=_finalize, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(PAGE).render(
        report=report,
        brief=BRIEF,
        lead=report.lead,
        policies=report.policies,
        identity=identity,
        slices=[(part, _others(report, part)) for part in report.lead.slices],
        mistakes=[(mistake, _data_url("jpg", mistake.image)) for mistake in mistakes],
        expected=expected_rows(report.lead),
        plots={name: _data_url(name, data) for name, data in plots.items()},
        levels=report.conditions,
        captions=_SHOWN_BY | LEVEL_CAPTIONS | CAPTIONS,
    )


def _finalize(value: object) -> object:
    """Return what the template puts where a value stands: numbers and finished HTML as they are."""
    return for_html(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def policy_rows(report: Report) -> list[dict[str, object]]:
    """Return one row a policy for a table: its coverage and metrics, with intervals over groups."""
    return [
        {
            "policy": kind,
            "answered": result.coverage.answered,
            "coverage": with_interval(f"{result.coverage.share:.3f}", result.coverage.over_groups),
            **result.cells(),
            "augrc": result.ranking.augrc,
        }
        for kind, result in report.policies.items()
    ]


def slice_rows(report: Report) -> list[dict[str, object]]:
    """Return one row a slice of the leading policy, the worst first, and how the others answer there."""
    return [
        {
            "attribute": part.attribute,
            "value": part.value,
            "n": part.n,
            "groups": part.groups.n if part.groups else "-",
            **part.cells(),
            "misses": part.metrics["fn"],
            "false alarms": part.metrics["fp"],
            **_others(report, part),
            "reading": part.reading,
        }
        for part in report.lead.slices
    ]


def _others(report: Report, part: Slice) -> dict[str, str]:
    """Return how the policies that do not lead answer in the same slice."""
    others = {kind: result for kind, result in report.policies.items() if result is not report.lead}
    return {
        kind: _answered(same)
        for kind, result in others.items()
        for same in result.slices
        if (same.attribute, same.value) == (part.attribute, part.value)
    }


def _mistakes(tested: Tested, decided: Decided) -> list[int]:
    """Return the positions of the wrongly answered images, the most confident mistake first."""
    wrong = np.flatnonzero(decided.answered & (decided.answers(tested) != tested.labels))
    return [int(position) for position in wrong[np.argsort(-decided.confidence[wrong], kind="stable")]]


def _draw_mistakes(
    tested: Tested,
    decided: Decided,
    positions: Sequence[int],
    chosen: Sequence[IndexedImage],
    images: ImageReader,
) -> bytes:
    from streetvision_core.data.overview import image_sheet

    shown = [
        (chosen[at], f"{decided.decisions[at]} {_probability(tested, decided, at):.2f}") for at in positions
    ]
    return image_sheet(shown, images, columns=4, tile=150)


def _jpeg(image: IndexedImage, reader: ImageReader) -> bytes:
    shown, file = reader.image(image.name, at_least=MISTAKE_PIXELS), io.BytesIO()
    shown.thumbnail((MISTAKE_PIXELS, MISTAKE_PIXELS))
    shown.save(file, format="JPEG", quality=80)
    return file.getvalue()


def _mistake_facts(
    tested: Tested, decided: Mapping[str, Decided], lead: Decided, position: int, image: IndexedImage
) -> dict[str, str]:
    return {
        "group": image.group,
        "label": "roadwork" if image.label else "none",
        "probability": f"{_probability(tested, lead, position):.3f}",
        **{kind: outcome.decisions[position] for kind, outcome in decided.items()},
    }


def _probability(tested: Tested, decided: Decided, position: int) -> float:
    """Probability of roadwork with the operating point folded in, as the bundle gives it."""
    from streetvision_core.eval.thresholds import positive_probability

    folded = decided.policy.point.fold(tested.logits[position : position + 1])
    return float(positive_probability(folded)[0])


def _stand(result: PolicyReport) -> dict[str, float]:
    """Return coverage and metrics, NaN where no image was answered: then nothing is drawn."""
    metrics = {
        name: value if result.coverage.answered else math.nan for name, value in result.metrics.items()
    }
    return {**metrics, "coverage": result.coverage.share}


def _answered(part: Slice) -> str:
    wrong = part.metrics["fp"] + part.metrics["fn"]
    return f"{part.answered} answered, {wrong} wrong"


def _data_url(name: str, data: bytes) -> Markup:
    kind = "png" if name.endswith(".png") else "jpeg"
    return Markup(f"data:image/{kind};base64,{base64.b64encode(data).decode()}")  # noqa: S704 - nothing of it is text
