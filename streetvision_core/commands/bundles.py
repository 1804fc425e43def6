"""The commands of bundles but for `predict`: verify (of the store as well), drift, publish and fetch."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

from streetvision_core.commands.shared import (
    BAD,
    GOOD,
    WRONG_USAGE,
    add,
    add_to_store,
    complain,
    print_text,
    show,
)
from streetvision_core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from streetvision_core.commands.shared import Commands


def add_verify(commands: Commands) -> None:
    """Add `verify`."""
    verify = add_to_store(commands, _verify)
    what = verify.add_mutually_exclusive_group()
    what.add_argument("name", metavar="RUN|BUNDLE", nargs="?", help="a run, or the folder of a bundle")
    what.add_argument("--all", action="store_true", help="everything published, and every pointer")
    add_manifest_sha256(verify)
    verify.add_argument("--deep", action="store_true", help="also answer a bundle's golden images again")


def _verify(parsed: argparse.Namespace) -> int:
    """Tell whether what was made is whole and of one chain.

    Hash every file again, and follow what it was made from: of what is current, of a run, of everything in
    the store, or of a bundle's folder.
    """
    from streetvision_core.history.find import find_run, names_folder, open_store

    if parsed.name and names_folder(parsed.name):
        return _verify_bundle(parsed.name, deep=parsed.deep, manifest_sha256=parsed.manifest_sha256)
    if parsed.manifest_sha256:
        parsed.parser.error("--manifest-sha256 is for the folder of a bundle (./NAME)")
    from streetvision_core.history.verify import verify_current, verify_everything, verify_run

    store = open_store(parsed.store)
    if parsed.all:
        found = verify_everything(store)
    else:
        found = verify_run(store, find_run(store, parsed.name)) if parsed.name else verify_current(store)
    print_text(found.text())
    if not found.good:
        return BAD
    if parsed.deep:
        for bundle in (one for one in found.checked if one.step == "bundle"):
            _verify_bundle(str(store.directory(bundle.run_id, bundle.step)), deep=True)
    return GOOD


def _verify_bundle(path: str, *, deep: bool, manifest_sha256: str | None = None) -> int:
    from streetvision_core.bundle import verify_bundle

    print_text(verify_bundle(path, deep=deep, manifest_sha256=manifest_sha256).summary())
    return GOOD


def add_publish(commands: Commands) -> None:
    """Add `publish`."""
    publish = add_to_store(commands, _publish)
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
    from streetvision_core.history.find import find_published

    path = parsed.path or find_published("bundle", run=None, store_path=parsed.store).directory
    publication = plan(path, parsed.repository, revision=parsed.revision, private=parsed.private)
    print_text(publication.text())
    if not parsed.dry_run:
        commit = publish(publication)
        print_text(f"published  {parsed.repository} at {commit}\nmanifest   {publication.manifest_sha256}")
    return GOOD


def add_fetch(commands: Commands) -> None:
    """Add `fetch`."""
    fetch = add(commands, _fetch)
    fetch.add_argument("repository", metavar="REPO", help="OWNER/NAME on the hub")
    fetch.add_argument("directory", metavar="DIR", help="a new or an empty folder")
    fetch.add_argument("--revision", metavar="NAME", default="main", help="a branch, a tag or a commit")


def _fetch(parsed: argparse.Namespace) -> int:
    """Fetch a bundle from the Hugging Face hub, and verify it.

    A folder that does not verify is not left behind.
    """
    from streetvision_core.bundle.hub.fetch import fetch

    verification, commit = fetch(parsed.repository, parsed.directory, revision=parsed.revision)
    print_text(f"{verification.summary()}\nfrom       {parsed.repository} at {commit}")
    return GOOD


def add_drift(commands: Commands) -> None:
    """Add `drift`."""
    drift = add(commands, _drift)
    drift.add_argument("path", metavar="BUNDLE", help="the folder of the bundle")
    drift.add_argument("folder", metavar="FOLDER", help="new images, in it and below it")
    add_manifest_sha256(drift)
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

    bundle = load_bundle(parsed.path, manifest_sha256=parsed.manifest_sha256)
    try:
        answer = compare_folder(
            Predictor(bundle.model, config=bundle.config, policy=bundle.policy),
            parsed.folder,
            reference=bundle.drift,
            conditions=bundle.conditions,
            pattern=parsed.group_pattern,
            on_error=lambda _, error: complain(error),
        )
    except (ConfigError, DataError) as error:
        complain(error)
        return WRONG_USAGE
    return show(answer, as_json=parsed.json)


def add_manifest_sha256(command: argparse.ArgumentParser) -> None:
    """Add the digest that the bundle's manifest must have."""
    command.add_argument(
        "--manifest-sha256",
        metavar="SHA256",
        type=_sha256,
        help="what the manifest of the bundle must hash to, from somebody you trust",
    )


def _sha256(text: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise argparse.ArgumentTypeError(f"64 hexadecimal digits are expected, not {text!r}")
    return text.lower()
