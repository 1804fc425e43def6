"""The champion: the bundle of a store that won, and the pointer to it.

`champion/bundle.json` is a pointer like those of `latest/`: it names the manifest of a bundle and vouches
for its bytes. It is written whole or not at all, alone in the store, and only while the champion is still the
one that was beaten. Whoever loses that race compares again, with the new champion.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streetvision_core.errors import IntegrityError, MissingArtifactError, SchemaError
from streetvision_core.graph import BUNDLE
from streetvision_core.history.scan import read_pointer
from streetvision_core.io import read_artifact
from streetvision_core.io.names import CHAMPION
from streetvision_core.io.published import unreadable

if TYPE_CHECKING:
    from pathlib import Path

    from streetvision_core.io import ArtifactStore, PublishedArtifact


def champion_file(store: ArtifactStore) -> Path:
    """Return where the pointer lies, or would."""
    return store.root / CHAMPION / f"{BUNDLE}.json"


def find_champion(store: ArtifactStore) -> PublishedArtifact:
    """Return the champion.

    Raises:
        MissingArtifactError: there is none, or it is gone.
        StreetVisionError: it, or the pointer to it, is damaged.
    """
    champion = read_champion(store)
    if champion is None:
        raise MissingArtifactError(
            "a bundle that was promoted",
            "no champion",
            store.root,
            "Promote one: streetvision promote, or the job promote.",
        )
    return champion


def read_champion(store: ArtifactStore) -> PublishedArtifact | None:
    """Return the champion, None where no bundle was promoted yet; errors as of `find_champion`."""
    path = champion_file(store)
    try:
        path.lstat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        return _follow(path, store)
    except (IntegrityError, MissingArtifactError) as error:
        action = f"Restore it from a copy; or remove {path}, and the next promotion is a first one."
        raise type(error)(error.expected, error.found, error.where, action) from error


def _follow(path: Path, store: ArtifactStore) -> PublishedArtifact:
    pointer = read_pointer(path)
    if pointer.step != BUNDLE:
        raise SchemaError(
            "a pointer to a bundle", f"one to {pointer.step}", path, f"Remove {path}, and promote again."
        )
    return read_artifact(store.directory(*pointer.key), manifest_sha256=pointer.sha256)


def coverage_floor(store: ArtifactStore) -> float | None:
    """Return the share that a challenger has to answer; None where the pointer is older than this floor."""
    return read_pointer(champion_file(store)).floor


def move_champion(
    store: ArtifactStore,
    challenger: PublishedArtifact,
    *,
    beaten: PublishedArtifact | None,
    floor: float | None = None,
) -> bool:
    """Point to the challenger, unless the champion is not `beaten` any more; tell whether it was done.

    The pointer records the floor, which is the share that the next challenger has to answer.

    Raises:
        MissingArtifactError: the challenger was removed meanwhile.
        StoreError: the store cannot be written.
    """
    return store.crown(challenger, is_due=lambda: read_champion(store) == beaten, floor=floor)
