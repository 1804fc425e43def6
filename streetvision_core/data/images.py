"""The images step: index a source once.

The demo images are drawn into the step's own directory as one Parquet file and are part of the
artifact; images of a user stay where they are, and every read proves that they are still the bytes
that were indexed. Of these, only the ones that changed since the last scan are read (`stamps.py`).
Where a source lies is configuration, not content: the same images at another path give the same index.
Corrected labels (`corrections.py`) are content: they stand in the index, each with the review it is from.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic
from pydantic import Field

from streetvision_core.data.config import SOURCE_NAMES, SourceConfig, absolute_or_none, unnamed_source
from streetvision_core.data.corrections import BLIND, CONTRADICTED, apply_corrections
from streetvision_core.data.decoding.decode import ImageReader
from streetvision_core.data.groups import check_grouping
from streetvision_core.data.index import DEMO_FILE, ImageIndex, QuarantineError, index_source
from streetvision_core.data.opening import published_source
from streetvision_core.data.sources import open_source
from streetvision_core.data.stamps import STAMPS_FILE, Stamps, stamps_of
from streetvision_core.io import Artifact, ArtifactStore, PublishedArtifact, StagedFile, atomic_file
from streetvision_core.io.atomic import make_directory, write_file_atomic
from streetvision_core.io.private import local_path
from streetvision_core.recorded import from_recorded

if TYPE_CHECKING:
    from collections.abc import Mapping


STEP = "images"
_PLACES = frozenset({"path", "root", "further_roots"})  # where a source lies, whatever is in it
QUARANTINE_FILE = "quarantine.csv"


class ImagesConfig(SourceConfig, frozen=True, extra="forbid"):
    """One source of images, and how much of it may be unusable."""

    max_quarantined_share: float = Field(
        0.05, ge=0, le=1, description="the step fails when more than this share of the images is unusable"
    )
    corrections: str | None = Field(
        None,
        description="review.csv of label_audit with corrected_label filled in: labels that were looked at"
        " because the model contradicts them; refused for images of val_calib and val_test",
        json_schema_extra=local_path(),
    )
    blind_corrections: str | None = Field(
        None,
        description="a file with the same columns, of a review of whole roles or of a random sample by"
        " somebody who did not see what the model says; it may correct every role",
        json_schema_extra=local_path(),
    )

    _resolve_corrections = pydantic.field_validator(CONTRADICTED, BLIND)(absolute_or_none)

    @property
    def reviews(self) -> dict[str, Path]:
        """The files of corrected labels, by the kind of review."""
        named = {CONTRADICTED: self.corrections, BLIND: self.blind_corrections}
        return {review: Path(path) for review, path in named.items() if path is not None}

    @property
    def is_drawn(self) -> bool:
        """True where the configuration alone decides what the images are: files may change at any time."""
        return self.demo is not None and not self.reviews


@dataclass(frozen=True)
class IndexedImages:
    """The index of a source, with the file of the demo images where they were drawn here.

    `stamps` is the file that tells the next scan what has not changed, `read` how many images this one
    has read, `source` says where they are; none of it is content.
    """

    index: ImageIndex
    reader: ImageReader
    source: str
    drawn: StagedFile | None = None
    stamps: bytes | None = None
    read: int = 0

    @property
    def summary(self) -> str:
        """One line: the source, and what became of its images."""
        return f"{self.source}: {self.index.summary}"

    def to_artifact(self) -> Artifact:
        """Return the files of the index, and the drawn images if there are any."""
        artifact = self.index.to_artifact()
        files = {**artifact.files}
        if self.drawn is not None:
            files[DEMO_FILE] = self.drawn
        if self.stamps is not None:
            files[STAMPS_FILE] = self.stamps
        return Artifact(files, {**artifact.metrics, "pictures_read": self.read})


def index_images(
    config: ImagesConfig, *, directory: Path, previous: PublishedArtifact | None = None
) -> IndexedImages:
    """Index the configured source; the images of the demo are first drawn into `directory`.

    Args:
        config: The source.
        directory: Where the demo images are drawn.
        previous: What this very code has indexed before; of it, images whose files have not changed are
            taken over unread.

    Raises:
        ConfigError: the path is wrong.
        QuarantineError: too many images are unusable, or a class is missing; it names the file in
            `directory` that lists what was put aside.
        DataError: there are no images, the configured groups match nothing, or a review does not fit.
    """
    drawn = _draw(config, directory / DEMO_FILE) if config.demo is not None else None
    source = open_source(config, demo_file=drawn.path if drawn else None)
    known = previous is not None and _reads_alike(config, previous)
    stamps = Stamps(source, stamps_of(previous) if previous is not None and known else {})
    try:
        index = index_source(
            source,
            max_quarantined_share=config.max_quarantined_share,
            unchanged=stamps.unchanged,
            check=partial(check_grouping, config=config),
        )
    except QuarantineError as error:
        raise _listed(error, directory / QUARANTINE_FILE) from error
    if config.reviews:
        index = apply_corrections(index, config.reviews)
    return IndexedImages(
        index=index,
        reader=ImageReader(source, index),
        source=source.describe(),
        drawn=drawn,
        stamps=None if drawn else stamps.to_bytes(index.pictures),
        read=len(stamps.changed),
    )


def _listed(error: QuarantineError, path: Path) -> QuarantineError:
    """Write what was put aside where nothing will be published; the next run clears it away."""
    make_directory(path.parent)
    write_file_atomic(path=path, data=error.index.quarantine_csv())
    return error.listed_in(path)


def _reads_alike(config: ImagesConfig, previous: PublishedArtifact) -> bool:
    """Tell whether a source is read as it was for an earlier index; where it lies does not matter."""
    return _settings(config.model_dump(mode="json")) == _settings(from_recorded(STEP, previous.config()))


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    return {kind: _placeless(config[kind]) for kind in SOURCE_NAMES if config.get(kind) is not None}


def _placeless(settings: Any) -> Any:
    """Return settings without the paths in them, on whatever level."""
    if isinstance(settings, list):
        return [_placeless(part) for part in settings]
    if isinstance(settings, dict):
        return {name: _placeless(value) for name, value in settings.items() if name not in _PLACES}
    return settings


def published_images(published: PublishedArtifact) -> IndexedImages:
    """Return the demo images that were published, as what `index_images` would make of them."""
    index = ImageIndex.from_artifact(published)
    source = published_source(published)
    return IndexedImages(index=index, reader=ImageReader(source, index), source=source.describe())


def indexed_before(store: ArtifactStore) -> PublishedArtifact:
    """Return the images that are current in a store, for a run that names no source of its own.

    Raises:
        ConfigError: nothing was ever indexed here; the error says how to name a source.
        IntegrityError, SchemaError, MissingArtifactError: what is current cannot be trusted.
    """
    if STEP not in store.current_steps():
        raise unnamed_source(store.root)
    return store.resolve(STEP)


def settings_before(published: PublishedArtifact) -> dict[str, Any]:
    """Return the settings that published images were indexed with: their source, and what it may lack."""
    kept = {*SOURCE_NAMES, "max_quarantined_share", CONTRADICTED, BLIND}
    recorded = from_recorded(STEP, published.config())
    return {name: value for name, value in recorded.items() if name in kept and value is not None}


def _draw(config: ImagesConfig, path: Path) -> StagedFile:
    from streetvision_core.demo import write_demo

    assert config.demo is not None
    with atomic_file(path) as target:
        write_demo(target.temporary, config.demo.images)
    return StagedFile.at(path, target.sha256)
