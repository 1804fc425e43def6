"""The README of a bundle is a model card of the hub: its front matter is valid and tells the report."""

import json

import pytest
import yaml
from pydantic import ValidationError

from streetvision_core.bundle import BundleConfig
from streetvision_core.bundle.hub.front_matter import FrontMatter, front_matter_problems, page_of
from streetvision_core.eval.metrics import METRICS
from streetvision_core.graph import POLICY_STEPS


def read(readme):
    opening, matter, page = readme.split("---\n", 2)
    assert opening == ""
    return yaml.safe_load(matter), page


def test_the_hubs_client_loads_the_card_with_the_figures_of_the_report(bundle):
    from huggingface_hub import ModelCard

    card = ModelCard.load(bundle / "README.md")
    figures = json.loads((bundle / "evaluation.json").read_bytes())["policies"]["threshold"]
    assert (card.data.license, card.data.library_name) == ("mit", "timm")
    assert card.data.pipeline_tag == "image-classification"
    assert card.data.model_name == "streetvision-roadwork"
    results = {result.metric_type: result for result in card.data.eval_results}
    for key in (metric.name for metric in METRICS):
        kind = "matthews_correlation" if key == "mcc" else key
        assert results[kind].metric_value == figures["metrics"][key]
        assert results[kind].dataset_split == "test"
        ends = {end: figures["intervals"][key][end] for end in ("low", "high", "level", "method")}
        assert results[kind].metric_args == ends
    assert results["coverage"].metric_value == figures["coverage"]["share"]


def test_the_front_matter_is_of_the_schema_that_is_kept_here(bundle):
    matter, page = read((bundle / "README.md").read_text())
    assert FrontMatter.model_validate_json(json.dumps(matter)).pipeline_tag == "image-classification"
    assert page.startswith("\n# streetvision")
    assert page_of((bundle / "README.md").read_bytes()) == page.lstrip("\n")


@pytest.mark.parametrize(
    "change",
    [
        {"license": "MIT"}, {"license": "other"}, {"license_name": "mine", "license_link": "LICENSE"},
        {"library_name": "pytorch"}, {"pipeline_tag": "image"}, {"tags": "roadwork"}, {"tags": ["a b"]},
        {"datasets": []}, {"datasets": ["a/b/c"]}, {"model-index": []}, {"extra": 1},
        {"model-index": [{"name": "a", "results": []}]},
    ],
)  # fmt: skip
def test_what_the_hub_would_refuse_is_refused_by_the_schema(change):
    good = {"license": "mit", "library_name": "timm", "pipeline_tag": "image-classification", "tags": ["a"]}
    FrontMatter.model_validate_json(json.dumps(good))
    with pytest.raises(ValidationError):
        FrontMatter.model_validate_json(json.dumps(good | change))


def test_a_long_front_matter_costs_little_to_refuse():
    """PyYAML would read 16 MiB, all that a README may have, for minutes."""
    long = b"---\n" + b"- a\n" * 2**22 + b"---\n"
    (problem,) = front_matter_problems(long, licence="MIT", tested=None)
    assert "not spelled" in problem


def test_names_become_slugs_and_other_licences_get_a_name_and_a_link(chain, tmp_path):
    artifact = chain.export(
        tmp_path / "out", model_name="---\n<b>Mine</b>: 1", license="My Own (v2)", datasets=["me/streets"]
    )
    matter, _ = read(artifact.files["README.md"].decode())
    named = {key: matter[key] for key in ("license", "license_name", "license_link", "datasets")}
    assert named == {
        "license": "other", "license_name": "my-own-v2", "license_link": "LICENSE",
        "datasets": ["me/streets"],
    }  # fmt: skip
    (model,) = matter["model-index"]
    assert model["name"] == "b-Mine-b-1"
    assert model["results"][0]["dataset"]["type"] == "me/streets"


def test_as_many_data_sets_as_a_bundle_may_name_are_read_again(chain, tmp_path):
    names = [f"me/{number:03}{'a' * 90}" for number in range(500)]
    readme = chain.export(tmp_path / "out", datasets=names).files["README.md"]
    assert read(readme.decode())[0]["datasets"] == names
    problems = front_matter_problems(readme, licence="MIT", tested=None)
    assert not any("not spelled" in problem for problem in problems)


def test_without_an_evaluation_there_are_no_results(chain, tmp_path):
    others = {"evaluation", *POLICY_STEPS} - {"thresholds"}
    upstream = {name: artifact for name, artifact in chain.upstream.items() if name not in others}
    artifact = chain.export(tmp_path / "out", upstream=upstream)
    assert "model-index" not in read(artifact.files["README.md"].decode())[0]


def test_a_unix_time_is_a_number_as_in_real_cards(chain, tmp_path):
    artifact = chain.export(tmp_path / "out", submission_time="1795253400")
    assert json.loads(artifact.files["model_card.json"])["submission_time"] == 1795253400
    assert BundleConfig(submission_time="2026-11-21T09:30:00Z").submission_time.endswith("Z")
