"""Labelled images: sources, the index of what is usable, and the split into roles.

Importing this package loads neither Pillow nor pyarrow nor SciPy: `pictures` and `fingerprint` are
imported where pixels are needed.
"""

from streetvision_core.data.config import CsvConfig, DemoConfig, FolderConfig, ParquetConfig, SourceConfig
from streetvision_core.data.decoding.reasons import Reason, UnusableImageError
from streetvision_core.data.index import ImageIndex, IndexedImage, Quarantined, QuarantineError, index_source
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
    "IndexedImage",
    "ParquetConfig",
    "QuarantineError",
    "Quarantined",
    "Reason",
    "SourceConfig",
    "Splits",
    "SplitsConfig",
    "UnusableImageError",
    "assign_splits",
    "index_source",
    "open_source",
    "verify_splits",
]
