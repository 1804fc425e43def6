"""Everything that judges decisions: metrics, the threshold, selective answers, calibration, promises.

Importing this needs NumPy only; SciPy is imported by the functions that use it. What is not named here is
imported from its own module. Roadwork is class 1, and it is decided exactly where its probability is greater
than the threshold.
"""

from streetvision_core.eval.metrics import compute_all_metrics, compute_mcc
from streetvision_core.eval.risk_control import certify_selective_risk
from streetvision_core.eval.thresholds import select_threshold_max_mcc

__all__ = ["certify_selective_risk", "compute_all_metrics", "compute_mcc", "select_threshold_max_mcc"]
