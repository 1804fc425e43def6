"""A bundle goes to a hub and comes back: every form in which it does verifies, and nothing else."""

import json
import shutil
from pathlib import Path

import pytest

from streetvision_core.bundle import Predictor, verify_bundle
from streetvision_core.cli import main
from streetvision_core.errors import BundleError
from streetvision_core.io import bytes_digest
from tests.bundle.chain import copy, names_in
from tests.bundle.hub_double import TOKEN, RefusalError, serve
from tests.hearing import heard

REPOSITORY = "somebody/roadwork"
# The hub's client uploads large files in a way that its own HTTP library calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub of one's own, and a client that knows no other and has a token for it."""
    with serve() as hub:
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        for name, value in {
            "HUGGINGFACE_CO_URL_TEMPLATE": template, "ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": True,
            "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": False,
            "HF_TOKEN_PATH": str(tmp_path / "no_token"),
        }.items():  # fmt: skip
            monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


@pytest.fixture
def published(hub, bundle):
    assert main(["publish", REPOSITORY, str(bundle)]) == 0
    return hub


def download(**options):
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(REPOSITORY, **options))


def refused(path, match):
    with pytest.raises(BundleError, match=match) as caught:
        verify_bundle(path)
    return str(caught.value)


def test_what_is_published_is_the_bundle_byte_for_byte_in_one_commit(published, bundle, capsys):
    files = published.files(REPOSITORY)
    assert sorted({*files} - {".gitattributes"}) == names_in(bundle)
    assert all((bundle / name).read_bytes() == files[name] for name in names_in(bundle))
    assert len(published.repositories[REPOSITORY].commits) == 2  # the hub's own, and ours


def test_fetch_gives_back_a_bundle_that_verifies(published, bundle, tmp_path, capsys):
    target = tmp_path / "new" / "folder"
    assert main(["fetch", REPOSITORY, str(target)]) == 0
    printed = capsys.readouterr().out
    assert f"good       {target}" in printed
    assert ".cache/huggingface and .gitattributes, which a hub adds and nothing reads" in printed
    assert all((bundle / name).read_bytes() == (target / name).read_bytes() for name in names_in(bundle))
    assert [path.name for path in target.parent.iterdir()] == ["folder"]
    assert main(["verify", "--deep", str(target)]) == 0


def test_fetch_takes_the_manifest_and_the_key_that_somebody_named(published, bundle, tmp_path, capsys):
    """A bundle of another digest or key, or an unsigned one, is not left behind."""
    digest = bytes_digest((bundle / "manifest.json").read_bytes())
    assert main(["fetch", REPOSITORY, str(tmp_path / "good"), "--manifest-sha256", digest]) == 0
    for option, reason in (("--manifest-sha256", "as you were told"), ("--key", "no model.sig")):
        assert main(["fetch", REPOSITORY, str(tmp_path / "bad"), option, "0" * 64]) == 1
        assert reason in capsys.readouterr().err
    assert [path.name for path in tmp_path.glob("*[bg]*d*")] == ["good"]


def test_a_signature_goes_to_the_hub_and_comes_back(hub, bundle, tmp_path, capsys):
    """An unsigned bundle that is published over it takes it away."""
    signed = copy(bundle, tmp_path / "signed")
    (signed / "model.sig").write_bytes(b"a signature")
    assert main(["publish", REPOSITORY, str(signed)]) == 0
    assert main(["fetch", REPOSITORY, str(tmp_path / "back")]) == 0
    assert (tmp_path / "back/model.sig").read_bytes() == b"a signature"
    assert (download() / "model.sig").is_symlink()
    assert "model.sig, not checked" in verify_bundle(download()).summary()
    assert main(["publish", REPOSITORY, str(bundle)]) == 0
    assert "model.sig" not in hub.files(REPOSITORY)


def test_the_cache_of_the_client_verifies_and_answers_through_its_links(published, capsys):
    snapshot = download()
    assert (snapshot / "golden/001.jpg").is_symlink()
    verified = verify_bundle(snapshot, deep=True)
    assert verified.golden == 8
    assert "links into the hub's cache, each followed and hashed" in verified.summary()
    lines = []
    with heard(lines.append):
        assert len(list(Predictor.load(snapshot).predict([snapshot / "golden/001.jpg"]))) == 1
    assert "links into the hub's cache" in lines[0]
    assert main(["predict", str(snapshot), str(snapshot / "golden/001.jpg")]) == 0
    printed = capsys.readouterr()
    assert "links into the hub's cache" in printed.err
    assert json.loads(printed.out.splitlines()[-1])["decision"]


