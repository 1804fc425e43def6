"""Traces that leave the machine with a bundle and do not belong to the model.

Each of these succeeded once: the golden images brought their EXIF along, and the lineage the name of the
host, of the user and of their folders.
"""

import getpass
import json
import platform
import shutil
import socket
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from streetvision_core.bundle import Predictor, load_bundle, verify_bundle
from streetvision_core.bundle.golden import pixels_alone
from streetvision_core.bundle.leaving import what_leaves
from streetvision_core.cli import main
from streetvision_core.data.decoding.decode import decode
from streetvision_core.data.splits import BY_SHA256, Splits, renamed
from streetvision_core.data.verify import verify_renamed
from streetvision_core.errors import BundleError
from streetvision_core.io import PrivateRecord, StepManifest, bytes_digest
from streetvision_core.io.manifest import OPEN_VERSION
from streetvision_core.io.private import read_private
from tests.bundle.chain import copy, forge, names_in

SECRET = {
    "gps": b"52, 30, 59.0004",
    "serial": b"SN-4711-CAMERA",
    "xmp": b"<rdf:Description photoshop:AuthorsPosition='neighbour'/>",
    "comment": b"taken in front of our house",
    "icc": b"the profile of my own monitor",
    "text": b"a chunk of text in a PNG",
}


def exif():
    metadata = Image.Exif()
    metadata[0x010F] = "MAKER-OF-CAMERAS"
    metadata.get_ifd(0x8769)[0xA431] = SECRET["serial"].decode()
    metadata.get_ifd(0x8769)[0x927C] = b"NOTE" + SECRET["serial"]
    gps = metadata.get_ifd(0x8825)
    gps[1], gps[2], gps[29] = "N", (52.0, 30.0, 59.0004), SECRET["gps"].decode()
    return metadata


def profile():
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    return bytes(data) + SECRET["icc"]


def photograph(kind, pixels=None):
    """The bytes of an image as a camera or a tool writes it, with all that they know beside the pixels."""
    image = pixels or Image.effect_noise((64, 48), 80).convert("RGB")
    buffer = BytesIO()
    if kind == "JPEG":
        image.save(
            buffer, kind, exif=exif(), icc_profile=profile(), comment=SECRET["comment"], xmp=SECRET["xmp"]
        )
    elif kind == "PNG":
        text = PngInfo()
        text.add_text("Comment", SECRET["text"].decode())
        text.add_itxt("XML:com.adobe.xmp", SECRET["xmp"].decode())
        image.save(buffer, kind, exif=exif(), icc_profile=profile(), pnginfo=text)
    else:
        image.save(buffer, kind, exif=exif(), icc_profile=profile(), xmp=SECRET["xmp"])
    return buffer.getvalue() + b"appended by a tool: " + SECRET["comment"]


def traces_in(data, traces):
    return [name for name, trace in traces.items() if trace in data]


@pytest.mark.parametrize(
    ("kind", "held"),
    [
        ("JPEG", {"gps", "serial", "xmp", "comment", "icc"}),
        ("PNG", {"serial", "gps"}),
        ("WEBP", {"gps", "serial", "xmp", "icc"}),
    ],
)
def test_a_golden_image_is_pixels_alone(kind, held):
    data = photograph(kind)
    assert held <= set(traces_in(data, SECRET))  # the attack would be none otherwise
    pixels = pixels_alone(decode(data))
    assert traces_in(pixels, SECRET) == []
    for marker in (b"Exif", b"ICC_PROFILE", b"http://ns.adobe.com", b"MAKER", b"\xff\xfe"):
        assert marker not in pixels[:1024]
    image = Image.open(BytesIO(pixels))
    assert dict(image.getexif()) == {}
    assert image.info.keys() <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


REDACTED_RUN = "20261121T093000-00000009"


@pytest.fixture(scope="session")
def redacted(chain):
    """The redacted bundle of the chain. Nobody writes here."""
    return chain.bundle(REDACTED_RUN, lineage="redacted")


def traces_of(chain):
    """The texts that tell of this machine and of the images in their folder."""
    folder = Path(chain.upstream["images"].config()["folder"]["path"])
    return {
        "host": socket.gethostname(), "platform": platform.platform(), "user": getpass.getuser(),
        "home": str(Path.home()), "tmp": "/tmp/", "folder": str(folder),
        "store": str(chain.store.root), **{image.name: image.name for image in chain.index.pictures},
    }  # fmt: skip


