"""The commands of bundles: verify (of the store as well), drift, export, sign, publish and fetch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from streetvision_core.commands import shared
from streetvision_core.errors import ConfigError, DataError
from streetvision_core.io.names import SIGNATURE_NAME

if TYPE_CHECKING:
    import argparse


def add_verify(commands: shared.Commands) -> None:
    """Add `verify`."""
    verify = shared.add_to_store(commands, _verify)
    what = verify.add_mutually_exclusive_group()
    what.add_argument("name", metavar="RUN|BUNDLE", nargs="?", help="a run, or the folder of a bundle")
    what.add_argument("--all", action="store_true", help="everything published, and every pointer")
    shared.add_origin(verify)
    verify.add_argument("--deep", action="store_true", help="also answer a bundle's golden images again")


def _verify(parsed: argparse.Namespace) -> int:
    """Tell whether what was made is whole and of one chain.

    Hash every file again, and follow what it was made from: of what is current, of a run, of everything in
    the store, or of a bundle's folder.
    """
    from streetvision_core.history.find import find_run, names_folder, open_store

    if parsed.name and names_folder(parsed.name):
        return _verify_bundle(parsed.name, deep=parsed.deep, **shared.origin_of(parsed))
    if any(value is not None for value in shared.origin_of(parsed).values()):
        parsed.parser.error("--manifest-sha256 and --key are for the folder of a bundle (./NAME)")
    from streetvision_core.history.verify import verify_current, verify_everything, verify_run

    store = open_store(parsed.store)
    if parsed.all:
        verification = verify_everything(store)
    else:
        verification = (
            verify_run(store, find_run(store, parsed.name)) if parsed.name else verify_current(store)
        )
    shared.print_text(verification.text())
    if not verification.good:
        return shared.BAD
    for artifact in verification.checked if parsed.deep else ():
        if artifact.step == "bundle":
            _verify_bundle(str(store.directory(artifact.run_id, artifact.step)), deep=True)
    return shared.GOOD


def _verify_bundle(path: str, *, deep: bool, **origin: str | None) -> int:
    from streetvision_core.bundle import verify_bundle

    shared.print_text(verify_bundle(path, deep=deep, **origin).summary())
    return shared.GOOD


def _folder(parsed: argparse.Namespace) -> Path:
    """Return the folder that is named, or that of the current bundle."""
    from streetvision_core.history.find import find_published

    return Path(parsed.path or find_published("bundle", run=None, store_path=parsed.store).directory)


def add_sign(commands: shared.Commands) -> None:
    """Add `sign`."""
    sign = shared.add_to_store(commands, _sign)
    sign.add_argument("path", metavar="BUNDLE", nargs="?", help="its folder (default: the current one)")
    how = sign.add_mutually_exclusive_group(required=True)
    how.add_argument("--key", metavar="PRIVATE.pem", help="an elliptic curve key without a passphrase")
    how.add_argument("--sigstore", action="store_true", help="through Sigstore, which needs a network")


def _sign(parsed: argparse.Namespace) -> int:
    """Sign a bundle, so that 'verify --key PUBLIC.pem' proves who made it.

    The bundle is verified first, its golden images included. The signature is its file model.sig.
    """
    from streetvision_core.bundle import verify_bundle
    from streetvision_core.bundle.origin.signature import sign_files

    path = _folder(parsed)
    contents = verify_bundle(path, deep=True).bundle.contents
    key = None if parsed.sigstore else Path(parsed.key)
    signer = sign_files(contents.digests, contents.path, key=key)
    shared.print_text(
        f"signed     {contents.path / SIGNATURE_NAME}\n"
        f"by         {f'the key of SHA-256 {signer}' if signer else 'Sigstore'}\n"
        f"manifest   {contents.manifest_sha256}"
    )
    return shared.GOOD


def add_publish(commands: shared.Commands) -> None:
    """Add `publish`."""
    publish = shared.add_to_store(commands, _publish)
    publish.add_argument("repository", metavar="REPO", help="OWNER/NAME on the hub")
    publish.add_argument("path", metavar="BUNDLE", nargs="?", help="its folder (default: the current one)")
    publish.add_argument("--revision", metavar="NAME", default="main", help="a branch (default: main)")
    publish.add_argument("--private", action="store_true", help="only into a private repository")
    publish.add_argument("--dry-run", action="store_true", help="only say what would go, and what it reveals")


def _publish(parsed: argparse.Namespace) -> int:
    """Publish a bundle on the Hugging Face hub, in one commit.

    The bundle is verified first. HF_ENDPOINT says where the hub is; the token is HF_TOKEN, or that of
    'hf auth login'.
    """
    from streetvision_core.bundle.hub.publish import plan, publish

    path = _folder(parsed)
    publication = plan(path, parsed.repository, revision=parsed.revision, private=parsed.private)
    shared.print_text(publication.text())
    if not parsed.dry_run:
        commit = publish(publication)
        shared.print_text(
            f"published  {parsed.repository} at {commit}\nmanifest   {publication.manifest_sha256}"
        )
    return shared.GOOD


def add_fetch(commands: shared.Commands) -> None:
    """Add `fetch`."""
    fetch = shared.add(commands, _fetch)
    fetch.add_argument("repository", metavar="REPO", help="OWNER/NAME on the hub")
    fetch.add_argument("directory", metavar="DIR", help="a new or an empty folder")
    fetch.add_argument("--revision", metavar="NAME", default="main", help="a branch, a tag or a commit")
    shared.add_origin(fetch)


def _fetch(parsed: argparse.Namespace) -> int:
    """Fetch a bundle from the Hugging Face hub, and verify it.

    A folder that does not verify is not left behind.
    """
    from streetvision_core.bundle.hub.fetch import fetch

    origin = shared.origin_of(parsed)
    verification, commit = fetch(parsed.repository, parsed.directory, revision=parsed.revision, **origin)
    shared.print_text(f"{verification.summary()}\nfrom       {parsed.repository} at {commit}")
    return shared.GOOD


def add_export(commands: shared.Commands) -> None:
    """Add `export`."""
    export = shared.add_to_store(commands, _export)
    export.add_argument("format", metavar="FORMAT", choices=["onnx"], help="onnx")
    export.add_argument("path", metavar="BUNDLE", nargs="?", help="its folder (default: the current one)")
    export.add_argument("--output", metavar="FILE", type=Path, required=True, help="the file to write")
    shared.add_origin(export)


def _export(parsed: argparse.Namespace) -> int:
    """Export a bundle to ONNX, for ONNX Runtime.

    The bundle is verified first. The ONNX file that it ships is written as it is; where it ships none, one
    is made, which needs the extra onnx, and proved to answer the golden images as the bundle does.
    """
    from streetvision_core.bundle import load_bundle
    from streetvision_core.bundle.onnx.export import write_onnx

    path = _folder(parsed)
    shared.check_outside(parsed.output, path)
    shared.print_text(write_onnx(load_bundle(path, **shared.origin_of(parsed)), parsed.output))
    return shared.GOOD


def add_drift(commands: shared.Commands) -> None:
    """Add `drift`."""
    drift = shared.add(commands, _drift)
    drift.add_argument("path", metavar="BUNDLE", help="the folder of the bundle")
    drift.add_argument("folder", metavar="FOLDER", help="new images, in it and below it")
    shared.add_origin(drift)
    drift.add_argument(
        "--group-pattern",
        metavar="REGEX",
        help="searched in an image's path below FOLDER; its first capture group is the image's group."
        " Without it, or where it does not match, every image is its own group",
    )
    drift.add_argument("--json", action="store_true", help="everything, for programs")


def _drift(parsed: argparse.Namespace) -> int:
    """Tell whether new images are still like those of the bundle's promise.

    A two-sample test of margins and features, with at most 5 % false alarms. Exit code 1 where they are not
    and the promise is void, 0 where nothing tells so, 2 where nothing can be said.
    """
    from streetvision_core.bundle import Predictor, load_bundle
    from streetvision_core.inference.drift import compare_folder

    bundle = load_bundle(parsed.path, **shared.origin_of(parsed))
    try:
        answer = compare_folder(
            Predictor(bundle.model, config=bundle.config, policy=bundle.policy),
            parsed.folder,
            reference=bundle.drift,
            conditions=bundle.conditions,
            pattern=parsed.group_pattern,
            on_error=lambda _, error: shared.complain(error),
        )
    except (ConfigError, DataError) as error:
        shared.complain(error)
        return shared.WRONG_USAGE
    return shared.show(answer, as_json=parsed.json)