def test_a_clone_of_git_verifies(bundle, tmp_path):
    """A clone with its large files verifies; pointers alone are refused, and the error says what to do."""
    clone = copy(bundle, tmp_path / "clone")
    (clone / ".git" / "objects").mkdir(parents=True)
    (clone / ".git" / "HEAD").write_text("ref: refs/heads/main")
    (clone / ".gitattributes").write_text("*.safetensors filter=lfs")
    assert ".git and .gitattributes, which a hub adds" in verify_bundle(clone).summary()
    (clone / "golden/.gitattributes").write_text("")
    refused(clone, "golden/.gitattributes")
    (clone / "golden/.gitattributes").unlink()
    (clone / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    assert "git lfs pull" in refused(clone, "pointer")


@pytest.mark.parametrize(
    "name",
    [
        ".cache/other/x", ".cache/huggingface/../beside", ".cache/huggingface", "golden/.gitattributes",
        "lineage/.git/HEAD", ".git",
        "policy/.cache/huggingface/x", ".gitignore", ".gitattributes/x", ".github/x", ".huggingface/x",
    ],
)  # fmt: skip
def test_what_no_hub_adds_is_refused(bundle, tmp_path, name):
    moved = copy(bundle, tmp_path / "moved")
    (moved / name).parent.mkdir(parents=True, exist_ok=True)
    (moved / name).write_bytes(b"")
    refused(moved, "only (files|folders)")


@pytest.mark.parametrize("name", [".git", ".cache", ".gitattributes", ".cache/huggingface"])
def test_a_link_in_place_of_what_the_hub_adds_is_refused(bundle, tmp_path, name):
    moved = copy(bundle, tmp_path / "moved")
    (tmp_path / "huggingface").mkdir()
    (moved / name).parent.mkdir(exist_ok=True)
    (moved / name).symlink_to(tmp_path)
    refused(moved, "only (regular files|folders)")


def as_cache(bundle, root):
    """Lay a bundle out as the hub's cache does; return the snapshot."""
    snapshot = copy(bundle, root / "models--a--b" / "snapshots" / ("a1" * 20))
    blobs = root / "models--a--b" / "blobs"
    blobs.mkdir()
    for number, name in enumerate(names_in(snapshot)):
        shutil.move(snapshot / name, blobs / f"{number:040x}")
        (snapshot / name).symlink_to("../" * (2 + name.count("/")) + f"blobs/{number:040x}")
    return snapshot


def relink(path, target):
    path.unlink()
    path.symlink_to(target)


def test_links_that_lead_elsewhere_than_the_blobs_are_refused(bundle, tmp_path):
    snapshot = as_cache(bundle, tmp_path)
    verify_bundle(snapshot)
    readme = snapshot / "README.md"
    blob = readme.readlink().name
    readable = (snapshot / "README.md").resolve()
    shutil.copy(readable, readable.with_name("readme"))
    for target in (
        str(readable),  # the same bytes by another way
        f"../blobs/{blob}", f"../../../blobs/{blob}", f"../../blobs/../blobs/{blob}", "../../blobs",
        f"../../blobs/{'f' * 40}", "../../blobs/readme", f"golden/../../../blobs/{blob}",
    ):  # fmt: skip
        relink(readme, target)
        refused(snapshot, "link|such file|read")
    relink(readme, f"../../blobs/{blob}")
    verify_bundle(snapshot)


def test_a_blob_is_hashed_and_is_no_link_itself(bundle, tmp_path):
    snapshot = as_cache(bundle, tmp_path)
    blob = (snapshot / "LICENSE").resolve()
    data = blob.read_bytes()
    blob.write_bytes(data.replace(b"Licence", b"licence"))
    refused(snapshot, "SHA-256")
    blob.unlink()
    (tmp_path / "elsewhere").write_bytes(data)
    blob.symlink_to(tmp_path / "elsewhere")
    refused(snapshot, "link")
    blob.unlink()
    blob.write_bytes(data)
    blobs = snapshot.parents[1] / "blobs"
    blobs.rename(tmp_path / "away")
    blobs.symlink_to(tmp_path / "away")
    refused(snapshot, "folder|director")


def test_links_out_of_a_folder_that_is_no_snapshot_are_refused(bundle, tmp_path):
    snapshot = as_cache(bundle, tmp_path)
    for other in (snapshot.with_name("main"), snapshot.parent.with_name("shots") / snapshot.name):
        other.parent.mkdir(exist_ok=True)
        shutil.copytree(snapshot, other, symlinks=True)
        refused(other, "link")


def test_a_dry_run_lists_what_would_go_and_what_it_reveals_and_asks_no_hub(hub, bundle, capsys):
    assert main(["publish", REPOSITORY, str(bundle), "--dry-run", "--private"]) == 0
    printed = capsys.readouterr().out
    assert hub.asked == []
    assert all(f" {name}\n" in printed for name in names_in(bundle))
    assert "host name, platform and paths" in printed
    assert f"private repository {REPOSITORY}" in printed


def test_without_a_folder_the_current_bundle_is_published(hub, chain, bundle, capsys):
    assert main(["publish", REPOSITORY, "--dry-run", "--store", str(chain.store.root)]) == 0
    assert "manifest.json" in capsys.readouterr().out


def test_a_bundle_that_does_not_verify_is_not_published(hub, bundle, tmp_path, capsys):
    moved = copy(bundle, tmp_path / "moved")
    (moved / "README.md").write_text("other")
    assert main(["publish", REPOSITORY, str(moved)]) == 1
    assert hub.asked == []


def test_a_revision_is_a_branch_and_is_fetched_by_its_name_or_commit(hub, bundle, tmp_path, capsys):
    assert main(["publish", REPOSITORY, str(bundle), "--revision", "v1"]) == 0
    assert set(hub.files(REPOSITORY)) == {".gitattributes"}
    commit = hub.repositories[REPOSITORY].branches["v1"]
    assert f"{REPOSITORY} at {commit}" in capsys.readouterr().out
    assert main(["fetch", REPOSITORY, str(tmp_path / "a"), "--revision", "v1"]) == 0
    assert main(["fetch", REPOSITORY, str(tmp_path / "b"), "--revision", commit]) == 0
    assert main(["fetch", REPOSITORY, str(tmp_path / "c"), "--revision", "v2"]) == 1
    assert "no such revision" in capsys.readouterr().err


def test_private_is_never_published_into_the_open(hub, bundle, capsys):
    assert main(["publish", "somebody/new", str(bundle), "--private"]) == 0
    assert hub.repositories["somebody/new"].private
    hub.put(REPOSITORY, {})
    assert main(["publish", REPOSITORY, str(bundle), "--private"]) == 1
    assert "a public one" in capsys.readouterr().err
    assert set(hub.files(REPOSITORY)) == {".gitattributes"}


def test_an_older_bundle_is_replaced_whole_and_a_strangers_repository_is_left_alone(hub, bundle, capsys):
    hub.put(REPOSITORY, {"golden/099.jpg": b"old", "policy/gate.json": b"{}"})
    assert main(["publish", REPOSITORY, str(bundle)]) == 0
    assert sorted({*hub.files(REPOSITORY)} - {".gitattributes"}) == names_in(bundle)
    hub.put("somebody/other", {"train.py": b"print()"})
    assert main(["publish", "somebody/other", str(bundle)]) == 1
    assert "train.py" in capsys.readouterr().err
    assert "train.py" in hub.files("somebody/other")


def test_the_token_reaches_the_hub_and_nobody_else(hub, bundle, tmp_path, capsys, caplog):
    caplog.set_level("INFO")
    hub.refuse["commit"] = RefusalError(403, message=f"the token {TOKEN} may not write here")
    assert main(["publish", REPOSITORY, str(bundle)]) == 1
    assert main(["fetch", "somebody/none", str(tmp_path / "x")]) == 1
    printed = capsys.readouterr()
    assert "may not write here" in printed.err
    assert {token for _, _, token in hub.asked} >= {f"Bearer {TOKEN}"}
    assert TOKEN not in printed.out + printed.err + caplog.text


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"pytorch_model.bin": b"x"}, "pytorch_model.bin"),
        ({"README.md": b"#", "bundle.json": b"{}"}, "manifest.json"),
        ({"golden/001.jpg/x": b"x"}, "golden/001.jpg/x"),
    ],
)
def test_a_repository_that_holds_no_bundle_is_refused_before_it_is_downloaded(
    hub, tmp_path, capsys, files, reason
):
    hub.put(REPOSITORY, files)
    assert main(["fetch", REPOSITORY, str(tmp_path / "x")]) == 1
    assert reason in capsys.readouterr().err
    assert not any("/resolve/" in path for _, path, _ in hub.asked)
    assert not (tmp_path / "x").exists()


