"""Models: starting weights, the classifier on them, what it sees and says, the folded operating point.

Importing this package loads neither torch nor timm: `preprocessing` is imported where
pixels are needed.
"""

from streetvision_core.data.labels import LABEL_NAMES
from streetvision_core.models.backbone import Backbone, prepare_backbone
from streetvision_core.models.classifier import build_classifier, hub_config, load_classifier
from streetvision_core.models.config import BackboneConfig
from streetvision_core.models.fold import fold_operating_point

__all__ = [
    "LABEL_NAMES",
    "Backbone",
    "BackboneConfig",
    "build_classifier",
    "fold_operating_point",
    "hub_config",
    "load_classifier",
    "prepare_backbone",
]
