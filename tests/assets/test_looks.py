"""Looks in the real graph: what looks is counted, what is taken over is not, and no content depends on it."""

from streetvision_core.bundle import verify_bundle
from streetvision_core.graph import LOOKS
from streetvision_core.io.ledger import ledger_problems, read_looks
from tests.assets.graph import STEPS, paragraph

LOOKING = [step for step in LOOKS if step in STEPS]


def metrics(graph, step):
    return graph.current(step).manifest.metrics


def test_every_step_that_judges_is_a_look_and_says_its_number(first_run):
    graph, result = first_run
    looks = read_looks(graph.store.root)
    assert sorted(look.subject.step for look in looks) == sorted(LOOKING)
    numbers = {step: metrics(graph, step)["look_number"] for step in LOOKING}
    assert numbers["val_calib_logits"] == 1
    assert sorted([numbers["thresholds"], numbers["scrc"]]) == [2, 3]
    assert numbers["evaluation"] == 1
    assert metrics(graph, "bundle") | {"val_calib_looks": 3, "val_test_looks": 1} == metrics(graph, "bundle")
    assert not {"look_number", "val_test_looks"} & metrics(graph, "phase1_checkpoint").keys()
    (event,) = result.asset_materializations_for_node("evaluation")
    assert event.metadata["looks at val_test"].value == "look number 1"
    assert ledger_problems(graph.store.root, [graph.current(step).manifest for step in LOOKING]) == []
    summary = verify_bundle(graph.current("bundle").directory).summary()
    assert "evaluation look number 1" in summary
    assert "when exported 3 at val_calib and 1 at val_test" in summary


def test_reuse_is_no_look_and_another_setting_is_one_and_the_data_version_knows_of_neither(graph, pictures):
    before = {step: graph.current(step).manifest for step in LOOKING}
    again = graph.materialize(pictures, "scrc", "thresholds", "evaluation")
    assert again.success, paragraph(again)
    assert len(read_looks(graph.store.root)) == 4
    other = graph.materialize(pictures, "scrc", scrc={"delta": 0.2})
    assert other.success, paragraph(other)
    number = metrics(graph, "scrc")["look_number"]
    assert number == 4
    computed = graph.run("make_bundle", steps=["scrc"], reuse=False)
    assert computed.success, paragraph(computed)
    manifest = graph.current("scrc").manifest
    assert manifest.data_version == before["scrc"].data_version
    assert manifest.metrics["look_number"] == before["scrc"].metrics["look_number"]
    assert manifest.metrics["looks_so_far"] == 4
    (event,) = computed.asset_materializations_for_node("scrc")
    assert event.metadata["looks at val_calib"].value.endswith("of 4 so far")


def test_a_look_beyond_the_budget_is_refused_before_val_calib_is_read(graph, pictures):
    for path in graph.current("val_calib_logits").directory.glob("logits.*"):
        path.unlink()  # reading it would be another error
    refused = graph.materialize(pictures, "scrc", scrc={"looks": 2})
    assert not refused.success
    text = paragraph(refused)
    assert "this one takes 0.05 of delta, 0.1" in text
    assert "Nothing was certified. Keep what an earlier run certified" in text
    assert len(read_looks(graph.store.root)) == 4
