"""A signature proves who made a bundle: every way around it is refused, each with a paragraph of its own."""

import base64
import json
import subprocess
import sys

import pytest

from streetvision_core.bundle import Predictor, load_bundle, verify_bundle
from streetvision_core.cli import main
from streetvision_core.errors import BundleError
from streetvision_core.io import read_artifact
from tests.bundle import independent
from tests.bundle.chain import copy, forge, names_in

pytest.importorskip("model_signing.signing", reason="needs the extra sign")
SIGNATURE = "model.sig"


def make_keys(folder, curve="SECP256R1", *, passphrase=None):
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    folder.mkdir()
    key = ec.generate_private_key(getattr(ec, curve)())
    closed = form.BestAvailableEncryption(passphrase) if passphrase else form.NoEncryption()
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, closed)
    public = key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    (folder / "private.pem").write_bytes(private)
    (folder / "public.pem").write_bytes(public)
    return folder


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return make_keys(tmp_path_factory.mktemp("keys") / "mine")


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    return make_keys(tmp_path_factory.mktemp("keys") / "others")


@pytest.fixture(scope="module")
def signed(bundle, keys, tmp_path_factory):
    """A signed bundle. Nobody writes here: tests copy it first."""
    moved = copy(bundle, tmp_path_factory.mktemp("signed") / "bundle")
    assert main(["sign", str(moved), "--key", str(keys / "private.pem")]) == 0
    return moved


@pytest.fixture
def moved(signed, tmp_path):
    return copy(signed, tmp_path / "moved")


def refused(path, key, match):
    for use in (verify_bundle, load_bundle, Predictor.load):
        with pytest.raises(BundleError, match=match) as caught:
            use(path, key=key / "public.pem")
    return str(caught.value)


def test_a_signed_bundle_verifies_with_the_key_and_says_so(signed, bundle, keys, capsys):
    key = str(keys / "public.pem")
    assert main(["verify", str(signed), "--key", key]) == 0
    assert "signature  model.sig, of these very files, by the key of SHA-256" in capsys.readouterr().out
    assert main(["predict", "--key", key, str(signed), str(signed / "golden/001.jpg")]) == 0
    assert json.loads(capsys.readouterr().out)["decision"]
    assert Predictor.load(signed, key=key).policy
    assert names_in(signed) == sorted([*names_in(bundle), SIGNATURE])


def test_without_a_key_the_signature_is_accepted_by_its_name_and_said_not_to_be_checked(moved):
    assert "model.sig, not checked (--key PUBLIC.pem does)" in verify_bundle(moved).summary()
    (moved / SIGNATURE).write_bytes(b"anything")
    assert "not checked" in verify_bundle(moved).summary()
    assert independent.verify(moved) == ""


def test_the_signature_is_no_way_to_slip_in_other_things(moved, tmp_path):
    (moved / "golden" / SIGNATURE).write_bytes(b"")
    with pytest.raises(BundleError, match=r"golden/model\.sig"):
        verify_bundle(moved)
    (moved / "golden" / SIGNATURE).unlink()
    (moved / SIGNATURE).unlink()
    (moved / SIGNATURE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="only regular files"):
        verify_bundle(moved)


def test_an_unsigned_bundle_is_refused(bundle, keys):
    assert "'streetvision sign'" in refused(bundle, keys, r"signature by .*, but found no model.sig")


def test_a_bundle_that_another_key_signed_is_refused(signed, others):
    refused(signed, others, "but found one by another key, of SHA-256")


def test_another_key_that_takes_the_name_of_the_first_is_refused(bundle, keys, others, tmp_path):
    """The name of the key in the signature is not signed, so that it proves nothing."""
    own = copy(bundle, tmp_path / "own")
    named = {}
    for pair in (keys, others):
        assert main(["sign", str(own), "--key", str(pair / "private.pem")]) == 0
        named[pair] = json.loads((own / SIGNATURE).read_bytes())
    forged = named[others] | {"verificationMaterial": named[keys]["verificationMaterial"]}
    (own / SIGNATURE).write_text(json.dumps(forged))
    refused(own, keys, "one that was changed, or that another key made in its name")


