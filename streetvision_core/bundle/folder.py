"""The bytes of a bundle's folder, read once and proved to be what its manifest lists.

1. `manifest.json` is read and parsed strictly; its names cannot leave the folder. The side file, where it
   names one, must be there as well and have the digest that it names.
2. The folder is walked without following a link, each file opened relative to the directory that was
   walked (`io/system.py`), so that nothing can be exchanged between the look and the reading.
3. `model.sig` is its signature, by its name alone; where a key is given, it must be one by that key, of
   these very bytes (`origin/signature.py`).
4. Links, special files, files and directories that are not listed, and listed files that are missing or have
   another size or SHA-256 are refused. The one exception is what a hub adds (`hub/added.py`).

What comes back are the very bytes that were hashed: whoever loads them never opens the folder again.
A file that is not listed is never read, and no more of a file than its listed size, which is held against
`bounds.py` before anything is read. The weights are read last, once their header is that of the architecture
in config.json. Files with several hard links are ordinary files.
"""

from __future__ import annotations

import logging
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from streetvision_core.bundle import bounds
from streetvision_core.bundle.hub.added import Additions, blob_of, hub_additions, is_pointer, open_blob
from streetvision_core.bundle.layout import CONFIG, WEIGHTS, is_known
from streetvision_core.bundle.origin.signature import check_signature
from streetvision_core.bundle.weights import check_layout
from streetvision_core.errors import BundleError, as_bundle_error
from streetvision_core.io import StepManifest, bytes_digest, content_digest
from streetvision_core.io.names import PRIVATE_NAME, SIGNATURE_NAME
from streetvision_core.io.private import read_private
from streetvision_core.io.records import parse_canonical
from streetvision_core.io.system import NotRegularFileError, is_link, open_directory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from streetvision_core.io import OutputFile, PrivateRecord
    from streetvision_core.io.system import Directory

_LOG = logging.getLogger(__name__)
MANIFEST = "manifest.json"
_TAKE_WHOLE = "Do not use this folder; take a whole copy of the bundle."


@dataclass(frozen=True)
class Contents:
    """The verified files of a bundle by relative name, its manifest, and the manifest's SHA-256 (hex).

    `private` is its own side file, None where the manifest names none; `additions` are what a hub added.
    `signature` is the content of its signature file, and `signed_by` the SHA-256 (hex) of the key that it
    was checked with; None where there is none, or no key was given.
    """

    path: Path
    manifest: StepManifest
    manifest_sha256: str
    files: Mapping[str, bytes]
    private: PrivateRecord | None = None
    additions: Additions = field(default_factory=Additions)
    signature: bytes | None = None
    signed_by: str | None = None

    @property
    def digests(self) -> dict[str, str]:
        """The SHA-256 (hex) of every file but the signature, by name."""
        return _digests(self.manifest, self.manifest_sha256)


def read_folder(
    path: Path, *, manifest_sha256: str | None = None, key: str | os.PathLike[str] | None = None
) -> Contents:
    """Read and verify every byte of the bundle in the folder `path`.

    Args:
        path: The folder.
        manifest_sha256: The SHA-256 (hex) of its manifest, from somebody who is trusted; None asks for none.
        key: The path of the public key (PEM) that must have signed it; None asks for no signature.

    Raises:
        BundleError: the first thing that is not as the manifest lists it.
    """
    try:
        # A link to a bundle may be given; within it there is none.
        path = path.resolve(strict=True)
        with open_directory(path) as directory:
            data = _read_manifest(path, directory)
            _check_expected(data, manifest_sha256, path)
            manifest = _parse_manifest(data, path)
            private = _read_private(path, directory, manifest)
            signature = _read_signature(path, directory)
            additions = hub_additions(directory, folder=path)
            skipped = _unlisted(manifest) | additions.names
            files = dict(_walk(path, directory, manifest.output_artifacts, unlisted=skipped))
            _read_weights(path, directory, manifest.output_artifacts, files)
    except OSError as error:
        raise BundleError(
            "the folder of a bundle that can be read",
            f"the error '{error.strerror}' for {error.filename!r}",
            path,
            "Check the path and its permissions.",
        ) from error
    for name in manifest.output_artifacts:
        if name not in files:
            _refuse(path, "every listed file", f"no {name}")
    if str(additions):
        _LOG.info("%s: %s.", path, additions)
    digest = bytes_digest(data)
    signer = None
    if key is not None:
        signer = check_signature(signature, _digests(manifest, digest), key=Path(key), where=path)
    return Contents(path, manifest, digest, files, private, additions, signature, signer)


def _unlisted(manifest: StepManifest) -> set[str]:
    sides = set() if manifest.private_sha256 is None else {PRIVATE_NAME}
    return {MANIFEST, SIGNATURE_NAME, *sides}


def _digests(manifest: StepManifest, manifest_sha256: str) -> dict[str, str]:
    digests = {name: file.sha256 for name, file in manifest.output_artifacts.items()}
    sides = {} if manifest.private_sha256 is None else {PRIVATE_NAME: manifest.private_sha256}
    return {**digests, MANIFEST: manifest_sha256, **sides}


def _read_signature(path: Path, directory: Directory) -> bytes | None:
    if SIGNATURE_NAME not in directory.names():
        return None
    return _read(path, SIGNATURE_NAME, directory=directory, limit=bounds.most_bytes(SIGNATURE_NAME))


