"""Files that cost little to make and much to read: each is refused before the cost, with its own error.

Every exploit here worked once. Each part of a bundle fits its digests: whoever can write a folder can compute
digests too.
"""

import json
import math
import os
import random
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from streetvision_core.bundle import bounds, load_bundle
from streetvision_core.bundle.weights import check_costs, check_layout
from streetvision_core.data import (
    CsvConfig,
    FolderConfig,
    ParquetConfig,
    Reason,
    SourceConfig,
    UnusableImageError,
    index_source,
    open_source,
)
from streetvision_core.data.decoding.decode import decode
from streetvision_core.data.decoding.jpeg import MAX_SCANS
from streetvision_core.data.sources import table
from streetvision_core.errors import BundleError, ConfigError, DataError, SchemaError
from streetvision_core.io import OutputFile, StepManifest, read_artifact
from streetvision_core.io.names import parse_pointer
from tests.attacks.making import encode, many_scans, street, weights_header, with_segment
from tests.attacks.measuring import cost_of
from tests.bundle.chain import copy, forge
from tests.bundle.forging import forge_part, refused

pytestmark = pytest.mark.long
GIB = 2**30


def list_file(folder, name, *, size, sha256="0" * 64):
    """Make the manifest of a bundle list a file of a size, its digest and data version kept consistent."""
    from streetvision_core.io import content_digest

    manifest = StepManifest.load(folder / "manifest.json")
    outputs = {**manifest.output_artifacts, name: OutputFile(sha256=sha256, size_bytes=size)}
    version = content_digest({listed: file.sha256 for listed, file in outputs.items()})
    changed = manifest.model_copy(update={"output_artifacts": outputs, "data_version": version})
    (folder / "manifest.json").write_bytes(changed.to_bytes())
    return folder


# --- a bundle


@pytest.mark.parametrize("name", ["model.safetensors", "README.md", "golden/001.png", "splits.json"])
def test_a_listed_sparse_file_of_twenty_gibibytes_is_refused_unread(bundle, tmp_path, name):
    moved = copy(bundle, tmp_path / "moved")
    (moved / name).touch()
    os.truncate(moved / name, 20 * GIB)
    cost = cost_of("load", list_file(moved, name, size=20 * GIB))
    assert cost.answer.startswith("BundleError"), cost.answer
    assert f"{name} of at most" in cost.answer
    assert cost.grown_mib < 100


def test_a_sparse_file_of_weights_within_the_bound_is_refused_by_its_beginning(bundle, tmp_path):
    moved = copy(bundle, tmp_path / "moved")
    os.truncate(moved / "model.safetensors", 6 * GIB)
    cost = cost_of("load", list_file(moved, "model.safetensors", size=6 * GIB))
    assert cost.answer.startswith("BundleError"), cost.answer
    assert cost.grown_mib < 100


def test_many_files_that_are_each_small_enough_are_refused_together(bundle, tmp_path):
    moved = copy(bundle, tmp_path / "moved")
    for number in range(900, 920):
        name = f"golden/{number}.png"
        (moved / name).touch()
        os.truncate(moved / name, bounds.IMAGE_BYTES)
        list_file(moved, name, size=bounds.IMAGE_BYTES)
    cost = cost_of("load", moved)
    assert "BundleError" in cost.answer
    assert "together" in cost.answer
    assert cost.grown_mib < 100


@pytest.mark.parametrize("architecture", ["vit_giant_patch14_224", "eva_giant_patch14_560"])
def test_a_gigantic_architecture_is_refused_before_it_is_built(bundle, tmp_path, architecture):
    def name_it(config):
        config["architecture"] = architecture
        config["num_features"] = 1408

    forged = forge_part(bundle, tmp_path / "f", "config.json", name_it)
    cost = cost_of("load", forged)
    assert cost.answer.startswith("BundleError"), cost.answer
    assert architecture in cost.answer
    assert cost.grown_mib < 300