def signature_with(path, change):
    content = json.loads((path / SIGNATURE).read_bytes())
    change(content)
    (path / SIGNATURE).write_text(json.dumps(content))


def other_statement(content):
    statement = json.loads(base64.b64decode(content["dsseEnvelope"]["payload"]))
    statement["predicate"]["resources"][0]["digest"] = "0" * 64
    content["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()


def numbers_for_names(content):
    statement = json.loads(base64.b64decode(content["dsseEnvelope"]["payload"]))
    for number, file in enumerate(statement["predicate"]["resources"][:2]):
        file["name"] = number
    content["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    content["dsseEnvelope"]["signatures"] = []


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (numbers_for_names, "signed and not here: 0, 1"),
        (other_statement, "changed, or that another key"),
        (lambda c: c["dsseEnvelope"]["signatures"][0].update(sig="AAAA"), "changed, or that another key"),
        (lambda c: c["dsseEnvelope"].update(signatures=[]), "another file"),
        (lambda c: c.update(mediaType="x"), "another file"),
        (lambda c: c["dsseEnvelope"].update(payload="e30="), "another file"),
        (lambda c: c["verificationMaterial"]["publicKey"].update(hint=None), "no key is named"),
        (lambda c: c["verificationMaterial"].pop("publicKey"), "another file"),
        (lambda c: c.pop("dsseEnvelope"), "another file"),
    ],
)
def test_a_changed_signature_is_refused(moved, keys, change, match):
    signature_with(moved, change)
    refused(moved, keys, match)


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"[" * 100_000, b"\xff"])
def test_what_is_no_signature_is_refused(moved, keys, data):
    (moved / SIGNATURE).write_bytes(data)
    refused(moved, keys, "a signature that model-signing made with a key pair")


def test_files_that_fit_together_and_not_the_signature_are_named(signed, keys, tmp_path):
    """Somebody changes, adds or removes a file, and makes every digest fit again."""
    changed = forge(signed, tmp_path / "a", files={"README.md": b"# Trust me\n"})
    verify_bundle(changed)
    refused(changed, keys, "others: changed: README.md, bundle.json, lineage/provenance.json, manifest.json")
    more = forge(signed, tmp_path / "b", files={"LICENSE-more.txt": b""})
    refused(more, keys, "others: not signed: LICENSE-more.txt; changed: ")
    fewer = forge(signed, tmp_path / "c", files={"lineage/provenance.json": None})
    refused(fewer, keys, "others: signed and not here: lineage/provenance.json; changed: manifest.json")


def test_a_file_that_the_manifest_does_not_fit_is_refused_as_ever(moved, keys):
    (moved / "README.md").write_bytes(b"# Trust me\n")
    refused(moved, keys, "README.md with")


def test_a_signature_that_leaves_files_out_is_not_one_of_the_bundle(bundle, keys, tmp_path):
    """model-signing can be told to ignore files; here nothing is ignored."""
    from model_signing import hashing, signing

    moved = copy(bundle, tmp_path / "moved")
    config = signing.Config().use_elliptic_key_signer(private_key=keys / "private.pem")
    ignoring = hashing.Config().set_ignored_paths(paths=[moved / "README.md"])
    config.set_hashing_config(ignoring).sign(moved, tmp_path / "s")
    (moved / SIGNATURE).write_bytes((tmp_path / "s").read_bytes())
    refused(moved, keys, "others: not signed: README.md")


