"""`streetvision diff` of two runs that tested the same images: which policy is better, told by pairs."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest

from streetvision_core.cli import main
from streetvision_core.eval.paired import compare_decisions
from streetvision_core.history import paired
from streetvision_core.io import csv_bytes, json_bytes
from tests.history.conftest import FIRST, SECOND
from tests.history.made import damage, make

COLUMNS = ("name", "sha256", "group", "label", "logit_none", "logit_roadwork")
POLICIES = ("by_threshold", "by_gate", "by_scrc")


def predictions(count=200, *, wrong=20, deferred=0, first=0, policies=POLICIES, **overruled):
    """Return rows of images with the numbers from `first`; `wrong` and `deferred` of them are spread."""
    rows = []
    for number in range(first, first + count):
        label = number % 2
        answer = ("none", "roadwork")[label if number % 100 >= wrong * 100 // count else 1 - label]
        answers = {name: answer for name in policies if name != "by_scrc"}
        scrc = {"by_scrc": "defer" if number % 10 < deferred else answer} if "by_scrc" in policies else {}
        digest = hashlib.sha256(str(number).encode()).hexdigest()
        row = {"name": f"{number}.png", "sha256": digest, "group": f"street {number // 2}", "label": label}
        rows.append({**row, "logit_none": 0.5, "logit_roadwork": -0.5, **answers, **scrc, **overruled})
    return rows


def publish(store, run_id, rows, *, data=None):
    columns = list(rows[0]) if rows else COLUMNS
    data = csv_bytes(rows, columns=columns) if data is None else data
    files = {"evaluation.json": json_bytes({}), "predictions.csv": data}
    return make(store, run_id, "evaluation", inputs=(), files=files, reuse=False)


def diff(store, capsys, *how):
    code = main(["diff", FIRST, SECOND, "--store", str(store.root), *how])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def sentence(section, policy):
    """Return what stands below the table of a policy, until the next one."""
    lines = section[max(n for n, line in enumerate(section) if line.startswith(f"  {policy} ")) :]
    rest = [line for line in lines[1:] if line.startswith(" " * 14)]
    return " ".join([lines[0].split(maxsplit=1)[1], *map(str.strip, rest)])


@pytest.fixture
def compare(empty, capsys):
    """Publish two tables of predictions, and return what diff says of them: its section, and its facts."""

    def compare_tables(a, b):
        publish(empty, FIRST, a)
        publish(empty, SECOND, b)
        code, text, _ = diff(empty, capsys)
        assert code == 0
        assert all(len(line) <= 100 for line in text.splitlines())
        section = text.partition("val_test, paired")[2].splitlines()
        code, facts, _ = diff(empty, capsys, "--json")
        assert code == 0
        return section, json.loads(facts)["paired"]

    return compare_tables


def test_the_better_policy_is_named_with_its_interval(compare):
    section, facts = compare(predictions(wrong=40), predictions(wrong=4))
    assert section[0] == ": 200 common images in 100 groups"
    assert sentence(section, "threshold").startswith(
        "B is better: p is below 0.05 and the interval excludes 0."
    )
    assert " ".join(" ".join(section).split()).endswith(
        "3 comparisons were made: of two equal runs one is below .05 in up to 15% of such tables, so"
        " believe a p below 0.017. Every further pair of runs adds to them."
    )
    assert (facts["comparisons"], facts["groups"]) == (3, 100)
    comparison = facts["policies"]["threshold"]
    rows_a, rows_b = predictions(wrong=40), predictions(wrong=4)
    expected = compare_decisions(
        [row["label"] for row in rows_a],
        *([row["by_threshold"] for row in rows] for rows in (rows_a, rows_b)),
        [row["group"] for row in rows_a],
        seed=0,
    )
    assert [comparison[name] for name in ("mcc_a", "mcc_b", "p_value")] == [
        expected.mcc_a,
        expected.mcc_b,
        expected.p_value,
    ]
    assert (comparison["interval"]["low"], comparison["interval"]["high"]) == (
        expected.interval.low,
        expected.interval.high,
    )
    assert (comparison["better"], comparison["n"], comparison["only_b_right"]) == ("B", 200, 36)
    assert facts["not_compared"] is None
    low, high = f"[{expected.interval.low:+.4f},", f"{expected.interval.high:+.4f}]"
    mccs = [f"{expected.mcc_a:.4f}", f"{expected.mcc_b:.4f}", f"{expected.mcc_difference:+.4f}"]
    assert section[2].split() == ["threshold", "200", *mccs, low, high, "0", "36", f"{expected.p_value:.2g}"]


def test_what_cannot_be_told_is_not_claimed(compare):
    section, _ = compare(
        predictions(wrong=10), [*predictions(100, wrong=4), *predictions(100, first=100, wrong=6)]
    )
    assert sentence(section, "threshold").startswith(
        "No difference can be told: they differ in 2 groups only."
    )


def test_a_difference_both_ways_is_none(compare):
    a, b = predictions(wrong=0), predictions(wrong=0)
    for rows, places in ((a, range(0, 60, 2)), (b, range(60, 120, 2))):
        for place in places:
            rows[place]["by_threshold"] = "roadwork"
    section, facts = compare(a, b)
    assert sentence(section, "threshold").startswith("No difference can be told: equals differ as much")
    assert sentence(section, "gate").startswith("Both answer alike.")
    assert facts["policies"]["threshold"]["p_value"] == 1


def test_deferred_images_are_left_out_and_counted(compare):
    section, facts = compare(predictions(wrong=40, deferred=3), predictions(wrong=4, deferred=4))
    comparison = facts["policies"]["scrc"]
    counts = [comparison[name] for name in ("pictures", "n", "only_a_answers", "only_b_answers")]
    assert counts == [200, 120, 20, 0]
    words = " ".join(" ".join(section).split())
    assert "A answers 70.0% of the images, B 60.0%; 20 only A, 0 only B." in words


def test_a_policy_that_defers_everything_is_compared_in_words(compare):
    section, facts = compare(predictions(wrong=40), predictions(wrong=4, by_scrc="defer"))
    assert facts["policies"]["scrc"]["interval"] is None
    assert "scrc No image is answered by both." in " ".join(" ".join(section).split())
    assert any(line.split()[:6] == ["scrc", "0", "-", "-", "-", "-"] for line in section)


def test_images_are_matched_by_what_they_hold_and_the_common_ones_compared(compare):
    renamed = [{**row, "name": f"other {row['name']}"} for row in predictions(200, first=100, wrong=4)]
    _, facts = compare(predictions(200, wrong=40), renamed[::-1])
    assert facts["common"] == facts["policies"]["gate"]["n"] == 100


def test_equal_images_in_one_run_count_once(compare):
    _, facts = compare(predictions(wrong=40) * 2, predictions(wrong=4))
    assert facts["common"] == facts["policies"]["gate"]["n"] == 200


@pytest.mark.parametrize("side", [0, 1])
def test_images_that_either_run_holds_together_stay_together(compare, side):
    whole = predictions(wrong=40), predictions(wrong=4)
    for row in whole[side]:
        row["group"] = "one video"
    section, facts = compare(*whole)
    assert facts["policies"]["gate"]["interval"] is None
    assert sentence(section, "gate").startswith("No difference can be told: they differ in 1 group only.")
    assert section[0].endswith("in 1 group, fewer than 30: the intervals are rough")


def test_groups_of_other_names_are_the_same_groups(compare):
    renamed = predictions(wrong=4)
    for row in renamed:
        row["group"] = f"another {row['group']}"
    _, facts = compare(predictions(wrong=40), renamed)
    assert facts["policies"]["gate"]["differing_groups"] == 18
    assert facts["policies"]["gate"]["better"] == "B"


def test_only_policies_that_both_have_are_compared(compare):
    _, facts = compare(predictions(), predictions(wrong=4, policies=("by_gate", "by_new")))
    assert list(facts["policies"]) == ["gate"]


def test_no_common_image_is_said_in_a_sentence(compare):
    section, facts = compare(predictions(), predictions(first=1000))
    assert section == ["", "  The two runs have no image of val_test in common."]
    assert facts["policies"] == {}


def test_no_common_policy_is_said_in_a_sentence(compare):
    section, _ = compare(predictions(policies=("by_gate",)), predictions(policies=("by_threshold",)))
    assert section == ["", "  The two runs have no policy in common."]


def test_other_labels_are_another_truth(compare):
    relabelled = predictions(wrong=4)
    relabelled[7]["label"] = 0
    section, facts = compare(predictions(), relabelled)
    assert "1 of 200 common images had another label in B than in A" in " ".join(section)
    assert facts["policies"] == {}
    assert facts["not_compared"]


OLDER = [
    {"name": "1.png", "sha256": "0" * 64, "group": "x", "label": 1, "probability": 0.5, "decision": "none"}
]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (OLDER, "predictions.csv has no by_..."),
        ([{"name": "1.png", "by_gate": "none"}], "predictions.csv has no sha256 and no group and no label"),
        (predictions(by_gate="perhaps"), "unknown label or decision"),
        (predictions(label=2), "unknown label or decision"),
        (predictions(by_gate=""), "unknown label or decision"),
    ],
)
@pytest.mark.parametrize("side", ["A", "B"])
def test_an_evaluation_of_another_version_is_said_to_be_not_comparable(compare, rows, reason, side):
    section, facts = compare(*((rows, predictions()) if side == "A" else (predictions(), rows)))
    words = " ".join(" ".join(section).split())
    start = f"The evaluation of {side} was written by another version and is not comparable:"
    assert start in words
    assert reason in words
    assert words.endswith(f"Materialize evaluation of {side} again.")
    assert facts["policies"] == {}


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xfe\x00", b'sha256,group,label,by_gate\n"', b"sha256,group,label,by_gate\n1,2\n"],
    ids=["empty", "no text", "an open quote", "a short row"],
)
def test_a_table_that_is_none_is_a_sentence_too(empty, capsys, data):
    publish(empty, FIRST, predictions())
    publish(empty, SECOND, (), data=data)
    code, text, error = diff(empty, capsys)
    assert (code, error) == (0, "")
    assert "The evaluation of B was written by another version" in text


def test_damaged_predictions_are_an_error(empty, capsys):
    publish(empty, FIRST, predictions())
    published = publish(empty, SECOND, predictions(wrong=4))
    damage(published.path("predictions.csv"))
    code, text, error = diff(empty, capsys)
    assert (code, text) == (1, "")
    assert "predictions.csv" in error


@pytest.mark.parametrize("missing", [FIRST, SECOND])
def test_nothing_is_said_where_one_has_no_predictions(empty, capsys, missing):
    make(empty, missing, "evaluation", inputs=())
    publish(empty, SECOND if missing == FIRST else FIRST, predictions())
    assert "paired" not in diff(empty, capsys)[1]
    assert json.loads(diff(empty, capsys, "--json")[1])["paired"] is None


def test_nothing_is_computed_where_both_have_the_same_predictions(empty, capsys, monkeypatch):
    for run_id in (FIRST, SECOND):
        publish(empty, run_id, predictions())
    monkeypatch.setattr(paired, "_read", None)
    assert diff(empty, capsys)[1].splitlines()[-1].startswith("Nothing differs: 1 step")


def test_the_same_two_runs_give_the_same_text(empty, capsys):
    random = np.random.default_rng(0)
    for run_id in (FIRST, SECOND):
        rows = predictions(wrong=4)
        for row in rows:
            row["by_gate"] = str(random.choice(["none", "roadwork", "defer"]))
        publish(empty, run_id, rows)
    assert diff(empty, capsys) == diff(empty, capsys)


@pytest.mark.e2e
def test_an_obstacle_is_found_without_loading_anything_heavy(empty):
    publish(empty, FIRST, OLDER)
    publish(empty, SECOND, predictions())
    code = (
        "import sys, streetvision_core.cli as cli\n"
        "assert cli.main(sys.argv[1:]) == 0\n"
        "print(sorted({'numpy', 'scipy', 'torch'} & set(sys.modules)))"
    )
    arguments = [sys.executable, "-c", code, "diff", FIRST, SECOND, "--store", str(empty.root)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def shipped(store, a, b, *, kinds=("threshold", "threshold")):
    published = [publish(store, run_id, rows) for run_id, rows in ((FIRST, a), (SECOND, b))]
    return paired.compare_shipped(*(paired.Shipped(*pair) for pair in zip(kinds, published, strict=True)))


def test_shipped_policies_are_compared_whatever_their_kind(empty):
    a, b = predictions(wrong=40), predictions(wrong=4, deferred=3)
    comparison = shipped(empty, a, b, kinds=("gate", "scrc"))
    (pair,) = comparison.policies.values()
    assert list(comparison.policies) == ["gate against scrc"]
    assert pair == compare_decisions(
        [row["label"] for row in a],
        [row["by_gate"] for row in a],
        [row["by_scrc"] for row in b],
        [row["group"] for row in a],
        seed=0,
    )
    for words in (
        f"MCC {pair.mcc_a:.4f} of A",
        "140 images that both answer, of 200 in 100 groups",
        "B 70.0%; 60 only A",
    ):
        assert words in comparison.numbers()


def test_of_the_same_predictions_other_policies_are_compared(empty):
    rows = predictions(wrong=4, deferred=3)
    (pair,) = shipped(empty, rows, rows, kinds=("threshold", "scrc")).policies.values()
    assert (pair.n, pair.better, pair.differing_groups) == (140, None, 0)


def test_shipped_policies_are_compared_on_the_very_same_images_only(empty):
    comparison = shipped(empty, predictions(200), predictions(200, first=50, wrong=4))
    assert comparison.policies is None
    assert "A was judged on 200, B on 200, and 150 of them are the same" in comparison.obstacle
    assert "role_column" in comparison.obstacle


def test_a_policy_that_predictions_do_not_have_is_not_comparable(empty):
    comparison = shipped(
        empty, predictions(policies=("by_gate",)), predictions(), kinds=("threshold", "gate")
    )
    assert comparison.obstacle.startswith("The evaluation of A was written by another version")
    assert "no by_threshold" in comparison.obstacle
