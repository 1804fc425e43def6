"""Steps that are computed again and steps that are taken over, on the real graph."""

import os
import shutil

import pytest

from streetvision_core.bundle import verify_bundle
from streetvision_core.data import stamps
from streetvision_core.errors import IntegrityError
from streetvision_core.graph import CHECKPOINT
from tests.assets.graph import STEPS, Graph, behind, evaluations, paragraph
from tests.assets.test_graph import damage, materializations

pytestmark = pytest.mark.long
BEHIND_TRAINING = [step for step in STEPS if CHECKPOINT in behind(step)]
# Whoever reads images of a user looks at them in every run.
ALWAYS_RUN = {"images"}


def computed(graph, result):
    """The steps that a run has computed itself, by the manifests that it published."""
    assert result.success, paragraph(result)
    manifests = [graph.current(step).manifest for step in STEPS]
    return {
        manifest.step_name
        for manifest in manifests
        if manifest.dagster_run_id == result.run_id and not manifest.reused_from
    }


@pytest.fixture(scope="session")
def second_run(first_run, pictures, tmp_path_factory):
    """The first run and one more of the very same; nobody changes its store."""
    made, _ = first_run
    made.instance.dispose()
    root = tmp_path_factory.mktemp("second") / "place"
    shutil.copytree(made.store_path.parent, root)
    graph = Graph(root)
    before = {step: graph.current(step) for step in STEPS}
    return graph, before, graph.materialize(pictures)


def digests(graph):
    return {step: graph.current(step).manifest.data_version for step in STEPS}


def test_a_second_run_with_nothing_changed_computes_nothing_and_publishes_the_same(second_run):
    graph, before, result = second_run
    assert computed(graph, result) == ALWAYS_RUN
    for step in STEPS:
        now = graph.current(step)
        assert now.manifest.data_version == before[step].manifest.data_version
        assert now.manifest.dagster_run_id == result.run_id
        assert now.problems() == []
        if step not in ALWAYS_RUN:
            origin, metadata = now.manifest.reused_from, materializations(result)[step].metadata
            assert origin.run_id == before[step].manifest.run_id == metadata["reused_from"].value
            assert origin.manifest_sha256 == before[step].manifest_sha256
    assert all(check.passed for check in evaluations(result).values())


def test_a_reused_artifact_shows_the_images_that_were_drawn_of_it(first_run, second_run):
    (_, drawn), (_, _, result) = first_run, second_run
    for step, then in materializations(drawn).items():
        shown = materializations(result)[step].metadata
        pictured = {name for name, value in then.metadata.items() if hasattr(value, "md_str")}
        assert {name: shown[name] for name in pictured} == {name: then.metadata[name] for name in pictured}


def test_a_reused_artifact_takes_no_room(second_run):
    graph, before, _ = second_run
    now, name = graph.current("phase1_checkpoint"), "model_best.safetensors"
    assert now.path(name).samefile(before["phase1_checkpoint"].path(name))


def test_a_reused_bundle_carries_the_lineage_of_its_own_run(second_run):
    graph, _, result = second_run
    bundle = graph.current("bundle")
    verify_bundle(bundle.directory)
    for step in STEPS[:-1]:
        upstream = graph.current(step)
        assert bundle.read_bytes(f"lineage/{step}.json") == upstream.manifest.to_bytes()
        assert upstream.manifest.dagster_run_id == result.run_id


@pytest.mark.parametrize(
    ("changed", "again"),
    [
        ({"bundle": {"golden": 3}}, {"bundle"}),
        # Another seed of a split that comes out otherwise, and all that was made of it.
        ({"splits": {"seed": 1}}, {"splits", *BEHIND_TRAINING}),
    ],
)
def test_a_changed_setting_computes_its_step_and_what_follows_and_nothing_before(
    changed, again, graph, pictures
):
    assert computed(graph, graph.materialize(pictures, **changed)) == ALWAYS_RUN | again


def test_what_comes_out_the_same_keeps_everything_behind_it(graph, pictures):
    """The backbone is computed again for its own sake; nobody behind it notices."""
    again = graph.materialize(pictures, "backbone", reuse=False)
    assert computed(graph, again) == {"backbone"}
    assert computed(graph, graph.materialize(pictures)) == ALWAYS_RUN


def test_going_back_to_an_earlier_setting_takes_over_what_was_made_with_it(graph, pictures):
    before = digests(graph)
    changed = graph.materialize(pictures, phase1_checkpoint={"learning_rate": 2e-3})
    assert computed(graph, changed) == ALWAYS_RUN | set(BEHIND_TRAINING)
    assert digests(graph) != before
    assert computed(graph, graph.materialize(pictures)) == ALWAYS_RUN
    assert digests(graph) == before


