"""The deployment bundle: made, verified and used. Importing this loads neither torch nor Pillow."""

from streetvision_core.bundle.config import BundleConfig
from streetvision_core.bundle.export import export_bundle
from streetvision_core.bundle.load import Bundle, load_bundle
from streetvision_core.bundle.verify import Predictor, Verification, verify_bundle
from streetvision_core.inference.predictor import Prediction
from streetvision_core.report.evaluation import Evaluation, TestedImage, decision_problems, evaluate

__all__ = [
    "Bundle",
    "BundleConfig",
    "Evaluation",
    "Prediction",
    "Predictor",
    "TestedImage",
    "Verification",
    "decision_problems",
    "evaluate",
    "export_bundle",
    "load_bundle",
    "verify_bundle",
]