def found_in(folder, traces):
    """The traces in each file; only long ones in weights and pixels, which hold any short word somewhere."""
    by_file = {}
    for name in names_in(folder):
        data = (folder / name).read_bytes()
        shortest = 6 if name.endswith((".safetensors", ".jpg")) else 1
        # Two settings are called like a user; a value that is called so is a trace.
        data = data.replace(b"further_roots", b"").replace(b'"root":', b"")
        present = [trace for trace, text in traces.items() if len(text) >= shortest and text.encode() in data]
        by_file |= {name: present} if present else {}
    return by_file


def test_a_full_bundle_tells_where_it_was_made_in_its_side_files_alone(chain, bundle):
    traces = found_in(bundle, traces_of(chain))
    sides = {name for name in traces if name.startswith("lineage/private/") or name == "private.json"}
    assert len(sides) == len(chain.upstream) + 1
    assert {"host", "folder"} <= set(traces["lineage/private/images.json"])
    assert set(traces) - sides <= {"splits.json", "golden/expected.json"}  # the names of images


def test_a_redacted_bundle_tells_nothing_of_the_machine_and_of_the_names_of_images(chain, redacted):
    assert found_in(redacted, traces_of(chain)) == {}
    names = names_in(redacted)
    assert [name for name in names if "private" in name] == []
    assert json.loads((redacted / "bundle.json").read_bytes())["lineage"] == "redacted"


def test_a_redacted_bundle_is_checked_as_far_as_any_other(chain, redacted, capsys):
    verification = verify_bundle(redacted, deep=True)
    assert verification.golden == 8
    assert "machine    redacted" in verification.summary()
    tested = json.loads((redacted / "splits.json").read_bytes())["roles"]["val_test"]
    known = {image.name: image.sha256 for image in chain.index.pictures}
    assert sorted(tested) == sorted(known[name] for name in chain.splits.roles["val_test"])
    assert {image.name for image in verification.bundle.expected.pictures} <= set(tested)
    assert main(["lineage", str(redacted)]) == 0
    text = capsys.readouterr().out
    assert "on a machine that is redacted" in text
    assert "path redacted" in text


def test_who_has_the_side_files_can_prove_that_they_belong(chain, redacted):
    for step, published in chain.upstream.items():
        manifest = StepManifest.load(redacted / f"lineage/{step}.json")
        side = (published.directory / "private.json").read_bytes()
        assert read_private(side, manifest, where="here").hostname == socket.gethostname()
        assert manifest.private_sha256 == bytes_digest(side)


def test_the_predictor_loads_and_answers_as_that_of_the_full_bundle(bundle, redacted):
    images = sorted((bundle / "golden").glob("*.jpg"))
    answers = [list(Predictor.load(folder).predict(images)) for folder in (bundle, redacted)]
    assert answers[0] == answers[1]


def test_the_published_digests_are_those_of_the_names_and_the_index(chain):
    published = chain.upstream["splits"]
    known = {image.name: image.sha256 for image in chain.index.pictures}
    assert published.read_bytes(BY_SHA256) == renamed(chain.splits, known).to_bytes()
    assert verify_renamed(published, chain.index) == []
    others = replace(
        chain.index, pictures=tuple(replace(image, sha256=image.name) for image in chain.index.pictures)
    )
    assert "other images" in verify_renamed(published, others)[0]
    again = Splits.from_json(published.read_json(BY_SHA256), where="here")
    assert set(again.group_of.values()) <= set(known.values())


def other_side():
    return PrivateRecord.of_this_machine({"folder.path": "/elsewhere"}).to_bytes()