def test_reuse_false_computes_and_comes_to_the_same(graph, pictures):
    before = digests(graph)
    result = graph.materialize(pictures, reuse=False)
    assert computed(graph, result) == set(STEPS)
    assert digests(graph) == before


def test_a_damaged_artifact_is_computed_again_with_a_warning(graph, pictures, capsys):
    before = digests(graph)
    damage(graph.current("phase1_checkpoint").path("model_best.safetensors"))
    result = graph.materialize(pictures)
    assert computed(graph, result) == ALWAYS_RUN | {"phase1_checkpoint"}
    assert digests(graph) == before
    errors = capsys.readouterr().err
    assert "computed again" in errors
    assert "model_best.safetensors" in errors


@pytest.mark.parametrize("harm", ["pointer", "manifest", "directory"])
def test_a_key_that_leads_nowhere_computes_again(harm, graph, pictures):
    thresholds = graph.current("thresholds")
    pointer = graph.store.root / "keys" / "thresholds" / f"{thresholds.manifest.step_key}.json"
    if harm == "pointer":
        pointer.write_bytes(b"{")
    elif harm == "manifest":
        (thresholds.directory / "manifest.json").write_bytes(b"{}")
    else:
        shutil.rmtree(thresholds.directory)
    result = graph.materialize(pictures, "thresholds", "evaluation")
    assert computed(graph, result) == {"thresholds"}


def test_moving_the_images_computes_nothing_behind_images(graph, pictures, tmp_path):
    moved = shutil.move(shutil.copytree(pictures, tmp_path / "here"), tmp_path / "there")
    assert computed(graph, graph.materialize(moved)) == ALWAYS_RUN


def settle(monkeypatch):
    """Take every file for one that was changed long ago."""
    monkeypatch.setattr(stamps, "_COARSEST_CLOCK_NS", 0)


def read_again(graph, pictures, *, reuse=True, **images):
    """Return the number of images that a run reads, and the data version of its index."""
    assert graph.materialize(pictures, "images", reuse=reuse, images=images).success
    manifest = graph.current("images").manifest
    return manifest.metrics["pictures_read"], manifest.data_version


def test_only_changed_images_are_read_again(graph, pictures, tmp_path, monkeypatch):
    mine = shutil.copytree(pictures, tmp_path / "mine")
    files = sorted(path for path in mine.rglob("*") if path.is_file())
    # By a clock as coarse as an hour they were all changed a moment ago, and a change could still hide.
    monkeypatch.setattr(stamps, "_COARSEST_CLOCK_NS", 3600 * 10**9)
    everything, unchanged = read_again(graph, mine)
    assert everything == len(files)
    assert read_again(graph, mine)[0] == len(files)
    settle(monkeypatch)
    assert read_again(graph, mine)[0] == len(files)
    assert read_again(graph, mine) == (0, unchanged)
    assert read_again(graph, mine, reuse=False) == (len(files), unchanged)

    touched, grown, replaced, *_ = files
    os.utime(touched, (2e9, 1.5e9))
    grown.write_bytes(grown.read_bytes() + b"\0")
    times = (replaced.stat().st_atime, replaced.stat().st_mtime)
    other = replaced.with_name("other")
    other.write_bytes(replaced.read_bytes()[:-1] + b"\0")
    os.utime(other, times)
    other.replace(replaced)  # of the same size and time as what it replaces
    read, changed = read_again(graph, mine)
    assert read == 3
    assert changed != unchanged


def test_images_of_another_source_are_never_taken_for_the_ones_that_were_read(
    graph, pictures, tmp_path, monkeypatch
):
    """The same names, sizes and times in another folder, and another column of the same file."""
    mine = shutil.copytree(pictures, tmp_path / "mine")
    settle(monkeypatch)
    assert read_again(graph, mine)[0] == read_again(graph, mine, reuse=False)[0]
    assert read_again(graph, mine)[0] == 0
    other = shutil.copytree(mine, tmp_path / "other")
    assert read_again(graph, other)[0] == read_again(graph, other, reuse=False)[0]
    settle(monkeypatch)
    read_again(graph, other)
    grouped = {"path": str(other), "group_pattern": "(.)"}
    assert read_again(graph, other, folder=grouped)[0] == read_again(graph, other, reuse=False)[0]


