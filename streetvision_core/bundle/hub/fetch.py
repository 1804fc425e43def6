"""The download of a bundle from the Hugging Face hub: verified before it has its name.

1. What the hub lists is looked at first: only names that a bundle may have, none larger than it may be.
2. The hub's client downloads that very commit into a folder beside the one that was asked for. A download
   that was interrupted goes on there.
3. The bundle is verified in there. Then its folder gets its name; one that does not verify is removed.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from streetvision_core.bundle.bounds import TOGETHER_BYTES, most_bytes
from streetvision_core.bundle.hub.added import ATTRIBUTES
from streetvision_core.bundle.hub.client import connect, hub_errors
from streetvision_core.bundle.hub.publish import MAIN, may_hold
from streetvision_core.bundle.layout import WEIGHTS
from streetvision_core.bundle.verify import Verification, verify_bundle
from streetvision_core.errors import BundleError
from streetvision_core.io.names import MANIFEST_NAME
from streetvision_core.io.system import open_directory

if TYPE_CHECKING:
    import os

    from huggingface_hub import ModelInfo


def fetch(
    repository: str,
    directory: str | os.PathLike[str],
    *,
    revision: str = MAIN,
    manifest_sha256: str | None = None,
    key: str | os.PathLike[str] | None = None,
) -> tuple[Verification, str]:
    """Download the bundle in a repository of the hub into a new or empty folder, and verify it.

    Args:
        repository: OWNER/NAME.
        directory: Where the bundle is to lie.
        revision: A branch, a tag or a commit.
        manifest_sha256: The SHA-256 (hex) that its manifest must have.
        key: The path of the public key (PEM) that must have signed it.

    Returns:
        The verification, and the commit (40 hex) that was downloaded.

    Raises:
        BundleError: there is something in the folder, the hub cannot be reached or has no such bundle, or it
            does not verify.
    """
    target = Path(directory).absolute()
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise BundleError("a new or an empty folder", "another", target, "Choose another folder.")
    api = connect()
    with hub_errors(repository, expected=f"a bundle at revision {revision}"):
        info = api.model_info(repository, revision=revision, files_metadata=True)
        commit = _checked(info, repository)
        staged = target.with_name(f".{target.name}.{commit}")
        api.snapshot_download(repository, revision=commit, local_dir=staged)
    try:
        verification = verify_bundle(staged, manifest_sha256=manifest_sha256, key=key)
    except BundleError:
        # What was changed must not be taken over by the next download.
        with open_directory(target.parent) as parent:
            parent.remove_all(staged.name)
        raise
    staged.replace(target)
    contents = replace(verification.bundle.contents, path=target)
    return replace(verification, bundle=replace(verification.bundle, contents=contents)), commit


def _checked(info: ModelInfo, repository: str) -> str:
    """Return the commit of a listing that can be a bundle's."""
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    sizes.pop(ATTRIBUTES, None)
    strangers = sorted(name for name in sizes if not may_hold(name))
    large = sorted(name for name, size in sizes.items() if size > most_bytes(name))
    together = sum(size for name, size in sizes.items() if name != WEIGHTS)
    found = (
        f"files that no bundle has: {', '.join(strangers[:3])}"
        if strangers
        else f"no {MANIFEST_NAME}"
        if MANIFEST_NAME not in sizes
        else f"files that are too large: {', '.join(large[:3]) or f'{together} bytes together'}"
        if large or together > TOGETHER_BYTES
        else ""
    )
    if found or info.sha is None:
        action = "Check the name and --revision; 'streetvision publish' makes such a repository."
        raise BundleError("a repository that holds a bundle", found, f"the hub's {repository}", action)
    return info.sha
