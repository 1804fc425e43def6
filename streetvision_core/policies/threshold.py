"""The threshold policy: what turns a probability of roadwork into a decision, and what it was fitted on.

Two numbers are fitted, each on images of its own: the temperature by NLL on val_select, and the exact best
threshold on val_calib, on the margins of the logits. What it is best at, MCC unless told otherwise, and
where on its plateau it lies is configuration, which the policy records. The policy names the
checkpoint and the logits it was fitted on by their data versions, so that a bundle can prove that its
policy belongs to its weights. `verify_thresholds` fits again and compares.

That threshold is adopted only where it proves better than 0.5 on images that did not choose it, else 0.5
decides; the policy records both (`adoption`). A policy of an older version has adopted it untested.

A recall can be promised about new images (`eval.use.recall`): then val_calib is counted by one roadwork image
of each group, and the policy records that count and the bound which follows from it. Where there are too few
groups every image is called roadwork, and the policy says so and counts as degenerate.

Not promised: the score on val_calib is that of the very images which chose the threshold, so it is
optimistic; the recorded optimism estimates by how much, and val_test says what to expect.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, FiniteFloat, model_validator

from streetvision_core.eval.calibration import fit_temperature_scaling, negative_log_likelihood
from streetvision_core.eval.curves import (
    curve_files,
    curve_problems,
    mcc_rows,
    read_curves,
    risk_coverage_rows,
)
from streetvision_core.eval.decisions import (
    ROUNDING,
    Metrics,
    OperatingPoint,
    decisions,
    differences,
    read_policy,
    same_numbers,
    threshold_between,
)
from streetvision_core.eval.inputs import margin_vector
from streetvision_core.eval.intervals import mcc_group_interval
from streetvision_core.eval.metrics import confusion_by_group, count_confusion
from streetvision_core.eval.selective import (
    CHOSEN,
    SWEEP_COLUMNS,
    SweepRow,
    margin_confidence,
    threshold_sweep,
)
from streetvision_core.eval.thresholds import positive_probability
from streetvision_core.io import Artifact, csv_bytes, read_csv
from streetvision_core.io.manifest import Sha256
from streetvision_core.io.records import Record
from streetvision_core.policies.adoption import Adoption, at_default, choose_threshold, hold_against_default
from streetvision_core.policies.config import EnoughRecall, RecordedThresholds, ThresholdsConfig, as_recorded
from streetvision_core.policies.promised_recall import PromisedRecall, promised_recall
from streetvision_core.recorded import from_recorded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streetvision_core.eval.decisions import Decision, Extras, LabelledLogits
    from streetvision_core.eval.inputs import Floats, Values
    from streetvision_core.io import PublishedArtifact

THRESHOLDS_NAME, SWEEP_NAME = "thresholds.json", "threshold_sweep.csv"
_Positive = Annotated[FiniteFloat, Field(gt=0)]
DEFAULTS = ThresholdsConfig()
_OPTIMISTIC = "The metrics of val_calib are optimistic: the same images chose the threshold."
_AT_DEFAULT = "The metrics of val_calib are those at 0.5, which these images did not choose."
_Share = Annotated[FiniteFloat, Field(ge=0, le=1)]


class FittedOn(Record):
    """The data versions of what the policy was fitted on; val_select's logits are in the checkpoint."""

    phase1_checkpoint: Sha256
    val_calib_logits: Sha256


class SelectFit(Record):
    """The NLL (nats per image) on val_select before and after the temperature."""

    n: int
    nll_before: FiniteFloat
    nll_after: FiniteFloat


class CalibFit(Record):
    """The counts of val_calib and the metrics at the threshold that decides.

    `score` is the objective's, larger is better (a cost has a minus sign; a promised recall is that of its
    units); `optimism` estimates by how much it exceeds the score on other images, 0 where 0.5 decides.
    `metrics` hold the ends of the MCC's interval over groups too, `mcc_low` and `mcc_high`; an older version
    recorded none.
    """

    n: int
    roadwork: int
    none: int
    score: FiniteFloat
    optimism: FiniteFloat
    metrics: Metrics

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        counted = self.metrics
        sizes = (self.roadwork + self.none, counted["tp"] + counted["fn"], counted["tn"] + counted["fp"])
        if sizes != (self.n, self.roadwork, self.none):
            raise ValueError(
                f"{self.n} images with {self.roadwork} of roadwork and {self.none} of none, where the counts"
                f" are of {sizes[1]} and {sizes[2]}"
            )
        return self


