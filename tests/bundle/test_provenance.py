"""The provenance of a bundle is in-toto's and SLSA's, follows from its manifests, and tells no more."""

import json

import pytest

from streetvision_core.bundle import verify_bundle
from streetvision_core.bundle.export import adopt_bundle
from streetvision_core.history.lineage import chain_of_folder
from streetvision_core.io import StepManifest, read_artifact
from tests.bundle import independent
from tests.bundle.chain import names_in
from tests.bundle.forging import Forger, refused

NAME = "lineage/provenance.json"


@pytest.fixture
def statement(bundle):
    return json.loads((bundle / NAME).read_bytes())


def test_it_is_a_statement_of_in_toto_with_the_predicate_of_slsa(statement, bundle):
    """The fields that both specifications ask for, by name."""
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    listed = StepManifest.load(bundle / "manifest.json").output_artifacts
    assert {subject["name"]: subject["digest"] for subject in statement["subject"]} == {
        name: {"sha256": file.sha256} for name, file in listed.items() if name != NAME
    }
    build, run = (statement["predicate"][name] for name in ("buildDefinition", "runDetails"))
    assert build["buildType"].startswith("urn:")
    assert run["builder"]["id"].startswith("urn:")
    assert run["metadata"].keys() == {"invocationId", "startedOn", "finishedOn"}


def test_it_names_settings_images_weights_code_and_run(statement, chain):
    build, run = (statement["predicate"][name] for name in ("buildDefinition", "runDetails"))
    made = {step: artifact.manifest for step, artifact in chain.upstream.items()}
    assert build["externalParameters"] == {step: manifest.config for step, manifest in made.items()}
    named = {dependency["name"]: dependency for dependency in build["resolvedDependencies"]}
    assert named["images"]["digest"] == {"sha256": made["images"].data_version}
    weights = made["backbone"].output_artifacts["model.safetensors"].sha256
    assert named["backbone/model.safetensors"]["digest"] == {"sha256": weights}
    for step, manifest in made.items():
        name = f"code of {step} (dirty)" if manifest.git_dirty else f"code of {step}"
        assert named[name]["digest"] == {"gitCommit": manifest.git_sha}
    trained = made["phase1_checkpoint"]
    times = {"startedOn": trained.started_at, "finishedOn": trained.finished_at}
    assert run["metadata"] == {"invocationId": trained.run_id, **times}


def test_the_tools_of_in_toto_read_it(bundle):
    attestation = pytest.importorskip("in_toto_attestation.v1.statement", reason="the extra sign")
    json_format = pytest.importorskip("google.protobuf.json_format")
    read = json_format.Parse((bundle / NAME).read_bytes(), attestation.Statement([], "", {}).pb)
    attestation.Statement.copy_from_pb(read).validate()
    assert read.predicate_type == "https://slsa.dev/provenance/v1"


def test_a_redacted_one_tells_nothing_that_the_manifests_do_not(chain, bundle):
    redacted = chain.bundle("20261121T093000-00000016", lineage="redacted")
    text, side = (redacted / NAME).read_text(), (bundle / "lineage/private/images.json").read_bytes()
    private = json.loads(side)
    for secret in (private["hostname"], private["platform"], *private["paths"].values(), "private/"):
        assert secret not in text
    assert "<private>" in text
    assert independent.verify(redacted) == ""


FORGERIES = {
    "another commit": lambda p: p["buildDefinition"]["resolvedDependencies"][-1]["digest"].update(
        gitCommit="0" * 40
    ),
    "other images": lambda p: p["buildDefinition"]["resolvedDependencies"][0]["digest"].update(
        sha256="0" * 64
    ),
    "another setting": lambda p: p["buildDefinition"]["externalParameters"]["splits"].update(seed=9),
    "another builder": lambda p: p["runDetails"]["builder"].update(id="https://github.com/actions/runner"),
    "another time": lambda p: p["runDetails"]["metadata"].update(startedOn="2020-01-01T00:00:00.000000Z"),
    "more": lambda p: p["runDetails"].update(byproducts=[]),
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
def test_what_does_not_follow_from_the_manifests_is_refused(bundle, tmp_path, forge):
    forger = Forger(bundle)
    forge(forger.json(NAME)["predicate"])
    forged = forger.write(tmp_path / "f")
    refused(forged, "provenance.json tells otherwise")
    assert independent.verify(forged).startswith("provenance")


def test_a_bundle_of_a_version_that_wrote_none_stays_good(bundle, tmp_path):
    forger = Forger(bundle)
    del forger.files[NAME]
    del forger.json("manifest.json")["output_artifacts"][NAME]
    older = forger.write(tmp_path / "older")
    assert NAME not in names_in(older)
    assert verify_bundle(older).golden is None
    assert independent.verify(older) == ""


def test_a_bundle_that_is_taken_over_gets_the_provenance_of_its_new_lineage(chain, bundle):
    adopted = adopt_bundle(read_artifact(bundle), upstream=chain.upstream)
    assert adopted.files[NAME] == (bundle / NAME).read_bytes()


def test_the_chain_of_a_folder_does_not_take_it_for_a_manifest(bundle, chain):
    assert {node.step for node in chain_of_folder(bundle).nodes.values()} == {"bundle", *chain.upstream}