@pytest.mark.parametrize(
    "size",
    [
        [3, 0, 0], [3, -1, -1], [3, 1 << 20, 1 << 20], [3, 48.5, 48], ["3", "48", "48"], [3, 48], 48, None,
        [],        [3, True, True], [1, 48, 48], [3, [48], 48], {"a": 1}, [3, 10**30, 48],
    ],
    ids=str,
)  # fmt: skip
def test_an_input_size_that_no_network_has_is_refused(bundle, tmp_path, size):
    forged = forge_part(
        bundle, tmp_path / "f", "config.json", lambda c: c["pretrained_cfg"].update(input_size=size)
    )
    refused(forged, "input_size")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("crop_pct", 1e-9), ("crop_pct", 0), ("crop_pct", -1), ("crop_pct", "1"), ("crop_pct", 1e308),
        ("crop_pct", None), ("mean", [0.5, 0.5]), ("mean", "abc"), ("mean", [1e400] * 3), ("std", [0, 0, 0]),
        ("std", [-1, 1, 1]), ("interpolation", "magic"), ("interpolation", ["bicubic"]), ("crop_mode", "all"),
    ],
)  # fmt: skip
def test_preprocessing_that_cannot_be_done_is_refused(bundle, tmp_path, setting, value):
    forged = forge_part(
        bundle, tmp_path / "f", "config.json", lambda c: c["pretrained_cfg"].update({setting: value})
    )
    refused(forged, setting if value != [1e400] * 3 else "JSON|mean|published")


@pytest.mark.parametrize("size", [1 << 20, 0, -1, "224", [224, 1 << 20], None, 1.5, True])
def test_an_img_size_that_no_network_has_is_refused(bundle, tmp_path, size):
    forged = forge_part(
        bundle, tmp_path / "f", "config.json", lambda c: c.update(model_args={"img_size": size})
    )
    refused(forged, "img_size")


@pytest.mark.parametrize("depth", [100, 900, 5000, 1_000_000])
@pytest.mark.parametrize("name", ["config.json", "splits.json", "evaluation.json", "policy/thresholds.json"])
def test_deep_json_in_a_bundle_is_refused(bundle, tmp_path, name, depth):
    from tests.bundle.forging import carry_origin, pin_lineage

    data = b'{"a":' * depth + b"1" + b"}" * depth
    forged = copy(bundle, tmp_path / "f")
    (forged / name).write_bytes(data)
    record = json.loads((forged / "bundle.json").read_bytes())
    from streetvision_core.io import bytes_digest, json_bytes

    record["checksums"][name] = bytes_digest(data)
    (forged / "bundle.json").write_bytes(json_bytes(record))
    from tests.bundle.forging import ORIGINS

    carry_origin(forged, *ORIGINS[name], data)
    pin_lineage(forged)
    refused(forged, "nested|JSON")


@pytest.mark.parametrize("depth", [100, 900, 5000, 1_000_000])
@pytest.mark.parametrize("name", ["bundle.json", "model_card.json", "golden/expected.json"])
def test_deep_json_in_a_record_is_refused(bundle, tmp_path, name, depth):
    data = b"[" * depth + b"]" * depth
    refused(forge(bundle, tmp_path / "f", files={name: data}), "nested|JSON")


@pytest.mark.parametrize("depth", [100, 900, 5000, 1_000_000])
def test_deep_json_in_a_manifest_is_refused(bundle, tmp_path, depth):
    moved = copy(bundle, tmp_path / "f")
    path = moved / "manifest.json"
    deep = b'{"a":' * depth + b"1" + b"}" * depth
    path.write_bytes(path.read_bytes().replace(b'"config": {', b'"config": {"deep": ' + deep + b",", 1))
    with pytest.raises(BundleError, match=r"nested|recursion|JSON"):
        load_bundle(moved)


@pytest.mark.parametrize("depth", [100, 900, 5000, 1_000_000])
def test_deep_json_in_the_store_is_refused(tmp_path, depth):
    deep = b'{"a":' * depth + b"1" + b"}" * depth
    with pytest.raises(SchemaError):
        parse_pointer(deep, where=tmp_path)
    (tmp_path / "manifest.json").write_bytes(b'{"schema_version": 1, "config": ' + deep + b"}")
    with pytest.raises(SchemaError, match=r"nested|recursion|JSON"):
        read_artifact(tmp_path)


