"""The reports of an adaptation: the line shown for an epoch, and the verdict on the adapted weights.

`Verdict` compares two linear probes, one on the features of the starting weights and one on those of the
adapted ones, by what they say of val_select. The adapted weights are taken only where the MCC is larger than
exchanging the two by groups would often make it (`eval/paired.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streetvision_core.eval.paired import PairedComparison
    from streetvision_core.training.report import Timing


@dataclass(frozen=True)
class AdaptationEpoch:
    """An epoch of an adaptation, counted from 1; `loss` is the mean over its steps, in nats."""

    epoch: int
    loss: float
    timing: Timing

    def __str__(self) -> str:
        return f"adaptation, epoch {self.epoch}/{self.timing.epochs}: loss {self.loss:.4f}, {self.timing}"


@dataclass(frozen=True)
class Verdict:
    """The verdict on the adapted weights; `compared` has the starting weights as A."""

    compared: PairedComparison

    @property
    def adopted(self) -> bool:
        """True if the probe improves beyond its interval."""
        return self.compared.better == "B"

    def __str__(self) -> str:
        figures = (
            f"a linear probe has MCC {self.compared.mcc_b:.3f} on val_select after it and"
            f" {self.compared.mcc_a:.3f} before"
        )
        interval = self.compared.interval
        if interval is not None:
            figures += f", {self.compared.mcc_difference:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"
        if self.adopted:
            return f"The adapted weights are taken: {figures}."
        return f"The starting weights go on: {figures}; {self._reason()}."

    def to_record(self) -> dict[str, Any]:
        """Return the figures as JSON."""
        interval = self.compared.interval
        return {
            "adopted": self.adopted,
            "sentence": str(self),
            "probe_mcc_before": self.compared.mcc_a,
            "probe_mcc_after": self.compared.mcc_b,
            "probe_mcc_difference": self.compared.mcc_difference,
            "interval": None if interval is None else [interval.low, interval.high],
            "level": None if interval is None else interval.level,
            "differing_groups": self.compared.differing_groups,
            "probe_pictures": self.compared.n,
        }

    def _reason(self) -> str:
        if self.compared.better == "A":
            return "they are the better ones"
        if self.compared.too_few:
            groups = self.compared.differing_groups
            return f"no difference can be told, the probes differ in {groups} groups"
        return f"no difference can be told, p = {self.compared.p_value:.2g}"
