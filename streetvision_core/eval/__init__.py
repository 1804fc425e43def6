"""Everything that judges decisions: metrics, the threshold, selective answers, calibration.

Importing this needs NumPy only; SciPy and matplotlib are imported by the functions that use them.
Roadwork is class 1, and it is decided exactly where its probability is greater than the threshold.
"""

from streetvision_core.eval.calibration import (
    TEMPERATURE_BOUNDS,
    fit_isotonic,
    fit_platt,
    fit_temperature,
    fit_temperature_scaling,
    negative_log_likelihood,
)
from streetvision_core.eval.calibrator_choice import CalibratorChoice, choose_calibrator
from streetvision_core.eval.calibrators import Calibrator, calibrator_from_json
from streetvision_core.eval.intervals import (
    Interval,
    clopper_pearson_interval,
    mcc_group_interval,
    mcc_interval,
    rate_interval,
)
from streetvision_core.eval.metrics import (
    Confusion,
    compute_all_metrics,
    compute_mcc,
    confusion_by_group,
    count_confusion,
    mcc_from_counts,
    mcc_of_counts,
)
from streetvision_core.eval.objectives import Cost, FBeta, Mcc, Objective, RecallAtLeast
from streetvision_core.eval.optimism import ChosenMargin, choose_margin
from streetvision_core.eval.ranking import RiskCoverageCurve, auroc, average_precision, risk_coverage_curve
from streetvision_core.eval.reliability import (
    ReliabilityBin,
    brier_score,
    expected_calibration_error,
    maximum_calibration_error,
    reliability_bins,
)
from streetvision_core.eval.risk_control import Certificate, certify_selective_risk, risk_grid
from streetvision_core.eval.selective import COVERAGES, SweepRow, margin_confidence, selective_sweep
from streetvision_core.eval.thresholds import (
    ThresholdChoice,
    mcc_curve,
    positive_probability,
    scan_grid,
    scan_margins,
    scan_thresholds,
    select_threshold_max_mcc,
)

__all__ = [
    "COVERAGES",
    "TEMPERATURE_BOUNDS",
    "Calibrator",
    "CalibratorChoice",
    "Certificate",
    "ChosenMargin",
    "Confusion",
    "Cost",
    "FBeta",
    "Interval",
    "Mcc",
    "Objective",
    "RecallAtLeast",
    "ReliabilityBin",
    "RiskCoverageCurve",
    "SweepRow",
    "ThresholdChoice",
    "auroc",
    "average_precision",
    "brier_score",
    "calibrator_from_json",
    "certify_selective_risk",
    "choose_calibrator",
    "choose_margin",
    "clopper_pearson_interval",
    "compute_all_metrics",
    "compute_mcc",
    "confusion_by_group",
    "count_confusion",
    "expected_calibration_error",
    "fit_isotonic",
    "fit_platt",
    "fit_temperature",
    "fit_temperature_scaling",
    "margin_confidence",
    "maximum_calibration_error",
    "mcc_curve",
    "mcc_from_counts",
    "mcc_group_interval",
    "mcc_interval",
    "mcc_of_counts",
    "negative_log_likelihood",
    "positive_probability",
    "rate_interval",
    "reliability_bins",
    "risk_coverage_curve",
    "risk_grid",
    "scan_grid",
    "scan_margins",
    "scan_thresholds",
    "select_threshold_max_mcc",
    "selective_sweep",
]
