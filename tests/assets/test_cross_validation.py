"""Cross-validation in the graph: a job of its own, of the recipe that the checkpoint was trained with."""

import pytest

from streetvision_core.training.out_of_fold.record import CrossValidation
from tests.assets.graph import evaluations, paragraph, small_config
from tests.assets.test_graph import materializations


@pytest.fixture
def cross(graph, pictures):
    """Runs the job on a copy of the first run, whose checkpoint it takes over."""

    def run(**settings):
        config = small_config(pictures, cross_validation={"folds": 3, **settings})
        result = graph.run("cross_validate", config=config)
        assert result.success, paragraph(result)
        return result

    return graph, run


def test_the_recipe_is_judged_on_folds_and_taken_over_the_second_time(cross):
    graph, run = cross
    result = run()
    made = graph.current("cross_validation")
    assert all(check.passed for check in evaluations(result).values())
    assert tuple(made.manifest.roles) == ("train", "val_select")
    assert CrossValidation.from_artifact(made).method == "finetune"
    shown = materializations(result)["cross_validation"].metadata
    assert list(shown)[:3] == ["MCC, out of fold", "by repeat", "method"]
    assert shown["by_set_size"].md_str.startswith("![](data:image/")
    assert shown["sizes"].md_str.startswith("| ")
    run()
    again = graph.current("cross_validation").manifest
    assert again.reused_from.run_id == made.manifest.run_id
    assert again.data_version == made.manifest.data_version
