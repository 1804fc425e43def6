"""The check `releasable` says whether the bundle may be released, and fails no run."""

from tests.assets.graph import evaluations, paragraph


def test_a_rule_that_is_not_kept_is_named_with_its_numbers_and_the_run_goes_on(graph, pictures):
    rules = {"release": {"min_mcc": 0.99, "max_fpr": 0.001}}
    result = graph.materialize(pictures, "bundle", bundle=rules)
    assert result.success, paragraph(result)
    check = evaluations(result)["bundle", "releasable"]
    assert (check.passed, check.severity.value) == (False, "ERROR")
    for words in ("min_mcc 0.99: MCC ", "which has to be above 0.99", "max_fpr 0.001: "):
        assert words in check.description
    assert evaluations(result)["bundle", "deployable"].passed
