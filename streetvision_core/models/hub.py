"""Weights from the Hugging Face hub: one safetensors file of one commit, and never a pickle.

timm says which repository holds the weights of a model. `fetch_weights` asks for the safetensors file in it
at a branch, a tag or a commit, and says which commit it got. The hub's client keeps what it downloads; where
the hub cannot be reached, or HF_HUB_OFFLINE is set, it gives what it has kept of that revision.

The hub names a large file by its SHA-256. Where the client's cache still has that name, the caller is told,
so that a copy that has changed on this disk is noticed even if nobody has pinned its digest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streetvision_core.errors import ConfigError, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE_NAME = "model.safetensors"
WHERE = "weights of the backbone"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_TOKEN = re.compile(r"hf_\w+")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ELSEWHERE = "fetch model.safetensors elsewhere and give its path as weights"


@dataclass(frozen=True)
class HubFile:
    """A file of the hub on this disk: the repository, the commit (40 hex) and the name that it has there.

    `sha256` is what the hub said that it hashes to, empty where the cache no longer tells.
    """

    path: Path
    repository: str
    commit: str
    name: str
    sha256: str


def fetch_weights(described: Mapping[str, Any], *, revision: str) -> HubFile:
    """Return the safetensors file of weights that timm describes, downloaded unless it is cached.

    Args:
        described: timm's description of the weights.
        revision: A branch, a tag or a commit; empty for the main branch.

    Raises:
        ConfigError: timm names no repository, it holds no safetensors, there is no such revision, or neither
            hub nor cache gives the file.
        IntegrityError: another commit came than the one that was asked for.
    """
    repository, name, own_revision = _locate(described)
    asked = revision or own_revision or "main"
    path = _download(repository, name, revision=asked)
    commit = path.parents[len(Path(name).parts) - 1].name
    if not _COMMIT.fullmatch(commit) or (_COMMIT.fullmatch(asked) and commit != asked):
        raise IntegrityError(
            f"the commit {asked} of {repository}"
            if _COMMIT.fullmatch(asked)
            else "a commit of 40 hex digits",
            f"the commit {commit!r}",
            WHERE,
            "Empty the cache of the hub's client, and check HF_ENDPOINT.",
        )
    # One step of the link only: it leads to a file that is named as the hub names the content.
    blob = path.readlink().name if path.is_symlink() else ""
    return HubFile(path, repository, commit, name, blob if _SHA256.fullmatch(blob) else "")


def _locate(described: Mapping[str, Any]) -> tuple[str, str, str]:
    repository, _, revision = str(described.get("hf_hub_id") or "").partition("@")
    name = str(described.get("hf_hub_filename") or FILE_NAME)
    if not repository or not name.endswith(".safetensors"):
        found = f"the file {name}" if repository else described.get("url") or "no weights that timm knows"
        action = (
            "Other formats can run code when they are opened. Choose another tag of the architecture, convert"
            " the file to safetensors and give its path as weights, or set weights: random."
        )
        raise ConfigError("pretrained weights that the hub holds as safetensors", str(found), WHERE, action)
    return repository, name, revision


def _download(repository: str, name: str, *, revision: str) -> Path:
    from httpx2 import HTTPError
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        GatedRepoError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    def refusal(found: str, action: str) -> ConfigError:
        return ConfigError(f"{name} at {revision} of the hub's {repository}", found, WHERE, action)

    try:
        return Path(hf_hub_download(repository, name, revision=revision))
    except RemoteEntryNotFoundError as error:
        raise refusal(
            "a repository without that file",
            "Only safetensors are loaded: other formats can run code when they are opened. Choose another tag"
            " of the architecture or another revision, or convert the weights and give the file's path.",
        ) from error
    except RevisionNotFoundError as error:
        raise refusal(
            "no such revision", "Correct revision; the repository's page lists its commits."
        ) from error
    except GatedRepoError as error:
        raise refusal(
            "weights that are given only to who accepts their licence",
            f"Accept it on the repository's page and set HF_TOKEN, or {_ELSEWHERE}.",
        ) from error
    except RepositoryNotFoundError as error:
        raise refusal(
            "no such repository, or one that is not open to you",
            f"Set HF_TOKEN if you may read it, or {_ELSEWHERE}.",
        ) from error
    except (OSError, HTTPError, RuntimeError) as error:
        # What the network does comes as any of the three, the last from the transfer of large files.
        raise refusal(
            f"neither in its cache nor on the network ({reason(error)})",
            f"Check the network (HF_HUB_OFFLINE, HF_ENDPOINT, the proxy) and revision, or {_ELSEWHERE}.",
        ) from error


def reason(error: BaseException) -> str:
    """Return the first line of what began an error of the client, which wraps it in advice of its own.

    What the hub itself said of it follows. No token is in it, though the hub may have repeated it.
    """
    from huggingface_hub import get_token

    answer, token = getattr(error, "server_message", None), get_token()
    while error.__cause__ is not None:
        error = error.__cause__
    first = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
    text = f"{first}: {answer}" if answer else first
    return _TOKEN.sub("<token>", text.replace(token, "<token>") if token else text)