@pytest.mark.parametrize(
    "data",
    [
        weights_header(b"{}", length=1 << 60),
        weights_header(b"{}", length=1 << 63),
        weights_header(b"", length=99_000_000, size=10),
        weights_header(b"{" + b" " * 99_000_000 + b"}"),
        weights_header(b'{"a":' * 5000),
        weights_header(b"[]"),
        weights_header(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', size=3),
        weights_header(b'{"a":{"dtype":"F32","shape":[9999999999],"data_offsets":[0,4]}}', size=4),
        weights_header(b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', size=4),
        weights_header(b'{"a":{"dtype":"X","shape":[1],"data_offsets":[0,4]}}', size=4),
        weights_header(b'{"a":{"dtype":"F32","shape":[0,18446744073709551616],"data_offsets":[0,0]}}'),
        weights_header(b'{"a":{"dtype":"F32","shape":[0,1099511627776,1099511627776],"data_offsets":[0,0]}}'),
        weights_header(b'{"a":{"dtype":"F32","shape":[0,%d,%d],"data_offsets":[0,0]}}' % (2**62, 2**62)),
        weights_header(b'{"a":1}'),
        b"",
        b"abc",
    ],
    ids=lambda data: f"{data[:30]!r}",
)
def test_a_header_of_weights_that_cannot_be_is_refused(bundle, tmp_path, data):
    began = time.perf_counter()
    refused(forge(bundle, tmp_path / "f", files={"model.safetensors": data}), "safetensors")
    assert time.perf_counter() - began < 5


def test_a_long_header_is_refused_unread(bundle, tmp_path):
    names = ",".join(
        f'"t{number}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}' for number in range(1_500_000)
    )
    forged = forge(
        bundle, tmp_path / "f", files={"model.safetensors": weights_header(f"{{{names}}}".encode())}
    )
    cost = cost_of("load", forged)
    assert cost.answer.startswith("BundleError"), cost.answer
    assert cost.grown_mib < 100


def test_good_weights_pass_the_look_at_their_beginning(bundle):
    path = bundle / "model.safetensors"
    with path.open("rb") as file:
        check_layout(
            file, size_bytes=path.stat().st_size, config=(bundle / "config.json").read_bytes(), where=""
        )


def test_buffers_that_no_file_lists_are_refused_before_they_are_made(bundle, tmp_path):
    """Relative positions at 2048 pixels take 24 GB, and the weights as little as at 224."""

    def name_it(config):
        config.update(architecture="beit_base_patch16_224", num_features=768, model_args={"img_size": 2048})

    cost = cost_of("load", forge_part(bundle, tmp_path / "f", "config.json", name_it))
    assert cost.answer.startswith("BundleError"), cost.answer
    assert f"buffers of at most {bounds.BUFFER_BYTES} bytes" in cost.answer
    assert cost.grown_mib < 300


def looking(config, *, grid, side):
    config["pretrained_cfg"]["input_size"] = [3, side, side]
    config["views"] = {"grid": grid, "overlap": 0.25, "pooling": "mean"}


def test_a_batch_of_more_views_than_fit_into_the_memory_is_refused(bundle, tmp_path):
    forged = forge_part(bundle, tmp_path / "f", "config.json", lambda c: looking(c, grid=6, side=2048))
    refused(forged, f"images in all their views of at most {bounds.BATCH_BYTES} bytes")


@pytest.mark.parametrize(("grid", "side"), [(3, 518), (6, 518), (3, 1024), (1, 1024)])
def test_views_at_sensible_sizes_pass(bundle, grid, side):
    config = json.loads((bundle / "config.json").read_bytes())
    looking(config, grid=grid, side=side)
    check_costs(config, where="", action="")


def test_export_refuses_what_could_not_be_loaded(chain, tmp_path, monkeypatch):
    monkeypatch.setattr(bounds, "BATCH_BYTES", 1000)
    with pytest.raises(BundleError, match=r"images in all their views of at most 1000 bytes.*fewer views"):
        chain.export(tmp_path)


# --- a bundle with anything in it


def changed_bytes(data, draw):
    content = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        content[draw.randrange(len(content))] = draw.randrange(256)
    return bytes(content)


def cut(data, draw):
    return data[: draw.randrange(len(data))]


def another_type(data, draw):
    """Put a value of another type somewhere into the JSON."""
    content = json.loads(data)
    holders = [content]
    for holder in holders:
        inner = holder.values() if isinstance(holder, dict) else holder
        holders += [value for value in inner if isinstance(value, (dict, list)) and value]
    holder = draw.choice(holders)
    key = draw.choice(list(holder)) if isinstance(holder, dict) else draw.randrange(len(holder))
    holder[key] = draw.choice([None, True, -1, 10**40, 1e300, "", "x" * 100, [], {}, [[[]]], {"a": {"b": 1}}])
    return json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False).encode() + b"\n"


@pytest.mark.parametrize("change", [changed_bytes, cut, another_type])
@pytest.mark.parametrize(
    "name",
    [
        "config.json", "splits.json", "evaluation.json", "policy/thresholds.json", "bundle.json",
        "model_card.json", "golden/expected.json", "lineage/images.json", "manifest.json",
    ],
)  # fmt: skip
def test_whatever_is_wrong_with_a_bundle_is_a_bundle_error(bundle, tmp_path, name, change):
    """Every digest fits again, as far as the file can still be read at all."""
    draw = random.Random(f"{name} {change.__name__}")
    for attempt in range(12):
        forged = tmp_path / str(attempt)
        forge_raw(bundle, forged, name, change((bundle / name).read_bytes(), draw))
        try:
            load_bundle(forged)
        except BundleError:
            pass
        except Exception as error:  # noqa: BLE001 - which other error it is, is what one wants to know
            pytest.fail(f"attempt {attempt}: {type(error).__name__}: {error}")


def forge_raw(bundle, target, name, data):
    """Put bytes in the place of a file, and carry their digest through everything that names it."""
    from streetvision_core.io import bytes_digest
    from tests.bundle.forging import ORIGINS, carry_origin, pin_lineage

    copy(bundle, target)
    (target / name).write_bytes(data)
    if name == "manifest.json":
        return
    record = json.loads((bundle / "bundle.json").read_bytes())
    if name in record["checksums"]:
        record["checksums"][name] = bytes_digest(data)
        text = json.dumps(record, sort_keys=True, indent=1, ensure_ascii=False)
        (target / "bundle.json").write_bytes(text.encode() + b"\n")
    if name in ORIGINS:
        carry_origin(target, *ORIGINS[name], data)
    if name.startswith("lineage/"):
        top = StepManifest.load(target / "manifest.json")
        step = name.removeprefix("lineage/").removesuffix(".json")
        given = top.input_artifacts[step].model_copy(update={"manifest_sha256": bytes_digest(data)})
        changed = top.model_copy(update={"input_artifacts": {**top.input_artifacts, step: given}})
        (target / "manifest.json").write_bytes(changed.to_bytes())
        from tests.bundle.chain import write_manifest

        write_manifest(target, changed, names=list(top.output_artifacts))
    else:
        pin_lineage(target)


# --- an image


def reason_of(data):
    with pytest.raises(UnusableImageError) as caught:
        decode(data)
    return caught.value.reason


@pytest.mark.alone
def test_an_image_of_two_thousand_scans_is_refused_undecoded():
    data = many_scans(2000, size=(4000, 3000))
    began = time.perf_counter()
    with pytest.raises(UnusableImageError, match="2000 scans") as caught:
        decode(data)
    assert caught.value.reason is Reason.TOO_LARGE
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize("progressive", [False, True])
def test_images_of_cameras_have_few_scans(progressive):
    assert decode(encode(street((64, 48)), progressive=progressive)).size == (64, 48)
    assert decode(many_scans(MAX_SCANS)).size == (64, 64)


def test_scans_are_those_of_the_image_and_not_of_what_stands_in_or_behind_it():
    """A thumbnail or a film that a phone appends has markers of its own."""
    plain = encode(street((64, 48)))
    noise = b"\xff\xda\x00\x08" * 5000
    for data in (with_segment(plain, noise), plain + noise):
        assert np.array_equal(np.asarray(decode(data)), np.asarray(decode(plain)))


def test_scans_cannot_hide_behind_a_segment_or_a_marker():
    """The bytes that libjpeg skips are skipped here as well."""
    bomb = many_scans(2000)
    for hidden in (
        with_segment(bomb, b"\xff\xd9" * 50),
        bomb.replace(b"\xff\xda", b"\xff\xff\xff\xda"),
        bomb[:2] + b"\x01\x02\x03" + bomb[2:],
    ):
        assert reason_of(hidden) in (Reason.TOO_LARGE, Reason.TRUNCATED, Reason.NOT_AN_IMAGE)


def test_a_batch_of_images_of_phones_takes_the_memory_of_one(bundle, tmp_path):
    paths = []
    for number in range(3):
        paths.append(tmp_path / f"{number}.jpg")
        paths[-1].write_bytes(encode(street((8000, 6000), seed=number), quality=80))
    cost = cost_of("predict", bundle, *paths * 4)
    logits, unreadable = json.loads(cost.answer)
    assert (len(logits), unreadable) == (12, [])
    assert cost.peak_mib < 1300, cost  # all of them decoded at once would take 1650 and what is loaded


@pytest.mark.parametrize("size", [(1, 3_000_000), (3_000_000, 1), (1, 60_000), (60_000, 1)])
def test_an_image_as_narrow_as_a_thread_is_no_way_to_fill_the_memory(bundle, tmp_path, size):
    """Its shorter side becomes as long as that of every image, and its longer one in proportion."""
    bad, good = tmp_path / "bad.png", tmp_path / "good.png"
    bad.write_bytes(encode(Image.new("L", size), "PNG"))
    good.write_bytes(encode(street((64, 48)), "PNG"))
    cost = cost_of("predict", bundle, good, bad, good)
    logits, unreadable = json.loads(cost.answer)
    assert len(logits) + len(unreadable) == 3
    assert len(logits) >= 2
    assert cost.peak_mib < 1300, cost


def test_what_is_no_regular_file_is_refused_and_stalls_nobody(predictor, tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "pipe.jpg")
    (tmp_path / "ring.jpg").symlink_to(tmp_path / "ring.jpg")
    huge = tmp_path / "huge.jpg"
    huge.touch()
    os.truncate(huge, 20 * GIB)
    bad = [
        "/dev/zero",
        "/dev/stdin",
        tmp_path,
        *map(tmp_path.joinpath, ("pipe.jpg", "link.jpg", "ring.jpg")),
        huge,
    ]
    good = encode(street((64, 48)))
    met = []
    answers = list(predictor.predict([good, *bad, "a\0b", good], on_error=lambda *error: met.append(error)))
    assert [answer.name for answer in answers] == ["image 1", "image 10"]
    assert len(met) == 8
    assert all(type(error) is DataError for _, error in met)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_no_bad_image_loses_a_batch(predictor, kind):
    """A bad image is a DataError that `on_error` is given; the others are answered."""
    draw = random.Random(kind)
    good = encode(street((64, 48)), kind)
    images = [good]
    for _ in range(60):
        images += [changed_bytes(good, draw), cut(good, draw), good]
    met = []
    names = [
        answer.name
        for answer in predictor.predict(images, on_error=lambda name, error: met.append((name, error)))
    ]
    assert {f"image {number}" for number in range(1, len(images) + 1, 3)} <= set(names)
    assert len(names) + len(met) == len(images)
    assert all(type(error) is DataError for _, error in met)


@pytest.mark.parametrize("value", [None, 3, {}, object()])
def test_what_is_no_image_at_all_loses_no_batch_either(predictor, value):
    met = []
    good = encode(street((64, 48)))
    answers = list(predictor.predict([good, value, good], on_error=lambda *error: met.append(error)))
    assert (len(answers), [type(error) for _, error in met]) == (2, [DataError])


def test_an_entry_of_a_folder_in_bytes_loses_no_batch(predictor, tmp_path):
    good = encode(street((64, 48)))
    (tmp_path / "a.jpg").write_bytes(good)
    with os.scandir(os.fsencode(tmp_path)) as entries:
        images = [good, *entries, good]
    met = []
    answers = list(predictor.predict(images, on_error=lambda *error: met.append(error)))
    assert len(answers) == 2
    assert [(name, type(error)) for name, error in met] == [(str(tmp_path / "a.jpg"), DataError)]


def test_a_pillow_image_that_cannot_be_read_loses_no_batch(predictor):
    damaged = encode(street((64, 48)), "PNG")[:400]
    closed = Image.open(BytesIO(damaged))
    closed.close()
    met = []
    good = encode(street((64, 48)))
    images = [
        good,
        Image.open(BytesIO(damaged)),
        closed,
        Image.new("RGB", (0, 0)),
        Image.new("F", (4, 4), math.nan),
        good,
    ]
    answers = list(predictor.predict(images, on_error=lambda *error: met.append(error)))
    assert len(answers) + len(met) == 6
    assert all(type(error) is DataError for _, error in met)


# --- a source of images


def test_a_ring_of_links_in_the_image_folder_goes_into_quarantine(tmp_path):
    for label in ("None", "Roadwork"):
        (tmp_path / label).mkdir()
        for number in range(3):
            (tmp_path / label / f"{number}.jpg").write_bytes(
                encode(street((64, 48), seed=len(label) + number))
            )
    (tmp_path / "None" / "a.jpg").symlink_to("b.jpg")
    (tmp_path / "None" / "b.jpg").symlink_to("a.jpg")
    (tmp_path / "None" / "self").symlink_to("self")
    (tmp_path / "None" / "up").symlink_to("..")
    source = open_source(SourceConfig(folder=FolderConfig(path=str(tmp_path))))
    index = index_source(source, max_quarantined_share=1.0)
    assert len(index.pictures) == 6
    assert {entry.name for entry in index.quarantine} == {"None/a.jpg", "None/b.jpg", "None/self", "None/up"}


def open_parquet(path):
    return open_source(SourceConfig(parquet=ParquetConfig(path=str(path))))


def put_pipe(path):
    os.mkfifo(path)


def put_ring(path):
    path.symlink_to(path.with_name("b.parquet"))
    path.with_name("b.parquet").symlink_to(path)


@pytest.mark.parametrize("put", [put_pipe, put_ring, Path.mkdir])
def test_what_is_no_regular_file_in_a_parquet_folder_is_an_error(tmp_path, put):
    put(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"\.parquet"):
        open_parquet(tmp_path)


def test_a_ring_of_links_as_the_source_itself_is_an_error(tmp_path):
    put_ring(tmp_path / "a.parquet")
    with pytest.raises(ConfigError):
        open_parquet(tmp_path / "a.parquet")


def open_table(path):
    return open_source(SourceConfig(csv=CsvConfig(path=str(path))))


@pytest.mark.alone
def test_a_sparse_table_is_refused_unread(tmp_path):
    path = tmp_path / "images.csv"
    path.touch()
    os.truncate(path, 4 * GIB)
    began = time.perf_counter()
    with pytest.raises(DataError, match=f"at most {table.MAX_TABLE_BYTES} bytes"):
        open_table(path)
    assert time.perf_counter() - began < 1


def test_short_rows_below_a_long_header_are_refused(tmp_path, monkeypatch):
    """Each of them takes a cell of every column."""
    monkeypatch.setattr(table, "MAX_TABLE_CELLS", 1000)
    path = tmp_path / "images.csv"
    header = ",".join(["file", "label", *(f"c{number}" for number in range(98))])
    path.write_text(header + "\n" + "a\n" * 10)
    open_table(path)
    path.write_text(header + "\n" + "a\n" * 11)
    with pytest.raises(DataError, match="at most 10 rows of 100 columns"):
        open_table(path)


def write_bomb(path, *, rows, cell, compression="zstd", dictionary=True, column="image", **options):
    """A Parquet file in which one long value stands in every row."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    indices = pa.array(np.zeros(rows, dtype=np.int32))
    value = b"\xff\xd8\xff" + b"\0" * cell
    long = pa.DictionaryArray.from_arrays(indices, pa.array([value]))
    short = pa.array([encode(street((16, 16)))] * rows)
    text = pa.DictionaryArray.from_arrays(indices, pa.array(["x" * cell]))
    columns = {
        "image": long if column == "image" else short,
        "label": pa.array(np.arange(rows) % 2),
        **({"note": text} if column == "text" else {}),
    }
    pq.write_table(
        pa.table(columns), path, compression=compression, use_dictionary=dictionary,
        dictionary_pagesize_limit=2**30, store_schema=False, **options,
    )  # fmt: skip
    return path


@pytest.mark.parametrize(
    "options",
    [
        {"rows": 100_000, "cell": 2**20},
        {"rows": 64, "cell": 200 * 2**20},
    ],
    ids=["many rows", "large cells"],
)
def test_a_parquet_bomb_is_refused(tmp_path, options):
    path = write_bomb(tmp_path / "bomb.parquet", **options)
    assert path.stat().st_size < 2**20
    cost = cost_of("index", path)
    assert cost.answer.startswith("DataError"), cost
    assert cost.seconds < 20
    assert cost.grown_mib < 1500, cost


def test_a_parquet_bomb_of_text_is_read_as_the_dictionary_that_it_is(tmp_path):
    cost = cost_of("index", write_bomb(tmp_path / "bomb.parquet", rows=100_000, cell=2**20, column="text"))
    assert cost.answer == "read one of 100000"
    assert cost.grown_mib < 500, cost


@pytest.mark.alone
def test_a_parquet_file_of_more_rows_than_there_are_images_is_refused(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "rows.parquet"
    zeros = pa.DictionaryArray.from_arrays(pa.array(np.zeros(30_000_000, dtype=np.int8)), pa.array([b"x"]))
    pq.write_table(
        pa.table({"image": zeros, "label": pa.array(np.zeros(30_000_000, dtype=np.int8))}),
        path,
        store_schema=False,
    )
    cost = cost_of("index", path)
    assert cost.answer.startswith("DataError"), cost
    assert cost.seconds < 5
