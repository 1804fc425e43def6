"""Released by rule: how bad a shipped policy may be on val_test, and the verdict on it.

The figures are those of the report on that policy: of the images that it answers, under the conditions that
it was tuned for. The bad end of each interval over groups is judged, so that few test images release nothing.
Without any rule the MCC has to be better than chance all the same: a policy that always answers alike keeps
any bound on misses alone. What was not measured, or is called degenerate, is not releasable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from streetvision_core.data.conditions.profile import AS_IT_IS
from streetvision_core.eval.metrics import LABELS
from streetvision_core.io.records import Record
from streetvision_core.models.config import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from streetvision_core.report.report import PolicyReport, Report

RELEASE_NAME = "release.json"
Setting = Literal["min_mcc", "max_fnr", "max_fpr"]
# The metric of each rule.
_METRICS: Final[dict[Setting, str]] = {"min_mcc": "mcc", "max_fnr": "fnr", "max_fpr": "fpr"}


class ReleaseRules(Settings):
    """The rules that a policy has to keep to be released."""

    min_mcc: float = Field(
        0.0, ge=0, lt=1, description="the low end of the MCC's interval has to be above it; 0 is chance"
    )
    max_fnr: float | None = Field(
        None, gt=0, lt=1, description="the high end of the missed share has to be below it; null: no rule"
    )
    max_fpr: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="likewise of the share of false alarms",
    )


class Judged(Record):
    """A limit, and the figure held against it with its interval over groups; None where none was recorded."""

    limit: Annotated[FiniteFloat, Field(ge=0, lt=1)]
    value: FiniteFloat | None = None
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None

    def keeps(self, setting: Setting) -> bool:
        """Tell whether the bad end of the interval is on the good side of the limit."""
        if setting == "min_mcc":
            return self.low is not None and self.low > self.limit
        return self.high is not None and self.high < self.limit

    def text(self, setting: Setting) -> str:
        """Return the figure with its interval, and the limit."""
        side = "above" if setting == "min_mcc" else "below"
        ends = f" ({self.low:.3f} to {self.high:.3f})" if self.low is not None else ""
        return f"{LABELS[_METRICS[setting]]} {self.value:.3f}{ends}, which has to be {side} {self.limit:g}"

    def problem(self, setting: Setting) -> str:
        """Say why the rule is not kept, and what to do about that."""
        if self.value is None:
            why = "no evaluation judged this policy. Materialize evaluation, then bundle"
        elif self.low is None:
            why = (
                f"{LABELS[_METRICS[setting]]} has no interval over groups, because no image was answered or"
                " an older version judged. Look at its coverage, or materialize evaluation again"
            )
        elif self._itself_keeps(setting):
            why = (
                f"{self.text(setting)}: the figure is, the bad end of its interval is not. More test images"
                " from more groups shorten it"
            )
        else:
            relax = "; relax the rule only where its use allows" if self.limit else ""
            why = f"{self.text(setting)}. Look at the weakest slices in the report and train better{relax}"
        return f"{setting} {self.limit:g}: {why}"

    def _itself_keeps(self, setting: Setting) -> bool:
        return Judged(limit=self.limit, low=self.value, high=self.value).keeps(setting)


class Release(Record):
    """`release.json`: each rule with its figure, under which conditions, and the verdict that follows."""

    conditions: str
    rules: dict[Setting, Judged]
    degenerate: bool
    releasable: bool

    @model_validator(mode="after")
    def _follows(self) -> Self:
        if "min_mcc" not in self.rules:
            raise ValueError("no rule min_mcc")
        if self.releasable != (_all_kept(self.rules) and not self.degenerate):
            raise ValueError(f"releasable {self.releasable}, which its rules do not give")
        return self

    @property
    def problems(self) -> list[str]:
        """One sentence for each rule that is not kept, with what to do; none for a releasable policy."""
        return list(self._problems())

    def counts(self) -> dict[str, float]:
        """Return the bad ends of the intervals by metric, as far as they are known."""
        ends = {
            setting: judged.low if setting == "min_mcc" else judged.high
            for setting, judged in self.rules.items()
        }
        return {f"{_METRICS[setting]}_bad_end": end for setting, end in ends.items() if end is not None}

    def _problems(self) -> Iterator[str]:
        for setting in _METRICS:
            judged = self.rules.get(setting)
            if judged is not None and not judged.keeps(setting):
                yield f"{judged.problem(setting)} ({self.conditions})"
        if self.degenerate:
            yield "the policy is degenerate, as bundle.json says: that is exported on request, never released"

    def text(self) -> str:
        """Return the verdict in one line: every rule with its numbers where it is kept, else what fails."""
        if not self.releasable:
            return f"not releasable: {'; '.join(self.problems)}"
        kept = [judged.text(setting) for setting in _METRICS if (judged := self.rules.get(setting))]
        return f"releasable: {'; '.join(kept)} ({self.conditions})"


def judge(rules: ReleaseRules, report: Report | None, kind: str, *, degenerate: bool) -> Release:
    """Hold the policy of this kind against the rules.

    Args:
        rules: The rules.
        report: The report that judged it; None where none did.
        kind: The kind of the policy.
        degenerate: Whether the bundle calls it degenerate.
    """
    tested = report.of(kind) if report else None
    limits: dict[Setting, float | None] = {setting: getattr(rules, setting) for setting in _METRICS}
    judged = {
        setting: _judged(limit, _METRICS[setting], tested)
        for setting, limit in limits.items()
        if limit is not None
    }
    return Release(
        conditions=_conditions(report),
        rules=judged,
        degenerate=degenerate,
        releasable=_all_kept(judged) and not degenerate,
    )


def _all_kept(rules: Mapping[Setting, Judged]) -> bool:
    return all(judged.keeps(setting) for setting, judged in rules.items())


def _judged(limit: float, metric: str, tested: PolicyReport | None) -> Judged:
    if tested is None:
        return Judged(limit=limit)
    interval = tested.interval(metric)
    return Judged(
        limit=limit,
        value=float(tested.metrics[metric]),
        low=interval.low if interval else None,
        high=interval.high if interval else None,
    )


def _conditions(report: Report | None) -> str:
    """Return the title of the profile that the figures of a report are of."""
    levels = report.conditions if report else None
    return levels.profile if levels is not None and levels.tuned else AS_IT_IS
