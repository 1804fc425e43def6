"""The publication of a bundle on the Hugging Face hub.

1. The bundle is verified, its golden images included; what goes are the very bytes that were verified.
2. The repository is made where there is none. One that is public is refused where a private one was asked
   for, and so is one that holds files which no bundle has: they would be somebody's work.
3. One commit writes every file, and removes those of an older bundle, on top of the commit that was looked
   at: if somebody else writes meanwhile, the hub refuses it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streetvision_core.bundle.hub.added import ATTRIBUTES
from streetvision_core.bundle.hub.client import connect, hub_errors
from streetvision_core.bundle.layout import is_known
from streetvision_core.bundle.leaving import what_leaves
from streetvision_core.bundle.verify import verify_bundle
from streetvision_core.errors import BundleError
from streetvision_core.io import bytes_digest
from streetvision_core.io.names import MANIFEST_NAME, PRIVATE_NAME, SIGNATURE_NAME

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from huggingface_hub import HfApi

    from streetvision_core.bundle.folder import Contents

UNLISTED = (MANIFEST_NAME, PRIVATE_NAME, SIGNATURE_NAME)
MAIN = "main"


@dataclass(frozen=True)
class Publication:
    """The files of a verified bundle that go to the hub, and their destination."""

    files: Mapping[str, bytes]
    reveals: str
    repository: str
    revision: str = MAIN
    private: bool = False

    @property
    def manifest_sha256(self) -> str:
        """The SHA-256 (hex) by which a receiver knows the bundle."""
        return bytes_digest(self.files[MANIFEST_NAME])

    def text(self) -> str:
        """List every file with its size, and say what they reveal."""
        kind = "private" if self.private else "public"
        rows = [f"{len(data):>12,} {name}" for name, data in sorted(self.files.items())]
        total = sum(map(len, self.files.values()))
        where = f"to the {kind} repository {self.repository}, revision {self.revision}"
        return "\n".join([*rows, f"{total:>12,} bytes {where}", self.reveals])


def plan(
    bundle_path: str | os.PathLike[str], repository: str, *, revision: str = MAIN, private: bool = False
) -> Publication:
    """Verify a bundle and return what would be published of it.

    Raises:
        BundleError: it does not verify, or does not answer its golden images as it did.
    """
    contents = verify_bundle(bundle_path, deep=True).bundle.contents
    files = {**contents.files, **_unlisted(contents)}
    return Publication(files, what_leaves(contents.files), repository, revision, private)


def _unlisted(contents: Contents) -> dict[str, bytes]:
    """Return what the manifest does not list: itself, its side file where it names one, the signature."""
    files = {MANIFEST_NAME: contents.manifest.to_bytes()}
    promised = {MANIFEST_NAME: contents.manifest_sha256}
    if contents.private is not None:
        files[PRIVATE_NAME] = contents.private.to_bytes()
        promised[PRIVATE_NAME] = contents.manifest.private_sha256 or ""
    for name, data in files.items():
        if bytes_digest(data) != promised[name]:
            action = "Export the bundle again."
            raise BundleError(f"{name} in its canonical bytes", "other ones", contents.path, action)
    if contents.signature is not None:
        files[SIGNATURE_NAME] = contents.signature
    return files


def publish(publication: Publication) -> str:
    """Write the publication into its repository and return the commit (40 hex).

    Raises:
        BundleError: the hub cannot be reached or refuses, or the repository is not one for this bundle.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    repository, revision, api = publication.repository, publication.revision, connect()
    with hub_errors(repository, expected="a repository that one may write to"):
        present, head = _prepare(api, publication)
        adding = [CommitOperationAdd(name, data) for name, data in publication.files.items()]
        removing = [CommitOperationDelete(name) for name in sorted(present - publication.files.keys())]
        commit = api.create_commit(
            repository,
            [*adding, *removing],
            commit_message=f"Bundle with manifest {publication.manifest_sha256}",
            revision=revision,
            parent_commit=head,
        )
    return commit.oid


def _prepare(api: HfApi, publication: Publication) -> tuple[set[str], str | None]:
    """Make the repository and its branch; return the names of the files in it, and its last commit."""
    repository, revision = publication.repository, publication.revision
    api.create_repo(repository, private=publication.private or None, exist_ok=True)
    if publication.private and not api.model_info(repository, revision=MAIN).private:
        raise BundleError(
            f"a private repository {repository}",
            "a public one",
            "the hub",
            "Make it private on its page, publish into another one, or leave out --private.",
        )
    if revision != MAIN:
        api.create_branch(repository, branch=revision, exist_ok=True)
    info = api.model_info(repository, revision=revision)
    present = {file.rfilename for file in info.siblings or ()} - {ATTRIBUTES}
    strangers = sorted(name for name in present if not may_hold(name))
    if strangers:
        raise BundleError(
            "an empty repository, or one that holds a bundle",
            f"{', '.join(strangers[:3])} in {repository}",
            "the hub",
            "Publish into a repository of its own, or remove them there.",
        )
    return present, info.sha


def may_hold(name: str) -> bool:
    """Tell whether a file of this name may lie in a bundle's repository, beside what the hub adds."""
    return is_known(name) or name in UNLISTED
