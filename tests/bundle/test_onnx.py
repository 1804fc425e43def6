"""model.onnx computes what the predictor does, says how, and is refused where it is not of its bundle."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from streetvision_core.bundle import BundleConfig, Predictor, load_bundle, verify_bundle
from streetvision_core.bundle.layout import ONNX, ONNX_RECORD
from streetvision_core.bundle.onnx import extra
from streetvision_core.bundle.onnx.reading import read_onnx
from streetvision_core.bundle.onnx.specification import METADATA, Answers, specify
from streetvision_core.cli import main
from streetvision_core.errors import BundleError, ConfigError
from streetvision_core.models.preprocessing import hub_transform
from streetvision_core.models.views import Views
from streetvision_core.models.weights import read_state
from streetvision_core.policies.registry import published_policies
from tests.bundle import independent
from tests.bundle.chain import checkpoint_of, copy
from tests.bundle.clients.onnx_runtime import pixels_of
from tests.bundle.forging import Forger, refuse_forgery, refused
from tests.bundle.made import make_policies

POLICIES = make_policies()
SIZES = [(48, 48), (97, 64), (33, 200), (301, 224)]
needs_onnx = pytest.mark.usefixtures("onnx_bundle")


@pytest.fixture(scope="module")
def session(onnx_bundle):
    from streetvision_core.bundle.onnx.parity import open_session

    return open_session((onnx_bundle / ONNX).read_bytes())


@pytest.fixture(scope="module")
def network(onnx_bundle):
    """The parsed file, of which each test changes a copy."""
    import onnx

    return onnx.load_from_string((onnx_bundle / ONNX).read_bytes())


def noise(width, height, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def answered(answers, margin):
    """Carry out `answers` as docs/bundle.md says."""
    if margin > 0:
        certain = answers.roadwork_from is not None and margin >= answers.roadwork_from
        return "roadwork" if certain else "defer"
    return "none" if answers.none_to is not None and margin <= answers.none_to else "defer"


@given(margin=st.floats(-(2.0**100), 2.0**100, width=32), near=st.integers(-3, 3))
@pytest.mark.parametrize("kind", POLICIES)
def test_two_margins_are_all_that_a_policy_of_logits_does(kind, margin, near):
    """It holds everywhere, and in the numbers of float32 right beside the two margins."""
    policy = POLICIES[kind]
    answers = Answers.of(policy)
    bounds = [bound for bound in (answers.roadwork_from, answers.none_to) if bound is not None]
    for value in (margin, *bounds):
        beside = np.float32(value)
        for _ in range(abs(near)):
            beside = np.nextafter(beside, np.float32(np.sign(near) * np.inf))
        assert answered(answers, float(beside)) == policy.decide(np.array([float(beside)]))[0]


def test_the_policies_of_these_tests_defer_and_answer_both():
    assert Answers.of(POLICIES["threshold"]) == Answers(roadwork_from=0.0, none_to=0.0)
    for kind in ("gate", "scrc"):
        answers = Answers.of(POLICIES[kind])
        assert answers.none_to < 0 < answers.roadwork_from


def test_a_policy_that_looks_at_features_has_no_decision_in_the_file():
    assert Answers.of(SimpleNamespace(extras=("features",))) is None


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize(("side", "crop_pct"), [((48, 48), 1.0), ((48, 48), 0.875), ((40, 64), 0.9)])
@pytest.mark.parametrize("views", [None, Views(grid=2, overlap=0.15, pooling="mean")])
def test_the_specification_alone_gives_the_very_pixels(crop_mode, side, crop_pct, views):
    """The client knows no more than the specification, and takes Pillow and NumPy."""
    config = {
        "pretrained_cfg": {
            "input_size": [3, *side], "crop_pct": crop_pct, "crop_mode": crop_mode,
            "interpolation": "bicubic", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
        },
        **({"views": views.to_config()} if views else {}),
    }  # fmt: skip
    transform = hub_transform(config)
    specification = specify(config, POLICIES["threshold"], weights_sha256="0" * 64)
    parsed = json.loads(specification.to_bytes())
    for size in SIZES:
        image = noise(*size)
        pixels = pixels_of(image, parsed)
        assert np.array_equal(pixels, transform.pixels(image).numpy()), size
        assert list(pixels.shape) == parsed["shape"][1:]


def test_without_the_packages_it_is_refused_before_anything_runs(monkeypatch):
    monkeypatch.setattr(extra, "NEEDED", ("no_such_package",))
    with pytest.raises((ConfigError, ValidationError), match=r"no no_such_package.*streetvision\[onnx\]"):
        BundleConfig(onnx=True)


@needs_onnx
def test_it_is_proved_on_every_image_of_val_test(chain, onnx_bundle):
    record = json.loads((onnx_bundle / ONNX_RECORD).read_bytes())
    assert record["parity"]["images"] == len(chain.splits.roles["val_test"])
    assert max(record["parity"]["logits"], record["parity"]["probability"]) < 1e-4
    assert record["made_with"].keys() == {"onnx", "onnxruntime", "onnxscript", "torch"}
    summary = verify_bundle(onnx_bundle, deep=True).summary()
    assert "onnx       opset 18, answers the golden images alike" in summary
    assert independent.verify(onnx_bundle) == ""


@needs_onnx
def test_any_number_of_images_is_a_batch(session, onnx_bundle):
    from streetvision_core.bundle.onnx.parity import answer

    predictor = Predictor.load(onnx_bundle)
    images = [noise(60, 40, seed) for seed in range(5)]
    pixels = np.stack([hub_transform(predictor.config).pixels(image).numpy() for image in images])
    logits = [prediction.logits for prediction in predictor.predict(images)]
    for number in (1, 2, 5):
        theirs = answer(session, pixels[:number])
        np.testing.assert_allclose(theirs["logits"], logits[:number], atol=1e-4)
        assert theirs["decision"].tolist() == [int(roadwork > none) for none, roadwork in logits[:number]]
        assert theirs["probability"].dtype == np.float32


@needs_onnx
def test_the_file_names_nothing_of_where_it_was_made(chain, onnx_bundle, network):
    data = (onnx_bundle / ONNX).read_bytes()
    for trace in (str(chain.store.root), "/tmp", "site-packages", ".py", "stack_trace"):
        assert trace.encode() not in data
    assert [entry.key for entry in network.metadata_props] == [METADATA]


@needs_onnx
@pytest.mark.parametrize(
    ("kind", "pooling"), [("scrc", {"pooling": "attention"}), ("gate", {"pooling": "top_k", "top_k": 2})]
)
def test_views_and_deferring_are_folded_in(chain, kind, pooling):
    from streetvision_core.bundle.onnx.export import export_onnx
    from streetvision_core.bundle.onnx.parity import answer, open_session

    checkpoint, policy = checkpoint_of(chain), published_policies(chain.upstream)[kind]
    learned = np.random.default_rng(0).normal(size=97).astype(np.float32).tolist()
    given = {"attention": tuple(learned)} if pooling["pooling"] == "attention" else {}
    views = Views(grid=2, overlap=0.15, **pooling, **given)
    config = json.loads(json.dumps({**checkpoint.config, "views": views.to_config()}))
    predictor = Predictor.build(config, read_state(checkpoint.weights), policy)
    reader = chain.pictures("val_test")
    images = [reader.image(name) for name in chain.splits.roles["val_test"]]
    data, record = export_onnx(predictor, images, weights_sha256="0" * 64)
    parsed = json.loads(record.specification.to_bytes())
    theirs = answer(open_session(data), np.stack([pixels_of(image, parsed) for image in images]))
    ours = list(predictor.predict(images))
    decided = [("none", "roadwork", "defer")[code] for code in theirs["decision"].tolist()]
    assert decided == [prediction.decision for prediction in ours]
    assert "defer" in decided
    np.testing.assert_allclose(theirs["logits"], [prediction.logits for prediction in ours], atol=1e-4)


@needs_onnx
def test_the_command_writes_the_same_file_of_a_bundle_that_ships_none(bundle, onnx_bundle, tmp_path, capsys):
    made, shipped = tmp_path / "made.onnx", tmp_path / "shipped.onnx"
    assert main(["export", "onnx", str(bundle), "--output", str(made)]) == 0
    assert "8 golden images; the images of val_test are not at hand" in capsys.readouterr().out
    assert main(["export", "onnx", str(onnx_bundle), "--output", str(shipped)]) == 0
    printed = capsys.readouterr().out
    assert "12 images of val_test" in printed
    assert "run        answers the golden images alike here" in printed
    assert made.read_bytes() == shipped.read_bytes() == (onnx_bundle / ONNX).read_bytes()


@needs_onnx
def test_a_shipped_file_is_run_before_it_is_written_where_that_can_be(
    onnx_bundle, tmp_path, monkeypatch, capsys
):
    """The file answers as another network, and all digests agree."""
    import onnx
    from onnx import numpy_helper

    forger, path = Forger(onnx_bundle), tmp_path / "out.onnx"
    model = onnx.load_from_string(forger.files[ONNX])
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) > 1:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * -3, tensor.name))
    forger.files[ONNX] = model.SerializeToString()
    export = ["export", "onnx", str(forger.write(tmp_path / "f")), "--output", str(path)]
    assert main(export) == 1
    assert "Expected logits and decisions of ONNX Runtime within" in capsys.readouterr().err
    assert not path.exists()
    monkeypatch.setattr("streetvision_core.bundle.onnx.parity.has_runtime", lambda: False)
    assert main(export) == 0
    assert "run        not run here (onnxruntime is not installed)" in capsys.readouterr().out


def test_the_command_writes_nothing_into_a_bundle(bundle, capsys):
    assert main(["export", "onnx", str(bundle), "--output", str(bundle / "model.onnx")]) == 1
    assert "a file outside of the bundle" in capsys.readouterr().err
    assert not (bundle / "model.onnx").exists()


def change_specification(**values):
    return lambda forger: forger.json(ONNX_RECORD)["specification"].update(values)


def with_file(change):
    """Change the ONNX file, and what it says of itself with it where `change` asks for that."""

    def forge(forger):
        import onnx

        model = onnx.load_from_string(forger.files[ONNX])
        change(model)
        forger.files[ONNX] = model.SerializeToString()

    return forge


def say_something_else(model):
    model.metadata_props[0].value = model.metadata_props[0].value.replace("bilinear", "bicubic")


def other_in_both(forger):
    change_specification(shape=["batch", 3, 64, 64])(forger)
    content = json.dumps(forger.json(ONNX_RECORD)["specification"], sort_keys=True, indent=1) + "\n"
    with_file(lambda model: setattr(model.metadata_props[0], "value", content))(forger)


def without(name):
    def forge(forger):
        del forger.files[name]
        del forger.json("manifest.json")["output_artifacts"][name]
        del forger.json("bundle.json")["checksums"][name]

    return forge


FORGERIES = {
    "of other weights": (change_specification(weights_sha256="e" * 64), "does not specify"),
    "of another preprocessing": (change_specification(mean=[0.1, 0.1, 0.1]), "does not specify"),
    "of another policy": (
        change_specification(answers={"roadwork_from": 0.5, "none_to": 0.0}), "does not specify",
    ),
    "of another size, in both": (other_in_both, "does not specify"),
    "saying something else": (with_file(say_something_else), "something else of itself"),
    "of another opset": (lambda forger: forger.json(ONNX_RECORD).update(opset=17), "of opset 18"),
    "proved on fewer images": (
        lambda forger: forger.json(ONNX_RECORD)["parity"].update(images=1), "parity.images",
    ),
    "proved badly": (
        lambda forger: forger.json(ONNX_RECORD)["parity"].update(probability=0.1), "probability",
    ),
    "without a record": (without(ONNX_RECORD), "belong together"),
    "without the file": (without(ONNX), "belong together"),
    "that nobody asked for": (
        lambda forger: forger.json("manifest.json")["config"].update(onnx=False), "belong together",
    ),
}  # fmt: skip


@needs_onnx
@pytest.mark.parametrize(("forge", "match"), FORGERIES.values(), ids=FORGERIES)
def test_a_file_that_is_not_of_its_bundle_is_refused(onnx_bundle, tmp_path, forge, match):
    refuse_forgery(onnx_bundle, forge, match, tmp_path / "f")


@needs_onnx
def test_a_file_that_says_more_than_its_specification_is_refused(onnx_bundle, tmp_path):
    forger = Forger(onnx_bundle)
    with_file(lambda model: model.metadata_props.add(key="licence", value="none"))(forger)
    refused(forger.write(tmp_path / "f"), "something else of itself")


@needs_onnx
def test_other_numbers_in_the_file_are_found_by_answering(onnx_bundle, tmp_path):
    """Nothing else can tell: the file says what it should of itself, and every digest fits."""

    def turn(model):
        from onnx import numpy_helper

        bias = next(tensor for tensor in model.graph.initializer if tensor.dims == [2])
        bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias)[::-1].copy() + 1, bias.name))

    forger = Forger(onnx_bundle)
    with_file(turn)(forger)
    forged = forger.write(tmp_path / "f")
    load_bundle(forged)
    with pytest.raises(BundleError, match="ONNX Runtime within"):
        verify_bundle(forged, deep=True)


def lie_elsewhere(model):
    tensor = model.graph.initializer[0]
    tensor.data_location = 1
    tensor.external_data.add(key="location", value="/etc/passwd")


def loop(model):
    model.graph.node[0].op_type = "Loop"


def graph_inside(model):
    import onnx

    model.graph.node[0].attribute.append(onnx.helper.make_attribute("body", model.graph))


def constant_elsewhere(model):
    import onnx

    tensor = onnx.TensorProto(data_location=1)
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("value", tensor))


def sparse_constant(model):
    import onnx

    sparse = onnx.SparseTensorProto(dims=[2**40])
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("sparse_value", sparse))


DEMANDS = {
    "weights in another file": (lie_elsewhere, "in another file"),
    "a tensor in another file": (constant_elsewhere, "in another file"),
    "an operator of its own": (
        lambda model: setattr(model.graph.node[0], "domain", "evil"),
        "domain b'evil'",
    ),
    "a domain of its own": (lambda model: model.opset_import.add(domain="evil", version=1), "another domain"),
    "a function": (lambda model: model.functions.add(name="f"), "functions"),
    "training": (lambda model: model.training_info.add(), "training"),
    "a loop": (loop, "the operator Loop"),
    "a sparse constant": (sparse_constant, "a sparse tensor inside"),
    "a graph in an operator": (graph_inside, "a graph inside"),
    "one name twice": (lambda model: model.metadata_props.add(key=METADATA, value="{}"), "twice"),
    "sparse weights": (lambda model: model.graph.sparse_initializer.add(dims=[1]), "sparse"),
}


@needs_onnx
@pytest.mark.parametrize(("change", "match"), DEMANDS.values(), ids=DEMANDS)
def test_a_file_that_asks_for_more_than_itself_is_refused_before_it_runs(network, change, match):
    model = type(network)()
    model.CopyFrom(network)
    change(model)
    with pytest.raises(BundleError, match=match):
        read_onnx(model.SerializeToString(), where="here")


@given(data=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data):
    with pytest.raises(BundleError):
        read_onnx(data, where="here")


def test_a_field_number_that_protobuf_would_cut_is_refused():
    """A tag has 32 bits. ONNX Runtime drops those above, and saw the Loop that the reader passed over."""
    operator = b"\xa2\x80\x80\x80\x10\x04Loop"  # field 4, and bit 32
    node = b"\x0a" + bytes([len(operator)]) + operator
    with pytest.raises(BundleError, match="a field number that is cut"):
        read_onnx(b"\x3a" + bytes([len(node)]) + node, where="here")


def test_a_file_of_tiny_fields_costs_little():
    with pytest.raises(BundleError, match="more than 1000000 fields"):
        read_onnx(b"\x08\x00" * 20_000_000, where="here")


@needs_onnx
def test_half_a_file_is_refused(onnx_bundle):
    data = (onnx_bundle / ONNX).read_bytes()
    for size in (1, 10, len(data) // 2, len(data) - 1):
        with pytest.raises(BundleError):
            read_onnx(data[:size], where="here")


@needs_onnx
def test_a_bundle_with_it_verifies_where_no_runtime_is_installed(onnx_bundle, tmp_path, monkeypatch):
    monkeypatch.setattr("streetvision_core.bundle.onnx.parity.has_runtime", lambda: False)
    summary = verify_bundle(copy(onnx_bundle, tmp_path / "moved"), deep=True).summary()
    assert "not run (onnxruntime is not installed)" in summary


@pytest.mark.parametrize(
    "pooling", [{"pooling": "max"}, {"pooling": "top_k", "top_k": 3}, {"pooling": "mean"}]
)
def test_the_views_are_pooled_as_everywhere_ties_included(pooling):
    import torch

    from streetvision_core.bundle.onnx.graph import _pool
    from streetvision_core.models.pooling import pool_logits

    views = Views(grid=2, overlap=0.15, **pooling)
    logits = torch.randint(-2, 3, (200, views.count, 2), generator=torch.Generator().manual_seed(0)).float()
    features = torch.zeros(200, views.count, 1)
    expected = pool_logits(logits, features, views=views)
    torch.testing.assert_close(_pool(logits, features, views), expected)