class ThresholdPolicy(Record):
    """Roadwork exactly where logit(Roadwork) - logit(None) > margin.

    That is where softmax(logits / temperature)[Roadwork] > threshold, but a probability saturates and a
    margin does not, so the margin is what was fitted and what decides. Every threshold in
    [plateau_low, plateau_high) has the same score on val_calib. `recall` is there where a recall is promised,
    `adoption` where the objective is a score to be improved; an older version recorded none.
    """

    schema_version: Literal[1] = 1
    type: Literal["threshold"] = "threshold"
    temperature: _Positive
    threshold: Annotated[FiniteFloat, Field(gt=0, lt=1)]
    margin: FiniteFloat
    plateau_low: _Share
    plateau_high: _Share
    chosen_by: RecordedThresholds
    fitted_on: FittedOn
    val_select: SelectFit
    val_calib: CalibFit
    recall: PromisedRecall | None = None
    adoption: Adoption | None = None
    note: str = _OPTIMISTIC

    @model_validator(mode="before")
    @classmethod
    def _promise_nothing_older(cls, content: Any) -> Any:
        """Read the recall of an older version as reached on val_calib, and not as promised."""
        if not isinstance(content, dict) or "recall" in content:
            return content
        chosen_by = from_recorded("thresholds", content.get("chosen_by") or {})
        objective = chosen_by.get("objective")
        if not isinstance(objective, dict) or objective.get("kind") != EnoughRecall().kind:
            return content
        return {**content, "chosen_by": {**chosen_by, "objective": {"delta": None, **objective}}}

    @model_validator(mode="after")
    def _promises_what_was_chosen(self) -> Self:
        counted = None if self.recall is None else (self.recall.recall, self.recall.delta)
        if counted != self.chosen_by.promised:
            raise ValueError(f"recall {counted} was counted, where {self.chosen_by.objective} was chosen")
        return self

    @model_validator(mode="after")
    def _follows_from_its_margin(self) -> Self:
        follows = float(positive_probability([self.margin / self.temperature])[0])
        if not same_numbers(self.threshold, follows):
            raise ValueError(f"threshold {self.threshold}, where margin and temperature give {follows}")
        if not self.plateau_low - ROUNDING <= self.threshold <= self.plateau_high + ROUNDING:
            raise ValueError(
                f"threshold {self.threshold} outside its plateau [{self.plateau_low}, {self.plateau_high})"
            )
        if self.recall is None:  # a promised recall is scored on its units alone
            counts = {name: int(self.val_calib.metrics[name]) for name in ("tp", "tn", "fp", "fn")}
            score = float(self.chosen_by.objective.chosen().score(**counts))
            if not same_numbers(self.val_calib.score, score):
                raise ValueError(f"score {self.val_calib.score}, where its counts give {score}")
        return self

    @model_validator(mode="after")
    def _decides_by_what_was_adopted(self) -> Self:
        if self.adoption is None:
            return self
        if not self.chosen_by.improves_a_score:
            raise ValueError(f"{self.chosen_by.objective.kind} is not held against 0.5")
        tuned = (self.adoption.threshold, self.adoption.margin)
        decides = tuned if self.adoption.adopted else (0.5, 0.0)
        if (self.threshold, self.margin) != decides:
            raise ValueError(f"the threshold is {self.threshold}, where {decides[0]} was adopted")
        return self

    @property
    def point(self) -> OperatingPoint:
        """Temperature and threshold, to be folded into the logits."""
        return OperatingPoint(temperature=self.temperature, threshold=self.threshold)

    @property
    def defers(self) -> bool:
        """It answers every image."""
        return False

    @property
    def extras(self) -> tuple[str, ...]:
        """None: the logits are enough."""
        return ()

    def decide(self, logits: Values, _extras: Extras | None = None, /) -> tuple[Decision, ...]:
        """Answer every image by its folded logits [N, 2] or margins [N]."""
        return decisions(logits)

    def confidence(self, logits: Values, _extras: Extras | None = None, /) -> Floats:
        """Distance of folded logits [N, 2] or margins [N] from the operating point, float64 [N]."""
        return np.abs(margin_vector(logits))

    def probabilities(self, logits: Values) -> Floats:
        """Probability of roadwork after the temperature alone, float64 [N], of folded logits or margins."""
        return positive_probability(margin_vector(logits) + self.point.shift)

    def infeasible(self) -> list[str]:
        """Say why a recall that was asked for is not promised, and what it would take."""
        return [self.recall.shortfall()] if self.recall and not self.recall.feasible else []

    def degeneracies(self) -> list[str]:
        """Say why this policy decides nothing: one sentence a reason, none for a useful policy."""
        return self.infeasible() or one_class_only(self.val_calib.metrics, role="val_calib")

    def promise(self) -> str:
        """Say that it answers everything, and what it promises about new images."""
        if self.recall:
            return self.recall.words()
        objective, images = self.chosen_by.objective_in_words, self.val_calib.n
        chosen = (
            f"The threshold is the best by {objective} on {images} calibration images"
            if self.adoption is None
            else self.adoption.words(objective=objective, images=images)
        )
        return (
            f"It answers every image. {chosen}; about new images it promises nothing, and val_test"
            " says what to expect."
        )

    @classmethod
    def from_json(cls, content: Any, *, where: str) -> Self:
        """Read the decoded content of a `thresholds.json` strictly.

        Raises:
            SchemaError: an unknown or missing field, a wrong type, or another schema version.
        """
        return read_policy(cls, content, where=where)