def test_model_signing_alone_checks_and_makes_such_signatures(bundle, signed, keys, tmp_path):
    """Whoever does not have StreetVision verifies with the tool of OpenSSF, and signs with it."""
    tool = [sys.executable, "-m", "model_signing"]
    key, place = ["--public_key", keys / "public.pem"], ["--signature", signed / SIGNATURE]
    subprocess.run([*tool, "verify", "key", signed, *place, *key], check=True, capture_output=True)
    moved = copy(bundle, tmp_path / "moved")
    place = ["--signature", moved / SIGNATURE, "--private_key", keys / "private.pem"]
    subprocess.run([*tool, "sign", "key", moved, *place], check=True, capture_output=True)
    assert verify_bundle(moved, key=keys / "public.pem").bundle.contents.signed_by


@pytest.mark.parametrize("curve", ["SECP384R1", "SECP521R1"])
def test_the_larger_curves_sign_as_well(moved, tmp_path, curve):
    pair = make_keys(tmp_path / "pair", curve)
    assert main(["sign", str(moved), "--key", str(pair / "private.pem")]) == 0
    assert verify_bundle(moved, key=pair / "public.pem").bundle.contents.signed_by


@pytest.fixture(scope="module")
def wrong_keys(keys, tmp_path_factory):
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import rsa

    folder = copy(keys, tmp_path_factory.mktemp("wrong") / "keys")
    make_keys(folder / "closed", passphrase=b"secret")
    make_keys(folder / "other", "SECP256K1")
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    (folder / "rsa.pem").write_bytes(pem)
    return folder


@pytest.mark.parametrize(
    ("key", "match"),
    [
        ("nowhere.pem", "No such file"),
        ("public.pem", "private half"),
        ("closed/private.pem", "ncrypted"),
        ("other/private.pem", "the curve secp256k1"),
        ("rsa.pem", "RSAPrivateKey"),
        ("", "private half"),
    ],
)
def test_what_is_no_key_to_sign_with_is_one_paragraph(moved, wrong_keys, capsys, key, match):
    before = (moved / SIGNATURE).read_bytes()
    assert main(["sign", str(moved), "--key", str(wrong_keys / key) if key else ""]) == 1
    printed = capsys.readouterr().err
    assert match in printed
    assert printed.count("\n") == 1
    assert (moved / SIGNATURE).read_bytes() == before


@pytest.mark.parametrize("key", ["", "private.pem", "nowhere.pem"])
def test_what_is_no_public_key_checks_nothing(signed, keys, capsys, key):
    """An empty name, as of a variable that is not set, is not the same as no key."""
    assert main(["verify", str(signed), "--key", str(keys / key) if key else ""]) == 1
    assert "the public half of an elliptic curve key" in capsys.readouterr().err


def test_a_bundle_that_does_not_verify_is_not_signed(moved, keys, capsys):
    (moved / "LICENSE").unlink()
    (moved / SIGNATURE).unlink()
    assert main(["sign", str(moved), "--key", str(keys / "private.pem")]) == 1
    assert not (moved / SIGNATURE).exists()


def test_a_bundle_is_signed_where_it_lies_in_the_store(chain, keys):
    """It stays intact there, and is published again after a kill."""
    own = chain.bundle("20261121T093000-00000017")
    assert main(["sign", str(own), "--key", str(keys / "private.pem")]) == 0
    published = read_artifact(own)
    assert published.problems() == []
    assert chain.store.publish(own, published.manifest).manifest_sha256 == published.manifest_sha256


def test_without_the_extra_one_paragraph_says_how_to_install_it(signed, keys, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "OpenSSL", None)
    for name in [name for name in sys.modules if name.startswith("model_signing")]:
        monkeypatch.delitem(sys.modules, name)
    assert main(["verify", str(signed), "--key", str(keys / "public.pem")]) == 1
    assert main(["sign", str(signed), "--key", str(keys / "private.pem")]) == 1
    printed = capsys.readouterr().err
    assert printed.count("pip install 'streetvision[sign]'") == 2
    assert printed.count("\n") == 2
    assert main(["verify", str(signed)]) == 0


def test_a_key_is_for_a_bundle(keys, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["verify", "some_run", "--key", str(keys / "public.pem")])
    assert ended.value.code == 2
    assert "the folder of a bundle" in capsys.readouterr().err
