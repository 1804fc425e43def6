"""The sources of labelled images: class folders, CSV, Parquet (the demo too), COCO, or several joined."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streetvision_core.data.config import ParquetConfig, PartConfig, SourceConfig, unnamed_source
from streetvision_core.data.sources.coco import CocoSource
from streetvision_core.data.sources.entry import Entry, ImageSource
from streetvision_core.data.sources.files import CsvSource, FolderSource
from streetvision_core.data.sources.joined import JoinedSource
from streetvision_core.data.sources.parquet import ParquetSource
from streetvision_core.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


__all__ = ["CsvSource", "Entry", "ImageSource", "open_source"]


def open_source(config: SourceConfig, *, demo_file: Path | None = None) -> ImageSource:
    """Open the one source that is configured; `demo_file` is the Parquet file that `write_demo` made.

    Raises:
        ConfigError: no source is named, the path is wrong, or the demo is asked for without a file of it.
        DataError: the source is there, but cannot be used as it is.
    """
    if config.join is not None:
        names = {part.name or part.kind: part for part in config.join}
        return JoinedSource(
            {name: source for name, part in names.items() if (source := _open(part)) is not None},
            {name: part.role for name, part in names.items() if part.role != "own"},
        )
    if (source := _open(config)) is not None:
        return source
    if config.demo is None:
        raise unnamed_source("the source's configuration")
    if demo_file is None:
        action = "Draw them with write_demo first."
        raise ConfigError("the file of the drawn demo images", "none", "the demo source", action)
    return ParquetSource(ParquetConfig(path=str(demo_file), none=0, roadwork=1))


def _open(config: SourceConfig | PartConfig) -> ImageSource | None:
    if config.folder is not None:
        return FolderSource(config.folder)
    if config.csv is not None:
        return CsvSource(config.csv)
    if config.parquet is not None:
        return ParquetSource(config.parquet)
    return CocoSource(config.coco) if config.coco is not None else None
