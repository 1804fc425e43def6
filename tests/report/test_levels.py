"""A report shows what a model loses at every level of the conditions, and names the worst."""

import json
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.metrics import matthews_corrcoef

from streetvision_core.bundle import Evaluation, evaluate
from streetvision_core.bundle.card import _conditions
from streetvision_core.data.conditions import CAMERA, ConditionsConfig
from streetvision_core.data.decoding.decode import ImageReader, decode
from streetvision_core.data.opening import published_source
from streetvision_core.inference.predictor import ImageClassifier
from streetvision_core.io import json_bytes
from streetvision_core.policies.registry import published_policies
from streetvision_core.report.conditions import level_rows
from streetvision_core.report.pages import PAGE_NAME
from streetvision_core.report.recount import recount_problems
from streetvision_core.report.report import Report
from streetvision_core.report.slices import slice_of
from tests.bundle.chain import checkpoint_of

DARK = {
    "kind": "own",
    "name": "tunnel",
    "levels": [{"name": "dark", "operations": [{"gain": [0.05]}]}, {"name": "plain"}],
}


def seen(chain, conditions):
    return ImageReader(published_source(chain.upstream["images"]), chain.index, conditions=conditions)


@pytest.fixture(scope="module")
def evaluation(chain):
    return Evaluation.from_artifact(chain.upstream["evaluation"])


# Under this seed some images meet each level.
UNDER = ConditionsConfig(profile=DARK).conditions().model_copy(update={"seed": 1})


@pytest.fixture(scope="module")
def in_tunnel(chain):
    """An evaluation under conditions, where the policies were not fitted: enough to see what is counted."""
    return evaluate(
        checkpoint_of(chain),
        published_policies(chain.upstream),
        chain.splits.roles["val_test"],
        index=chain.index,
        images=seen(chain, UNDER),
    )


def recount(evaluation, chain):
    return recount_problems(evaluation, names=chain.splits.roles["val_test"], index=chain.index)


def test_as_is_shows_the_levels_of_the_camera_and_changes_no_other_figure(chain, evaluation):
    alone = evaluate(
        checkpoint_of(chain),
        published_policies(chain.upstream),
        chain.splits.roles["val_test"],
        index=chain.index,
        images=seen(chain, None),
    )
    levels = evaluation.report.conditions
    assert alone.report == evaluation.report.model_copy(update={"conditions": None})
    assert alone.tested == evaluation.tested
    assert not levels.tuned
    for kind, parts in levels.policies.items():
        assert [part.value for part in parts] == ["as_is", *CAMERA.names]
        assert parts[0].metrics == evaluation.report.policies[kind].metrics
    assert set(evaluation.levels) == set(CAMERA.names)


def test_a_level_is_what_the_classifier_says_of_images_drawn_there(chain, in_tunnel):
    checkpoint, pictures = checkpoint_of(chain), chain.pictures("val_test")
    conditions = UNDER
    rows = in_tunnel.levels["dark"]
    images = [conditions.see_at("dark", decode(pictures.read(row.name)), row.sha256) for row in rows]
    measured = ImageClassifier(checkpoint.load_model(), config=checkpoint.config).measure(images)
    logits = np.concatenate([batch.logits for _, batch in measured])
    recorded = np.array([[row.logit_none, row.logit_roadwork] for row in rows])
    assert logits == pytest.approx(recorded, abs=1e-6)
    dark = next(part for part in in_tunnel.report.conditions.policies["threshold"] if part.value == "dark")
    decisions = [row.decisions["threshold"] == "roadwork" for row in rows]
    assert dark.metrics["mcc"] == pytest.approx(matthews_corrcoef([row.label for row in rows], decisions))
    assert dark.mcc.low <= dark.metrics["mcc"] <= dark.mcc.high


def test_under_conditions_every_image_is_drawn_at_one_of_the_levels(in_tunnel):
    """The report is of the rows of the levels, each image at the level that it meets."""
    assert in_tunnel.report.conditions.tuned
    assert set(in_tunnel.levels) == {"as_is", "dark", "plain"}
    levels = [{row.name: row.logit_none for row in in_tunnel.levels[name]} for name in ("dark", "plain")]
    met = [
        [abs(image.logit_none - level[image.name]) < 1e-4 for level in levels] for image in in_tunnel.tested
    ]
    assert all(any(matches) for matches in met)
    assert any(matches == [True, False] for matches in met)
    assert any(matches == [False, True] for matches in met)


