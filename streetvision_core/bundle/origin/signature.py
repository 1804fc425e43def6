"""`model.sig`: the signature of a bundle, made and checked by OpenSSF's model-signing (extra `sign`).

It covers the name and the SHA-256 of every file of the bundle but itself, `manifest.json` and
`private.json` included. The manifest does not list it, so it can be made after the export, and be replaced.
Whoever has model-signing alone can check it as well: `model_signing verify key BUNDLE --signature
BUNDLE/model.sig --public_key PUBLIC.pem`.

It is checked against the digests of the very bytes that were read: model-signing never opens the bundle. The
key has to come from somebody who is trusted, on another way than the bundle. What the signature says of its
key only decides which refusal is told.
"""

from __future__ import annotations

import base64
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streetvision_core.errors import BundleError
from streetvision_core.io import bytes_digest, write_file_atomic
from streetvision_core.io.encode import parse_json
from streetvision_core.io.names import SIGNATURE_NAME
from streetvision_core.io.system import temporary_directory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_ALGORITHM = "sha256"
_INSTALL = "pip install 'streetvision[sign]'"
_DO_NOT_USE = "Do not use this bundle; ask whoever made it for one that the key signs."
_CURVES = "an elliptic curve key (P-256, P-384 or P-521) in PEM"
_MAKE_KEYS = (
    "Make a pair with 'openssl ecparam -name prime256v1 -genkey -noout -out private.pem' and 'openssl ec -in"
    " private.pem -pubout -out public.pem'."
)


@dataclass(frozen=True)
class _Hashed:
    """The part of model-signing's hashing configuration that it calls; the digests are known already."""

    digests: Mapping[str, str]

    def hash(self, _path: object, *, files_to_hash: object = None) -> Any:
        """Return the digests as model-signing's manifest; the folder is not opened."""
        from model_signing._hashing.hashing import Digest
        from model_signing.manifest import Manifest, SerializationType

        assert files_to_hash is None
        form = SerializationType.from_args(
            {"method": "files", "hash_type": _ALGORITHM, "allow_symlinks": False}
        )
        items = [
            form.new_item(name, Digest(_ALGORITHM, bytes.fromhex(digest)))
            for name, digest in self.digests.items()
        ]
        return Manifest("bundle", items, form)

    def add_ignored_paths(self, **_paths: object) -> None:
        """Ignore nothing: a file that the signature leaves out is one that it does not cover."""


def sign_files(digests: Mapping[str, str], folder: Path, *, key: Path | None) -> str:
    """Write the signature of a bundle into its folder and return the SHA-256 (hex) of its public key.

    Args:
        digests: The SHA-256 (hex) of every file of the bundle, by name.
        folder: The folder of the bundle.
        key: The path of a private key in PEM, without a passphrase; None signs through Sigstore, which needs
            a network and asks who you are, and returns an empty text.

    Raises:
        BundleError: the extra is not installed, it is no such key, or Sigstore refused.
    """
    with _extra():
        from model_signing import signing
    config = signing.Config().set_hashing_config(_Hashed(digests))
    with temporary_directory("a signature") as place:
        path = place / SIGNATURE_NAME
        if key is None:
            _sign_by_sigstore(config, path)
            signer = ""
        else:
            data, signer = _read_key(key, private=True)
            (place / "key").write_bytes(data)
            config.use_elliptic_key_signer(private_key=place / "key").sign(folder, path)
        write_file_atomic(folder / SIGNATURE_NAME, path.read_bytes())
    return signer


def _sign_by_sigstore(config: Any, path: Path) -> None:
    from sigstore.errors import Error
    from tuf.api.exceptions import RepositoryError

    try:
        config.use_sigstore_signer().sign(path.parent, path)
    except (OSError, ValueError, Error, RepositoryError) as error:
        raise BundleError(
            "a signature through Sigstore",
            f"the error '{error}'",
            "sigstore",
            "Check the network; a key pair (--key PRIVATE.pem) needs none.",
        ) from error


