"""Cross-validation in the graph: a job of its own, of the recipe that the checkpoint was trained with."""

import shutil

import pytest

from streetvision_core.history.runs import list_runs
from streetvision_core.io.ledger import ledger_problems, read_looks
from streetvision_core.training.out_of_fold.record import CrossValidation
from tests.assets.graph import Graph, evaluations, paragraph, small_config
from tests.assets.test_graph import materializations


@pytest.fixture(scope="module")
def crossed(first_run, tmp_path_factory, pictures):
    """The job by its defaults, once more, and with val_calib; a certificate after it. All in one store."""
    made, _ = first_run
    made.instance.dispose()
    place = tmp_path_factory.mktemp("crossed")
    shutil.copytree(made.store_path.parent, place, dirs_exist_ok=True)
    graph, results = Graph(place), []
    for settings in ({}, {}, {"roles": "all_but_test"}):
        config = small_config(pictures, cross_validation={"folds": 3, **settings})
        results.append(graph.run("cross_validate", config=config))
    results.append(graph.materialize(pictures, "scrc", scrc={"delta": 0.2}))
    assert all(result.success for result in results), [paragraph(result) for result in results]
    yield graph, results
    graph.instance.dispose()


def manifests(graph):
    """The manifests of cross_validation, in the order of the runs."""
    runs = [run for run in list_runs(graph.store).runs if "cross_validation" in run.steps]
    ids = sorted((run.run_id for run in runs), key=str)
    return [graph.store.resolve("cross_validation", run_id=run_id).manifest for run_id in ids]


def shown(result):
    return materializations(result)["cross_validation"].metadata


def test_the_recipe_of_the_checkpoint_is_judged_and_every_check_passes(crossed):
    graph, (result, *_) = crossed
    assert all(check.passed for check in evaluations(result).values())
    assert CrossValidation.from_artifact(graph.current("cross_validation")).method == "finetune"
    assert list(shown(result))[:3] == ["MCC, out of fold", "by repeat", "method"]
    assert shown(result)["by_set_size"].md_str.startswith("![](data:image/")
    assert shown(result)["sizes"].md_str.startswith("| ")


def test_the_second_time_it_is_taken_over(crossed):
    first, second, _ = manifests(crossed[0])
    assert first.reused_from is None
    assert second.reused_from.run_id == first.run_id
    assert second.data_version == first.data_version


def test_only_all_but_test_reads_val_calib_and_certificates_count_it_as_a_look(crossed):
    graph, results = crossed
    first, second, asked = manifests(graph)
    for manifest in (first, second):
        assert tuple(manifest.roles) == ("train", "val_select")
        assert "look_number" not in manifest.metrics
    assert "looks at val_calib" not in shown(results[0])
    assert set(asked.roles) == {"train", "val_select", "val_calib"}
    assert asked.metrics["look_number"] == 4
    assert shown(results[2])["looks at val_calib"].value == "look number 4"
    assert ledger_problems(graph.store.root, [asked]) == []
    assert len(read_looks(graph.store.root)) == 6
    assert graph.current("scrc").manifest.metrics["look_number"] == 5
    texts = {run.run_id: "\n".join(run.below()) for run in list_runs(graph.store).runs}
    assert "looked" not in texts[first.run_id]
    assert "cross_validation: look number 4" in texts[asked.run_id]