def test_an_image_that_is_moved_out_and_linked_back_is_not_taken_for_the_one_that_was_read(
    graph, pictures, tmp_path, monkeypatch
):
    mine = shutil.copytree(pictures, tmp_path / "mine")
    settle(monkeypatch)
    read_again(graph, mine)
    moved = min((mine / "None").iterdir())
    moved.rename(tmp_path / "outside")
    moved.symlink_to(tmp_path / "outside")
    read_again(graph, mine, max_quarantined_share=0.5)
    assert graph.current("images").manifest.metrics["quarantined"] == 1


def test_code_that_is_edited_while_it_runs_is_never_taken_over(graph, pictures, monkeypatch, capsys):
    monkeypatch.setattr("streetvision_assets.step.code_has_changed", lambda _: True)
    changed = {"splits": {"seed": 5}}
    assert graph.materialize(pictures, "splits", **changed).success
    assert graph.current("splits").manifest.code_version == "edited while it ran"
    assert "was edited while it ran" in capsys.readouterr().err
    monkeypatch.undo()
    assert computed(graph, graph.materialize(pictures, "splits", **changed)) == {"splits"}


def test_settings_of_speed_alone_compute_nothing(graph, pictures):
    again = graph.materialize(pictures, "phase1_checkpoint", phase1_checkpoint={"num_workers": 1})
    assert computed(graph, again) == set()
    assert graph.current("phase1_checkpoint").manifest.dagster_run_id == again.run_id


def test_a_proof_that_failed_since_is_done_again(graph, pictures, monkeypatch):
    """`verify` found it bad: the pass of the run that computed it no longer counts."""
    from streetvision_assets.defs import calibration

    def fail(*args, **kwargs):
        raise IntegrityError("the logits as they were", "others", "the role", "Look at the disk.")

    monkeypatch.setattr(calibration, "logits_problems", fail)
    assert not graph.run("verify").success
    monkeypatch.undo()
    result = graph.materialize(pictures, "splits", "val_calib_logits")
    checks = evaluations(result)
    assert "the whole of val_calib" in checks["val_calib_logits", "complete_logits"].description
    assert "passed before" in checks["splits", "no_leakage"].description


@pytest.mark.parametrize("changed", ["code_version", "packages"])
def test_a_proof_with_other_code_or_libraries_is_done_again(changed, graph, pictures, monkeypatch):
    from streetvision_assets import remembered

    known = remembered.evidence

    def other(manifest, *, code_version):
        return known(manifest, code_version=code_version) | {changed: "other"}

    monkeypatch.setattr(remembered, "evidence", other)
    result = graph.materialize(pictures, "splits")
    assert computed(graph, result) == set()
    assert "passed before" not in evaluations(result)["splits", "no_leakage"].description


def test_a_failed_proof_is_not_forgotten_when_its_artifact_is_taken_over(graph, pictures):
    """The artifact was published, its check failed: the run that takes it over proves it anew, and fails."""
    untrained = {"phase1_checkpoint": {"learning_rate": 1e-12, "epochs": 1, "ema_decay": 0.0}}
    for attempt in (1, 2):
        result = graph.materialize(pictures, "phase1_checkpoint", **untrained)
        assert not result.success, attempt
        check = evaluations(result)["phase1_checkpoint", "usable_model"]
        assert not check.passed
        assert "majority class" in check.description
    assert graph.current("phase1_checkpoint").manifest.reused_from is not None


def test_a_proof_is_taken_over_from_the_run_that_computed_and_verify_proves_it_anew(second_run):
    graph, _, result = second_run
    taken, proved = evaluations(result), evaluations(graph.run("verify"))
    proofs = {(step, name) for step, name in taken if name not in {"integrity", "lineage"}}
    assert {step for step, _ in proofs} >= {*STEPS} - {"conditions", "backbone"}
    for proof in proofs:
        assert proved[proof].passed
        assert "passed before" not in proved[proof].description
        taken_over = "passed before on the same content" in taken[proof].description
        assert taken_over == (proof[0] not in ALWAYS_RUN)


def test_where_the_events_are_gone_images_are_drawn_and_proofs_done_again(graph, pictures):
    shutil.rmtree(graph.store_path.parent / "dagster")
    again = type(graph)(graph.store_path.parent)
    try:
        result = again.materialize(pictures)
        assert computed(again, result) == ALWAYS_RUN
        assert "verified after being moved" in evaluations(result)["bundle", "deployable"].description
        assert "training_curve" in materializations(result)["phase1_checkpoint"].metadata
    finally:
        again.instance.dispose()
