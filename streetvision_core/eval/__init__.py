"""Everything that judges decisions: metrics, the threshold, selective answers, calibration, plots.

Importing this needs NumPy only; SciPy and matplotlib are imported by the functions that use them.
Roadwork is class 1, and it is decided exactly where its probability is greater than the threshold.
"""

from streetvision_core.eval.calibration import TEMPERATURE_BOUNDS, fit_temperature, negative_log_likelihood
from streetvision_core.eval.metrics import (
    Confusion,
    compute_all_metrics,
    compute_mcc,
    count_confusion,
    mcc_from_counts,
)
from streetvision_core.eval.plots import (
    plot_confusion_matrix,
    plot_mcc_curve,
    plot_risk_coverage,
    plot_training_curve,
)
from streetvision_core.eval.selective import COVERAGES, SweepRow, margin_confidence, selective_sweep
from streetvision_core.eval.thresholds import (
    ThresholdChoice,
    mcc_curve,
    positive_probability,
    scan_grid,
    scan_thresholds,
    select_threshold_max_mcc,
)

__all__ = [
    "COVERAGES",
    "TEMPERATURE_BOUNDS",
    "Confusion",
    "SweepRow",
    "ThresholdChoice",
    "compute_all_metrics",
    "compute_mcc",
    "count_confusion",
    "fit_temperature",
    "margin_confidence",
    "mcc_curve",
    "mcc_from_counts",
    "negative_log_likelihood",
    "plot_confusion_matrix",
    "plot_mcc_curve",
    "plot_risk_coverage",
    "plot_training_curve",
    "positive_probability",
    "scan_grid",
    "scan_thresholds",
    "select_threshold_max_mcc",
    "selective_sweep",
]
