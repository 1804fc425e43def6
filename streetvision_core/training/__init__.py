"""Training: the Lightning loop, its data, what a person sees of it, and the checkpoint that comes out.

Importing this package loads neither torch nor Lightning: `fit_classifier` imports them when it is called.
"""

from streetvision_core.inference.logits import Logits, predict_role
from streetvision_core.training.checkpoint import Checkpoint
from streetvision_core.training.config import TrainingConfig
from streetvision_core.training.fit import TrainingFolders, fit_classifier
from streetvision_core.training.report import EpochReport, EpochRow

__all__ = [
    "Checkpoint",
    "EpochReport",
    "EpochRow",
    "Logits",
    "TrainingConfig",
    "TrainingFolders",
    "fit_classifier",
    "predict_role",
]