@dataclass(frozen=True)
class Thresholds:
    """The policy, and what would be gained by answering only where the model is sure.

    `curves` are files by name: MCC by threshold, and risk by coverage. What was published before there were
    any has none.

    Round trip: `Thresholds.from_artifact(published)` equals what was published by `to_artifact`.
    """

    policy: ThresholdPolicy
    sweep: tuple[SweepRow, ...]
    curves: Mapping[str, bytes] = field(default_factory=dict)

    def to_artifact(self) -> Artifact:
        """Return `thresholds.json`, `threshold_sweep.csv` and the curves."""
        rows = [row.to_csv_row() for row in self.sweep]
        return Artifact(
            files={
                THRESHOLDS_NAME: self.policy.to_bytes(),
                SWEEP_NAME: csv_bytes(rows, columns=SWEEP_COLUMNS),
                **self.curves,
            },
            metrics={
                "temperature": self.policy.temperature,
                "threshold": self.policy.threshold,
                "val_calib_mcc": self.policy.val_calib.metrics["mcc"],
                "score": self.policy.val_calib.score,
                "optimism": self.policy.val_calib.optimism,
                **({"adopted": int(self.policy.adoption.adopted)} if self.policy.adoption else {}),
                # At the chosen threshold; those at 0.5 are the metrics of the logits.
                **self.policy.val_calib.metrics,
            },
        )

    @classmethod
    def from_artifact(cls, published: PublishedArtifact) -> Self:
        """Read back what `to_artifact` gave."""
        content = published.read_json(THRESHOLDS_NAME)
        return cls(
            policy=ThresholdPolicy.from_json(content, where=str(published.path(THRESHOLDS_NAME))),
            sweep=tuple(map(SweepRow.from_csv_row, read_csv(published.read_bytes(SWEEP_NAME)))),
            curves=read_curves(published),
        )


