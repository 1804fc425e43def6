"""The phases as they were asked for: each subset runs on an empty store, and again after a full run."""

import re
import shutil

import dagster as dg
import pytest

from streetvision_assets.definitions import defs
from streetvision_core.bundle import Predictor, load_bundle, verify_bundle
from streetvision_core.cli import main
from streetvision_core.report.evaluation import Evaluation
from tests.assets.graph import Graph, copy_of, evaluations, paragraph
from tests.e2e.place import REPOSITORY

README = (REPOSITORY / "README.md").read_text()
DATA = ("images", "splits", "conditions", "backbone")
PHASE_1 = (*DATA, "phase1_checkpoint")
PHASE_1_2 = (*PHASE_1, "val_calib_logits", "thresholds")
SUBSETS = {
    "[phase1]": PHASE_1,
    "[phase1, phase2]": PHASE_1_2,
    "[phase1, phase2, phase6]": (*PHASE_1_2, "bundle"),
    "[phase1, phase3, phase6]": (*PHASE_1, "gate", "bundle"),
}


def materialize(graph, pictures, *steps, **changes):
    result = graph.materialize(pictures, *steps, **changes)
    assert result.success, paragraph(result)
    failed = [name for name, check in evaluations(result).items() if not check.passed]
    unjudged = "bundle" in steps and "evaluation" not in graph.current("bundle").manifest.input_artifacts
    assert failed == [("bundle", "releasable")] * unjudged
    return result


@pytest.fixture(scope="module")
def made(tmp_path_factory, pictures):
    """A store of phases 1, 2 and 6, in which nothing else was ever made. Nobody writes here."""
    graph = Graph(tmp_path_factory.mktemp("subset"))
    materialize(graph, pictures, *SUBSETS["[phase1, phase2, phase6]"])
    yield graph
    graph.instance.dispose()


@pytest.mark.parametrize("subset", ["[phase1]", "[phase1, phase3, phase6]"])
def test_a_subset_runs_on_an_empty_store(empty, pictures, subset):
    materialize(empty, pictures, *SUBSETS[subset], bundle={"policy": "gate"})
    assert empty.store.current_steps() == sorted(SUBSETS[subset])


def test_phases_1_2_and_6_make_a_bundle_without_an_evaluation(made, capsys):
    assert made.store.current_steps() == sorted(SUBSETS["[phase1, phase2, phase6]"])
    folder = made.current("bundle").directory
    bundle = load_bundle(folder)
    assert bundle.policy.type == "threshold"
    assert bundle.evaluation is bundle.tested is None
    assert sorted(bundle.lineage) == sorted(PHASE_1_2)
    verification = verify_bundle(folder, deep=True)
    assert verification.golden == 8
    assert "not evaluated" in verification.summary()
    assert "no evaluation judged this policy" in " ".join(verification.summary().split())
    assert "before it was evaluated" in (folder / "README.md").read_text()
    answers = list(Predictor.load(folder).predict(sorted(folder.glob("golden/*.jpg"))))
    assert {answer.decision for answer in answers} == {"none", "roadwork"}
    assert main(["verify", "--store", str(made.store.root)]) == 0
    assert "all good" in capsys.readouterr().out


def test_each_subset_is_a_job_and_a_selection_of_the_readme():
    table = re.findall(r"^\| .* \| `(\w+)` \| `'(\S+)'` \|$", README, re.MULTILINE)
    assert [job for job, _ in table] == ["phase1", "phase1_2", "phase1_2_6", "make_bundle"]
    graph = defs.resolve_asset_graph()
    for job, selection in table:
        chosen = dg.AssetSelection.from_coercible(selection.split(",")).resolve(graph)
        layer = defs.resolve_job_def(job).asset_layer
        assert chosen == set(layer.selected_asset_keys), job


def test_a_policy_that_was_never_fitted_is_named_with_what_to_do(made, pictures):
    result = made.materialize(pictures, "bundle", bundle={"policy": "scrc"})
    assert not result.success
    assert "found no scrc in either" in paragraph(result)
    assert "Select scrc too: '*scrc'" in paragraph(result)


