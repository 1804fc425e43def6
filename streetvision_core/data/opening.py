"""The reading of images by later steps: those of the roles asked for, each proven, and no others."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from streetvision_core.data.conditions import Conditions
from streetvision_core.data.config import SOURCE_NAMES, SourceConfig
from streetvision_core.data.decoding.decode import ImageReader
from streetvision_core.data.index import DEMO_FILE, ImageIndex
from streetvision_core.data.sources import ImageSource, open_source
from streetvision_core.recorded import from_recorded

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streetvision_core.data.splits import Splits
    from streetvision_core.io import PublishedArtifact


def open_images(
    images: PublishedArtifact,
    splits: Splits,
    *,
    roles: Iterable[str],
    conditions: PublishedArtifact | None = None,
) -> ImageReader:
    """Open the images of `roles` of a published index; an image of another role cannot be read.

    Args:
        images: The index.
        splits: Which image plays which role.
        roles: The roles that may be read.
        conditions: The published conditions of use, under which images are seen; None sees them as they are.

    Raises:
        ConfigError: the source is not where it was when it was indexed.
    """
    index = ImageIndex.from_artifact(images)
    allowed = {name for role in roles for name in splits.roles[role]}
    kept = tuple(image for image in index.pictures if image.name in allowed)
    seen = Conditions.from_artifact(conditions) if conditions else None
    return ImageReader(published_source(images), replace(index, pictures=kept), conditions=seen)


def published_source(images: PublishedArtifact) -> ImageSource:
    """Open the source that a published index was made from; nothing it reads is proven yet.

    Raises:
        ConfigError: the source is not where it was when it was indexed.
        IntegrityError: the side file that says where is gone, or is not what was published.
    """
    recorded = from_recorded("images", images.config())
    chosen = {key: value for key, value in recorded.items() if key in SOURCE_NAMES}
    config = SourceConfig.model_validate(chosen)
    return open_source(config, demo_file=images.path(DEMO_FILE) if config.demo is not None else None)
