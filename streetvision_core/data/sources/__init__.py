"""Where labelled pictures come from: a folder per class, a CSV, or Parquet; the demo is Parquet too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streetvision_core.data.config import ParquetConfig, unnamed_source
from streetvision_core.data.sources.entry import LABEL_NAMES, Entry, PictureSource, parse_label
from streetvision_core.data.sources.files import CsvSource, FolderSource
from streetvision_core.data.sources.parquet import ParquetSource
from streetvision_core.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from streetvision_core.data.config import SourceConfig

__all__ = [
    "LABEL_NAMES",
    "CsvSource",
    "Entry",
    "FolderSource",
    "ParquetSource",
    "PictureSource",
    "open_source",
    "parse_label",
]


def open_source(config: SourceConfig, *, demo_file: Path | None = None) -> PictureSource:
    """Open the one source that is configured; `demo_file` is the Parquet file that `write_demo` made.

    Raises:
        ConfigError: no source is named, the path is wrong, or the demo is asked for without a file of it.
        DataError: the source is there, but cannot be used as it is.
    """
    if config.folder is not None:
        return FolderSource(config.folder)
    if config.csv is not None:
        return CsvSource(config.csv)
    if config.parquet is not None:
        return ParquetSource(config.parquet)
    if config.demo is None:
        raise unnamed_source("the source's configuration")
    if demo_file is None:
        raise ConfigError(
            "the file of the drawn demo pictures",
            "none",
            "the demo source",
            "Draw them with write_demo first.",
        )
    return ParquetSource(ParquetConfig(path=str(demo_file)))