def fit_threshold_policy(
    select: LabelledLogits,
    calib: LabelledLogits,
    *,
    checkpoint_version: str,
    logits_version: str,
    config: ThresholdsConfig = DEFAULTS,
    groups_known: bool | None = None,
    tested: bool = True,
) -> Thresholds:
    """Fit the temperature on val_select, then the threshold on val_calib.

    Args:
        select: Logits of val_select, which the checkpoint holds.
        calib: Logits of val_calib.
        checkpoint_version: The data version of the checkpoint that gave both.
        logits_version: The data version of the artifact that holds `calib`.
        config: What the threshold is best at and where it lies; recorded in the policy.
        groups_known: Whether the data names groups; a promise says so. None: not recorded.
        tested: False adopts the tuned threshold without holding it against 0.5, as older versions did.

    Raises:
        DataError: logits that are not finite, one class only, or no threshold that answers both classes.
    """
    recipe = as_recorded(RecordedThresholds, config)
    temperature = fit_temperature_scaling(select.logits, select.labels).temperature
    chosen = choose_threshold(calib, recipe)
    choice, optimism, adoption = chosen.choice, chosen.optimism, None
    threshold = threshold_between(choice.threshold / temperature, mcc=choice.mcc, role="val_calib")
    if tested and recipe.improves_a_score:
        adoption = hold_against_default(calib, chosen, threshold=threshold, config=recipe)
        if not adoption.adopted:
            choice, optimism, threshold = at_default(calib, recipe), 0.0, 0.5
    low, high = positive_probability(
        [choice.plateau_low / temperature, choice.plateau_high / temperature]
    ).tolist()
    margins = margin_vector(calib.logits)
    confusion = count_confusion(calib.labels, margins > choice.threshold)
    sure = mcc_group_interval(confusion_by_group(calib.labels, margins > choice.threshold, calib.groups))
    policy = ThresholdPolicy(
        temperature=temperature,
        threshold=threshold,
        margin=choice.threshold,
        plateau_low=low,
        plateau_high=high,
        chosen_by=recipe,
        fitted_on=FittedOn(phase1_checkpoint=checkpoint_version, val_calib_logits=logits_version),
        val_select=_select_fit(select, temperature),
        val_calib=CalibFit(
            n=confusion.total,
            roadwork=confusion.tp + confusion.fn,
            none=confusion.tn + confusion.fp,
            score=choice.score,
            optimism=optimism,
            metrics={**confusion.metrics(), "mcc_low": sure.low, "mcc_high": sure.high},
        ),
        recall=promised_recall(recipe, calib, margin=choice.threshold, groups_known=groups_known),
        adoption=adoption,
        note=_OPTIMISTIC if adoption is None or adoption.adopted else _AT_DEFAULT,
    )
    calibrated = positive_probability(margins / temperature)
    sweep = threshold_sweep(calibrated, calib.labels, threshold=threshold)
    return Thresholds(policy, sweep, _curves(calibrated, calib.labels, threshold=threshold))


def verify_thresholds(
    thresholds: Thresholds, select: LabelledLogits, calib: LabelledLogits, *, groups_known: bool | None = None
) -> list[str]:
    """Fit again on the same logits and return what differs: one sentence a difference, none when equal.

    `groups_known` is what the data says; it is held against a promise that recorded it.
    """
    fitted_on, recall = thresholds.policy.fitted_on, thresholds.policy.recall
    again = fit_threshold_policy(
        select,
        calib,
        checkpoint_version=fitted_on.phase1_checkpoint,
        logits_version=fitted_on.val_calib_logits,
        config=thresholds.policy.chosen_by,
        groups_known=None if recall is None or recall.groups_known is None else groups_known,
        # An older version adopted untested; a recall is never held against 0.5.
        tested=thresholds.policy.adoption is not None,
    )
    differing = differences(thresholds.policy, again.policy)
    if not same_numbers(*_comparable(thresholds.sweep, again.sweep)):
        differing.append("the selective sweep is another when computed again")
    return differing + curve_problems(thresholds.curves, again.curves)


def _curves(probabilities: Floats, labels: Values, *, threshold: float) -> dict[str, bytes]:
    wrong = (probabilities > threshold) != (np.asarray(labels) == 1)
    confidence = margin_confidence(probabilities, threshold=threshold)
    return curve_files(
        {
            "mcc_by_threshold": mcc_rows(probabilities, labels),
            "risk_coverage": risk_coverage_rows(confidence, wrong),
        }
    )


def one_class_only(metrics: Mapping[str, float], *, role: str) -> list[str]:
    """Say that decisions with these counts (tp, fp, tn, fn) are all of one class, if they are."""
    if metrics["tp"] + metrics["fp"] == 0:
        return [f"it calls no image of {role} roadwork"]
    if metrics["tn"] + metrics["fn"] == 0:
        return [f"it calls every image of {role} roadwork"]
    return []


def _select_fit(select: LabelledLogits, temperature: float) -> SelectFit:
    return SelectFit(
        n=len(select.labels),
        nll_before=negative_log_likelihood(select.logits, select.labels),
        nll_after=negative_log_likelihood(select.logits, select.labels, temperature),
    )


def _comparable(recorded: tuple[SweepRow, ...], fitted: tuple[SweepRow, ...]) -> list[list[dict[str, Any]]]:
    """Return the rows of two sweeps as far as the recorded one goes.

    The first schema recorded neither the chosen point nor what its rows are as thresholds.
    """
    if all(row.threshold is None for row in recorded):
        fitted = tuple(row.of_first_schema() for row in fitted if CHOSEN not in row.marks)
    return [[asdict(row) for row in sweep] for sweep in (recorded, fitted)]