def test_the_worst_level_is_named_on_the_page_and_in_the_card(evaluation):
    levels = evaluation.report.conditions
    lead = evaluation.report.lead.policy.type
    worst = min(levels.policies[lead], key=lambda part: part.metrics["mcc"])
    assert f"Worst is {worst.value}: MCC {worst.metrics['mcc']:.3f}" in levels.reading(lead)
    page = evaluation.pages[PAGE_NAME].decode()
    assert f"Worst is {worst.value}" in page
    assert "promise nothing at the other" in page
    assert "plots/mcc_by_level.png" in evaluation.pages
    assert f"Worst is {worst.value}" in _conditions(levels, lead).replace("\n", " ")
    assert [row["level"] for row in level_rows(evaluation.report)] == ["as_is", *CAMERA.names]


@pytest.mark.parametrize("which", ["evaluation", "in_tunnel"])
def test_levels_are_counted_again_from_their_decisions(chain, request, which):
    evaluation = request.getfixturevalue(which)
    assert recount(evaluation, chain) == []
    name, rows = next((name, rows) for name, rows in evaluation.levels.items() if name != "as_is")
    changed = replace(rows[0], logit_none=-50.0, logit_roadwork=50.0)
    forged = replace(evaluation, levels={**evaluation.levels, name: (changed, *rows[1:])})
    if rows[0].decisions["threshold"] == "none":
        assert any(f"at the level {name}" in fault for fault in recount(forged, chain))
    missing = {other: rows for other, rows in evaluation.levels.items() if other != name}
    assert recount(replace(evaluation, levels=missing), chain) == [
        f"of the level {name} there are decisions or figures, and not both"
    ]
    swapped = replace(evaluation, levels={**evaluation.levels, name: rows[::-1]})
    assert recount(swapped, chain) == [f"the images of the level {name} are not those of val_test"]


def test_a_level_without_answers_is_named_and_has_no_figure(evaluation):
    report = evaluation.report
    levels = report.conditions
    plain, second, *others = levels.policies["threshold"]
    nothing = slice_of(np.zeros((3, 4), np.int64), attribute="conditions", value="as_is", n=plain.n)

    def read(*parts):
        policies = {**levels.policies, "threshold": parts}
        return levels.model_copy(update={"policies": policies})

    silent = read(plain, nothing.model_copy(update={"value": second.value}), *others)
    assert silent.reading("threshold").startswith(f"No image is answered at {second.value}. ")
    assert f"Worst is {second.value}" not in silent.reading("threshold")
    rows = level_rows(report.model_copy(update={"conditions": silent}))
    assert rows[1]["MCC"] == rows[1]["missed (FNR)"] == "no answers"
    assert read(nothing, second).reading("threshold") == (
        f"No image is answered at as_is. Worst is {second.value}: MCC {second.text('mcc')}, where the images"
        " as they are give no answers."
    )
    assert read(nothing, nothing).reading("threshold") == "No image is answered at any level."
    best = plain.model_copy(update={"metrics": {**plain.metrics, "mcc": -1.0}})
    assert read(best, second, nothing).reading("threshold") == (
        "No image is answered at as_is. No other level is worse than the images as they are."
    )


def test_an_embellished_level_is_found(chain, evaluation):
    levels = evaluation.report.conditions
    first, second, *others = levels.policies["threshold"]
    better = second.model_copy(update={"metrics": {**second.metrics, "mcc": 0.999}})
    claimed = levels.model_copy(
        update={"policies": {**levels.policies, "threshold": (first, better, *others)}}
    )
    report = evaluation.report.model_copy(update={"conditions": claimed})
    assert any(
        "conditions is recorded as" in fault for fault in recount(replace(evaluation, report=report), chain)
    )


def test_a_report_whose_levels_are_of_something_else_is_refused(evaluation):
    content = json.loads(json_bytes(evaluation.report.model_dump(mode="json")))
    levels = content["conditions"]["policies"]
    for forged in (
        {kind: parts for kind, parts in levels.items() if kind != "scrc"},
        {kind: parts[1:] for kind, parts in levels.items()},
        {
            kind: [parts[0] | {"metrics": parts[0]["metrics"] | {"mcc": 0.111}}, *parts[1:]]
            for kind, parts in levels.items()
        },
    ):
        content["conditions"]["policies"] = forged
        with pytest.raises(ValidationError):
            Report.model_validate_json(json_bytes(content))