def test_a_changed_repository_leaves_nothing_behind(published, tmp_path, capsys):
    published.files(REPOSITORY)["README.md"] = b"# Edited on the page of the hub\n"
    assert main(["fetch", REPOSITORY, str(tmp_path / "x")]) == 1
    assert "README.md" in capsys.readouterr().err
    assert not list(tmp_path.glob("*x*"))


def test_fetch_never_writes_into_what_is_there(published, tmp_path, capsys):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "mine").write_text("mine")
    assert main(["fetch", REPOSITORY, str(tmp_path / "x")]) == 1
    assert "Choose another folder" in capsys.readouterr().err
    assert names_in(tmp_path / "x") == ["mine"]


@pytest.mark.parametrize("name", ["", "a/b/c", "../x", "a b", "somebody/-x"])
def test_a_name_that_no_repository_can_have_is_one_paragraph(hub, bundle, tmp_path, capsys, name):
    assert main(["publish", name, str(bundle)]) == 1
    assert main(["fetch", name, str(tmp_path / "x")]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 2
    assert hub.asked == []


def test_a_hub_that_cannot_be_reached_is_one_paragraph(hub, bundle, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert main(["publish", REPOSITORY, str(bundle)]) == 1
    assert main(["fetch", REPOSITORY, str(tmp_path / "x")]) == 1
    assert capsys.readouterr().err.count("HF_ENDPOINT") == 2