def _read_private(path: Path, directory: Directory, manifest: StepManifest) -> PrivateRecord | None:
    if manifest.private_sha256 is None:
        return None
    try:
        data = _read(path, PRIVATE_NAME, directory=directory, limit=bounds.JSON_BYTES)
    except FileNotFoundError:
        _refuse(path, f"the side file {PRIVATE_NAME} that the manifest names", "none")
    with as_bundle_error():
        record = read_private(data, manifest, where=path / PRIVATE_NAME)
    parse_canonical(data, where=str(path / PRIVATE_NAME))
    return record


def _read_manifest(path: Path, directory: Directory) -> bytes:
    try:
        return _read(path, MANIFEST, directory=directory, limit=bounds.JSON_BYTES)
    except FileNotFoundError as error:
        raise BundleError(
            "a bundle", f"a folder without {MANIFEST}", path, "Check the path, or take a whole copy."
        ) from error


def _check_expected(data: bytes, manifest_sha256: str | None, path: Path) -> None:
    if manifest_sha256 is not None and bytes_digest(data) != manifest_sha256.lower():
        raise BundleError(
            f"the manifest with SHA-256 {manifest_sha256}, as you were told",
            f"one with {bytes_digest(data)}",
            path / MANIFEST,
            "This is another bundle than the one you were told of; ask for that one, and do not use this.",
        )


def _parse_manifest(data: bytes, path: Path) -> StepManifest:
    with as_bundle_error():
        manifest = StepManifest.from_bytes(data, where=path / MANIFEST)
    parse_canonical(data, where=str(path / MANIFEST))
    for name in manifest.output_artifacts:
        if not is_known(name):
            _refuse(path, "only files that belong into a bundle", f"{name} in the manifest")
    _check_sizes(path, manifest.output_artifacts)
    digests = {name: file.sha256 for name, file in manifest.output_artifacts.items()}
    if content_digest(digests) != manifest.data_version:
        _refuse(path, f"content of the data version {manifest.data_version}", "files of another one")
    return manifest


def _check_sizes(path: Path, listed: Mapping[str, OutputFile]) -> None:
    for name, file in listed.items():
        if file.size_bytes > bounds.most_bytes(name):
            _refuse(path, f"{name} of at most {bounds.most_bytes(name)} bytes", f"{file.size_bytes} bytes")
    together = sum(file.size_bytes for name, file in listed.items() if name != WEIGHTS)
    if together > bounds.TOGETHER_BYTES:
        found = f"{together} bytes"
        _refuse(path, f"files of at most {bounds.TOGETHER_BYTES} bytes together", found)


def _walk(
    path: Path, directory: Directory, listed: Mapping[str, OutputFile], *, unlisted: set[str], below: str = ""
) -> Iterator[tuple[str, bytes]]:
    folders = {str(parent) for name in listed for parent in PurePosixPath(name).parents}
    for name in directory.names():
        full = f"{below}{name}"
        status = directory.status(name)
        if full in unlisted:
            continue
        if is_link(status) and full not in listed:
            _refuse(path, "only regular files and folders", f"the link {full!r}")
        if stat.S_ISDIR(status.st_mode):
            if full not in folders:
                _refuse(path, "only folders of listed files", f"the folder {full!r}")
            with directory.descend(name) as inner:
                yield from _walk(path, inner, listed, unlisted=unlisted, below=f"{full}/")
        elif full == WEIGHTS and full in listed:
            continue
        elif full in listed:
            yield full, _read_listed(path, full, listed[full], directory=directory)
        else:
            _refuse(path, "only files that the manifest lists", repr(full))


def _read_weights(
    path: Path, directory: Directory, listed: Mapping[str, OutputFile], files: dict[str, bytes]
) -> None:
    """Read the weights where there are any, once they are known to be those of the architecture."""
    if WEIGHTS not in listed or WEIGHTS not in directory.names():
        return
    if CONFIG not in files:
        _refuse(path, f"{CONFIG} in a bundle", "none")
    with _opened(path, WEIGHTS, directory=directory) as file:
        size = os.fstat(file.fileno()).st_size
        if size == listed[WEIGHTS].size_bytes:  # of another size they are refused below
            check_layout(file, size_bytes=size, config=files[CONFIG], where=str(path))
    files[WEIGHTS] = _read_listed(path, WEIGHTS, listed[WEIGHTS], directory=directory)


def _read_listed(path: Path, full: str, listed: OutputFile, *, directory: Directory) -> bytes:
    data = _read(path, full, directory=directory, limit=listed.size_bytes)
    if is_pointer(data) and bytes_digest(data) != listed.sha256:
        raise BundleError(full, "git's pointer to it", path, "Run 'git lfs pull' in the clone.")
    if len(data) != listed.size_bytes:
        _refuse(path, f"{full} with {listed.size_bytes} bytes", f"{len(data)} bytes")
    if bytes_digest(data) != listed.sha256:
        _refuse(path, f"{full} with SHA-256 {listed.sha256}", "other content")
    return data


def _read(path: Path, full: str, *, directory: Directory, limit: int) -> bytes:
    """Read a regular file of at most `limit` bytes."""
    with _opened(path, full, directory=directory) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            _refuse(path, f"{PurePosixPath(full).name} of at most {limit} bytes", f"{size} bytes")
        return file.read(limit + 1)


def _opened(path: Path, full: str, *, directory: Directory) -> BinaryIO:
    name = PurePosixPath(full).name
    try:
        blob = blob_of(directory, full, folder=path)
        return directory.open_to_read(name) if blob is None else open_blob(path, blob)
    except NotRegularFileError as error:
        _refuse(path, "only regular files and folders", f"{name!r}, which is {error.strerror}")


def _refuse(path: Path, expected: str, found: str) -> NoReturn:
    raise BundleError(f"{expected}", found, path, _TAKE_WHOLE)