def check_signature(signature: bytes | None, digests: Mapping[str, str], *, key: Path, where: Path) -> str:
    """Refuse a bundle that the holder of a key has not signed; return the SHA-256 (hex) of the key.

    Args:
        signature: The content of the signature file; None where there is none.
        digests: The SHA-256 (hex) of every file of the bundle, by name, of the very bytes that were read.
        key: The path of a public key in PEM.
        where: The folder of the bundle, for the error.

    Raises:
        BundleError: it is not signed, by another key, or for other bytes; or it is no such key.
    """
    if signature is None:
        raise BundleError(
            f"a signature by {key}",
            f"no {SIGNATURE_NAME}",
            where,
            "Ask whoever made it to sign it ('streetvision sign'), or compare --manifest-sha256.",
        )
    with _extra():
        from cryptography.exceptions import InvalidSignature
        from model_signing import verifying
    data, signer = _read_key(key, private=False)
    claimed, signed = _parse(signature, where)
    if claimed != signer:
        found = f"one by another key, of SHA-256 {claimed}"
        raise BundleError(f"a signature by {key}, of SHA-256 {signer}", found, where, _DO_NOT_USE)
    with temporary_directory("a signature") as place:
        (place / "key").write_bytes(data)
        (place / SIGNATURE_NAME).write_bytes(signature)
        config = verifying.Config().set_hashing_config(_Hashed(digests))
        try:
            config.use_elliptic_key_verifier(public_key=place / "key").verify(where, place / SIGNATURE_NAME)
        except InvalidSignature as error:
            found = "one that was changed, or that another key made in its name"
            raise BundleError(f"a signature by {key}", found, where, _DO_NOT_USE) from error
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            if signed != digests:
                raise _of_other_files(signed, digests, where) from error
            raise _not_readable(str(error), where) from error
    return signer


def _of_other_files(signed: Mapping[str, str], digests: Mapping[str, str], where: Path) -> BundleError:
    """Name the files that were added, removed or changed since they were signed."""
    faults = {
        "not signed": sorted(digests.keys() - signed.keys()),
        "signed and not here": sorted(signed.keys() - digests.keys()),
        "changed": sorted(name for name in signed.keys() & digests.keys() if signed[name] != digests[name]),
    }
    found = "; ".join(f"{fault}: {', '.join(names)}" for fault, names in faults.items() if names)
    return BundleError("the very files that were signed", f"others: {found}", where, _DO_NOT_USE)


def _parse(signature: bytes, where: Path) -> tuple[str, dict[str, str]]:
    """Return what a signature claims, unproven: the SHA-256 of its key, and the digests that it covers."""
    try:
        bundle = parse_json(signature)
        claimed = bundle["verificationMaterial"]["publicKey"]["hint"]
        statement = parse_json(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
        listed = statement["predicate"]["resources"]
        signed = {str(file["name"]): f"{file['algorithm']}:{file['digest']}" for file in listed}
    except (ValueError, KeyError, TypeError) as error:
        raise _not_readable(f"{type(error).__name__} {error}", where) from error
    if not isinstance(claimed, str):
        raise _not_readable("no key is named", where)
    return claimed, {name: digest.removeprefix(f"{_ALGORITHM}:") for name, digest in signed.items()}


def _not_readable(found: str, where: Path) -> BundleError:
    return BundleError(
        "a signature that model-signing made with a key pair",
        f"another file ({found})",
        where / SIGNATURE_NAME,
        "One through Sigstore is checked by 'model_signing verify sigstore'; else ask for a new signature.",
    )


def _read_key(path: Path, *, private: bool) -> tuple[bytes, str]:
    """Return a key's PEM, and the SHA-256 (hex) of its public half's PEM, by which model-signing names it."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    expected = f"the {'private' if private else 'public'} half of {_CURVES}"
    try:
        data = path.read_bytes()
        read = serialization.load_pem_private_key if private else serialization.load_pem_public_key
        key = read(data, None) if private else read(data)
        public = key.public_key() if private else key
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BundleError(expected, f"the error '{error}'", path, _MAKE_KEYS) from error
    curve = getattr(public, "curve", None)
    if not isinstance(curve, (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)):
        found = f"one of the curve {curve.name}" if curve else f"another kind ({type(key).__name__})"
        raise BundleError(expected, found, path, _MAKE_KEYS)
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return data, bytes_digest(pem)


@contextmanager
def _extra() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise BundleError(
            "model-signing and pyOpenSSL, which sign and check signatures",
            f"none ({error})",
            "this environment",
            f"Install them: {_INSTALL}",
        ) from error