FORGERIES = {
    "a side file that was swapped": (
        "full", lambda _: {"lineage/private/images.json": other_side()},
    ),
    "a side file that was dropped": ("full", lambda _: {"lineage/private/images.json": None}),
    "a side file of a step that is not there": (
        "full", lambda _: {"lineage/private/other.json": other_side()},
    ),
    "a side file in a redacted bundle": (
        "redacted",
        lambda chain: {"lineage/private/images.json": chain.upstream["images"].private().to_bytes()},
    ),
    "names of images in a redacted bundle": (
        "redacted", lambda chain: {"splits.json": chain.upstream["splits"].read_bytes("splits.json")},
    ),
    "digests of images in a full bundle": (
        "full", lambda chain: {"splits.json": chain.upstream["splits"].read_bytes(BY_SHA256)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("attack", FORGERIES)
def test_a_forged_bundle_is_refused(chain, bundle, redacted, tmp_path, attack):
    kind, files = FORGERIES[attack]
    source = bundle if kind == "full" else redacted
    with pytest.raises(BundleError):
        load_bundle(forge(source, tmp_path / "forged", files=files(chain)))


def test_the_own_side_file_cannot_be_dropped_swapped_or_slipped_in(bundle, redacted, tmp_path):
    dropped = copy(bundle, tmp_path / "dropped")
    (dropped / "private.json").unlink()
    with pytest.raises(BundleError, match=r"side file private\.json that the manifest names"):
        load_bundle(dropped)
    swapped = copy(bundle, tmp_path / "swapped")
    (swapped / "private.json").write_bytes(PrivateRecord.of_this_machine({}).to_bytes())
    with pytest.raises(BundleError):
        load_bundle(swapped)
    slipped = copy(redacted, tmp_path / "slipped")
    shutil.copy(bundle / "private.json", slipped)
    with pytest.raises(BundleError, match=r"only files that the manifest lists"):
        load_bundle(slipped)


def test_a_redacted_bundle_whose_manifest_names_the_machine_is_refused(redacted, tmp_path):
    named = {"schema_version": OPEN_VERSION, "hostname": "host", "platform": "linux"}
    with pytest.raises(BundleError, match="no machine and no path in a redacted bundle"):
        load_bundle(forge(redacted, tmp_path / "forged", manifest=named))


def test_what_an_older_version_wrote_cannot_be_redacted_and_export_says_what_to_do(chain, tmp_path):
    images = chain.upstream["images"]
    older = images.manifest.model_copy(
        update={
            "schema_version": 1, "hostname": "host", "platform": "p", "private_sha256": None,
            "config": images.config(),
        }
    )  # fmt: skip
    directory = tmp_path / "images"
    shutil.copytree(images.directory, directory)
    upstream = {**chain.upstream, "images": replace(images, directory=directory, manifest=older)}
    with pytest.raises(BundleError, match=r"redaction is not possible.*Materialize images again"):
        chain.export(tmp_path / "out", upstream=upstream, lineage="redacted")


def test_export_says_what_leaves_the_machine(chain, tmp_path):
    images = len(chain.index.pictures)
    full = what_leaves(chain.export(tmp_path / "full").files)
    for text in (
        "golden images, pixels only (8)", f"image names in splits.json ({images})", "the values of",
        "unnamed images of val_calib (",
        "host name, platform and paths (1) in lineage/private/ and private.json", "lineage: redacted leaves",
    ):  # fmt: skip
        assert text in full
    redacted = what_leaves(chain.export(tmp_path / "redacted", lineage="redacted", golden=0).files)
    assert "golden images, pixels only (0)" in redacted
    assert f"the SHA-256 of images in splits.json ({images})" in redacted
    assert "no host name, platform or image name, and no path of the configuration" in redacted


def test_export_says_which_older_manifests_name_the_machine(golden_705fcbb):
    folder = golden_705fcbb.directory("20261128T213636-222e6284", "bundle")
    files = {name: (folder / name).read_bytes() for name in names_in(folder)}
    assert "lineage/images.json" in what_leaves(files)
    assert "of an older version" in what_leaves(files)


def test_names_are_refused_in_a_redacted_bundle_that_has_no_golden_images(chain, tmp_path):
    """Golden images would give the exchange away."""
    folder = chain.bundle("20261121T093000-0000000a", lineage="redacted", golden=0)
    assert load_bundle(folder).expected.pictures == ()
    named = chain.upstream["splits"].read_bytes("splits.json")
    with pytest.raises(BundleError, match=r"splits\.json as the step splits published it"):
        load_bundle(forge(folder, tmp_path / "forged", files={"splits.json": named}))
