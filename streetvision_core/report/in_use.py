"""The report's section on use: every policy at other shares of roadwork, and its decision curve.

What is expected at another share follows from FNR and FPR on val_test and their intervals, of the images that
the policy answers. The decision curve is of its calibrated probability on all images, answered or not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from streetvision_core.eval.curves import curve_files
from streetvision_core.eval.use.net_benefit import decision_curve
from streetvision_core.eval.use.prevalence import PREVALENCES, Rate, prevalence_rows
from streetvision_core.report.drawing import MUTED, dress, legend_below, look, new_figure, png

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streetvision_core.report.report import Decided, PolicyReport, Report, Tested

    Rows = list[dict[str, Any]]

PREVALENCE_PLOT, BENEFIT_PLOT = "prevalence.png", "net_benefit.png"
_DRAWN = tuple(np.geomspace(0.005, 0.6, 80).tolist())
# The template of the section; a cell is a value between the ends of its interval.
SECTION = """\
{% if expected %}
<h2>Where roadwork is rarer, or more frequent</h2>
<p>What the {{ lead.policy.type }} policy would reach where another share of the images shows roadwork, as
long as roadwork and streets without it look as they do here. It follows from FNR, FPR and the ends of their
intervals.</p>
<table>
<thead><tr><th scope="col">images with roadwork</th><th scope="col">MCC</th><th scope="col">precision</th>
<th scope="col">called roadwork</th></tr></thead>
<tbody>
{% for row in expected %}
<tr><td data-name="images with roadwork">{{ share(row.prevalence) }}{% if row.here %} (val_test){% endif %}
</td>
{% for name, head in (("mcc", "MCC"), ("precision", "precision"), ("alarm_rate", "called roadwork")) %}
{{ figure(head, row[name], {"low": row[name ~ "_low"], "high": row[name ~ "_high"]}) }}
{% endfor %}</tr>
{% endfor %}
</tbody>
<caption>Of the images that the policy answers. A threshold for a declared share is a setting of thresholds:
objective: {mcc: {prevalence: 0.05}}.</caption>
</table>
{% endif %}
{% if "net_benefit.png" in plots %}
<h2>What acting on it is worth</h2>
<p>Whoever acts above a probability t holds a missed roadwork for (1 - t) / t times as bad as a false alarm.
The classifier is worth its use where its curve is above acting on everything and above acting on nothing. The
net benefit is that of val_test: it changes with the share of roadwork, and has no interval here.</p>
{% endif %}
<div class="plots">
{% for name in ("prevalence.png", "net_benefit.png") %}
{% if name in plots %}<figure><img src="{{ plots[name] }}" alt="{{ captions[name] }}"></figure>{% endif %}
{% endfor %}
</div>
"""
CAPTIONS = {
    PREVALENCE_PLOT: "Expected MCC and precision of each policy against the share of images with roadwork",
    BENEFIT_PLOT: "Net benefit of each policy against the threshold probability, acting always and never",
}


def expected_rows(result: PolicyReport, prevalences: Sequence[float] = PREVALENCES) -> Rows:
    """Return what a policy is expected to reach at each prevalence, and at that of the images it answered.

    `here` marks the latter. Of answers to one label alone nothing follows: no rows.
    """
    roadwork = result.metrics["tp"] + result.metrics["fn"]
    answered = roadwork + result.metrics["tn"] + result.metrics["fp"]
    if result.intervals is None or not 0 < roadwork < answered:
        return []
    rates = [
        Rate(result.metrics[name], interval.low, interval.high)
        for name, interval in (("fnr", result.intervals.fnr), ("fpr", result.intervals.fpr))
    ]
    here = roadwork / answered
    rows = prevalence_rows(rates[0], rates[1], prevalences=sorted({*prevalences, here}))
    return [{**row, "here": row["prevalence"] == here} for row in rows]


def tabulate_use(tested: Tested, decided: Mapping[str, Decided], report: Report) -> dict[str, bytes]:
    """Return `curves/prevalence.csv` and `curves/net_benefit.csv`, a row a policy and point."""
    rows = {
        "prevalence": {kind: expected_rows(result) for kind, result in report.policies.items()},
        "net_benefit": _benefits(tested, decided),
    }
    return curve_files(
        {
            name: [{"policy": kind, **row} for kind, own in by_policy.items() for row in own]
            for name, by_policy in rows.items()
        }
    )


def draw_use(tested: Tested, decided: Mapping[str, Decided], report: Report) -> dict[str, bytes]:
    """Return the plots of the section by name; a policy that answers one label alone is in one of them."""
    expected = {
        kind: rows for kind, result in report.policies.items() if (rows := expected_rows(result, _DRAWN))
    }
    plots = {BENEFIT_PLOT: plot_net_benefit(_benefits(tested, decided))}
    return plots | ({PREVALENCE_PLOT: plot_prevalence(expected)} if expected else {})


def plot_prevalence(expected: Mapping[str, Rows]) -> bytes:
    """Draw MCC and precision against the share of roadwork, a line a policy, the first with its interval."""
    figure = new_figure(height=4.2)
    for axes, (name, title) in zip(
        figure.subplots(1, 2), (("mcc", "MCC"), ("precision", "Precision")), strict=True
    ):
        for position, (kind, rows) in enumerate(expected.items()):
            series, x = look(position), [row["prevalence"] for row in rows]
            line = {"color": series.colour, "linestyle": series.style, "linewidth": series.width}
            axes.plot(x, [row[name] for row in rows], label=kind, **line)
            if position == 0:
                ends = ([row[f"{name}_{end}"] for row in rows] for end in ("low", "high"))
                axes.fill_between(x, *ends, color=series.colour, alpha=0.15, label=f"{kind}, interval")
            here = next(row for row in rows if row["here"])
            axes.plot(
                here["prevalence"], here[name], series.marker, color=series.colour, markersize=series.size
            )
        axes.set_xscale("log")
        axes.set_ylim(min(0.0, *axes.get_ylim()), 1.03)
        axes.set_xticks([0.01, 0.05, 0.2, 0.5], ["1%", "5%", "20%", "50%"])
        dress(axes, title=f"{title}, val_test marked", x="share of images with roadwork")
    legend_below(figure, axes, columns=2)
    return png(figure)


def plot_net_benefit(benefits: Mapping[str, Rows]) -> bytes:
    """Draw the net benefit against the threshold probability, a line a policy, beside always and never."""
    figure = new_figure(height=4.2)
    axes = figure.subplots()
    rows: Rows = []
    for position, (kind, rows) in enumerate(benefits.items()):
        series = look(position)
        line = {"color": series.colour, "linestyle": series.style, "linewidth": series.width}
        axes.plot(
            [row["threshold"] for row in rows], [row["net_benefit"] for row in rows], label=kind, **line
        )
    always = [row["act_always"] for row in rows]
    axes.plot(
        [row["threshold"] for row in rows], always, color=MUTED, linestyle="--", label="act on everything"
    )
    axes.axhline(0, color=MUTED, linewidth=1, linestyle=":", label="act on nothing")
    highest = max(row["net_benefit"] for own in benefits.values() for row in own)
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.25 * max(highest, 0.04), 1.1 * max(highest, 0.04))
    dress(axes, title="Decision curve", x="probability above which one acts", y="net benefit")
    legend_below(figure, axes, columns=2)
    return png(figure)


def _benefits(tested: Tested, decided: Mapping[str, Decided]) -> dict[str, Rows]:
    return {
        kind: decision_curve(
            outcome.policy.probabilities(outcome.policy.point.fold(tested.logits)), tested.labels
        )
        for kind, outcome in decided.items()
    }
