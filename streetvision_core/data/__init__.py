"""Labelled pictures: sources, the index of what is usable, and the split into roles.

Importing this package loads neither Pillow nor pyarrow nor SciPy: `pictures` and `fingerprint` are
imported where pixels are needed.
"""

from streetvision_core.data.config import CsvConfig, DemoConfig, FolderConfig, ParquetConfig, SourceConfig
from streetvision_core.data.decoding.reasons import Reason, UnusablePictureError
from streetvision_core.data.index import ImageIndex, Picture, Quarantined, QuarantineError, index_pictures
from streetvision_core.data.sources import open_source
from streetvision_core.data.splits import Splits, SplitsConfig, assign_splits
from streetvision_core.data.verify import verify_splits
from streetvision_core.graph import ROLES

__all__ = [
    "ROLES",
    "CsvConfig",
    "DemoConfig",
    "FolderConfig",
    "ImageIndex",
    "ParquetConfig",
    "Picture",
    "QuarantineError",
    "Quarantined",
    "Reason",
    "SourceConfig",
    "Splits",
    "SplitsConfig",
    "UnusablePictureError",
    "assign_splits",
    "index_pictures",
    "open_source",
    "verify_splits",
]