@pytest.fixture(scope="module")
def again(tmp_path_factory, whole_run, pictures):
    """Everything, and then phases 1, 2 and 6 again with another learning rate."""
    graph = copy_of(whole_run[0], tmp_path_factory.mktemp("again"))
    whole = {step: graph.current(step) for step in graph.store.current_steps()}
    result = materialize(
        graph, pictures, *SUBSETS["[phase1, phase2, phase6]"], phase1_checkpoint={"learning_rate": 2e-3}
    )
    yield graph, whole, result
    graph.instance.dispose()


def test_after_a_full_run_what_belongs_to_the_other_checkpoint_is_left_out_with_one_line(again):
    graph, whole, _ = again
    bundle = load_bundle(graph.current("bundle").directory)
    assert bundle.evaluation is None
    assert sorted(bundle.lineage) == sorted(PHASE_1_2)
    checkpoint = graph.current("phase1_checkpoint")
    assert bundle.lineage["phase1_checkpoint"].data_version == checkpoint.manifest.data_version
    assert checkpoint.manifest.data_version != whole["phase1_checkpoint"].manifest.data_version


@pytest.mark.parametrize("words", [(), ("--all",)])
def test_after_a_full_run_streetvision_verify_says_that_what_is_current_is_of_two_checkpoints(
    again, capsys, words
):
    graph, _, _ = again
    assert main(["verify", "--store", str(graph.store.root), *words]) == 1
    text = capsys.readouterr().out
    for step in ("gate", "scrc", "evaluation"):
        assert f"{step} was made from another phase1_checkpoint" in text


def test_after_a_full_run_the_report_sets_side_by_side_the_policies_of_this_checkpoint(
    again, pictures, tmp_path
):
    graph = copy_of(again[0], tmp_path / "copy")
    materialize(graph, pictures, "evaluation")
    published = graph.current("evaluation")
    assert list(Evaluation.from_artifact(published).report.policies) == ["threshold"]
    assert sorted(published.manifest.input_artifacts) == [
        "conditions", "images", "phase1_checkpoint", "splits", "thresholds",
    ]  # fmt: skip
    materialize(graph, pictures, "bundle")
    assert load_bundle(graph.current("bundle").directory).tested is not None
    graph.instance.dispose()


def test_a_checkpoint_of_other_splits_is_never_judged_on_them(made, pictures, tmp_path):
    """Else the report would be of images that the checkpoint was trained on."""
    graph = copy_of(made, tmp_path / "copy")
    result = graph.materialize(pictures, "splits", splits={"seed": 7})
    assert result.success, paragraph(result)
    result = graph.materialize(pictures, "evaluation")
    assert not result.success
    assert "phase1_checkpoint was made from another splits" in paragraph(result)
    graph.instance.dispose()


def test_no_policy_for_this_checkpoint_is_an_error_that_says_what_to_do(empty, pictures):
    materialize(empty, pictures, *PHASE_1)
    result = empty.materialize(pictures, "evaluation")
    assert not result.success
    assert "--select thresholds" in paragraph(result)


def test_a_policy_that_is_damaged_and_not_needed_is_left_out(again, pictures, tmp_path):
    graph = copy_of(again[0], tmp_path / "copy")
    shutil.rmtree(graph.current("scrc").directory)
    manifest = graph.current("gate").directory / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b"a", b"b", 1))
    materialize(graph, pictures, "evaluation")
    materialize(graph, pictures, "bundle", bundle={"model_name": "other"})
    assert load_bundle(graph.current("bundle").directory).tested is not None
    result = graph.materialize(pictures, "bundle", bundle={"policy": "gate"})
    assert not result.success
    assert "no gate in this store that can be read" in paragraph(result)
    graph.instance.dispose()


def test_a_threshold_that_was_tuned_again_is_a_note_and_no_fault(made, pictures, tmp_path, capsys):
    graph = copy_of(made, tmp_path / "copy")
    materialize(graph, pictures, "thresholds", thresholds={"objective": "f_beta"})
    assert main(["verify", "--store", str(graph.store.root)]) == 0
    assert "note bundle was made from another thresholds" in capsys.readouterr().out
    graph.instance.dispose()
