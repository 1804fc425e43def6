import inspect
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import streetvision_core
from streetvision_assets import code_version as module
from streetvision_assets.code_version import code_version, modules_behind
from streetvision_assets.conventions import BODIES
from streetvision_core import graph
from streetvision_core.graph import CHECKPOINT, POLICIES, STEPS, PolicyKind, Step

FILES = {
    "__init__": "",
    "train": "def run():\n    from sample_package.loss import loss\n    return loss()\n",
    "loss": 'from sample_package import numbers_\n\ndef loss():\n    """Loss."""\n    return numbers_.ONE\n',
    "numbers_": "ONE = 1\nif TYPE_CHECKING:\n    from sample_package.types_ import T\n",
    "types_": "T = int\n",
    "unrelated": "X = 1\n",
}


def function(source):
    """Return the last function of `source`, which sees `run`, as a module that defines an asset does."""
    module = {"run": RUN, "__name__": "sample_assets"}
    exec(compile(source, "sample_assets", "exec", dont_inherit=True), module)
    return [value for value in module.values() if callable(value) and value is not RUN][-1]


class RUN:
    """A stand-in for the function of the package's `train` that an asset's body names."""

    __module__ = "sample_package.train"


@pytest.fixture
def version_with(tmp_path, monkeypatch):
    """The version of `train`, which imports `loss` in a function, which imports `numbers_`."""
    monkeypatch.setattr(module, "_PACKAGE", "sample_package")
    monkeypatch.setattr(module, "_ROOT", tmp_path)
    (tmp_path / "sample_package").mkdir()

    def version(body="def body():\n    run()", **changed):
        for name, text in (FILES | changed).items():
            (tmp_path / "sample_package" / f"{name}.py").write_text(text)
        clear()
        return code_version(function(body), step="sample")

    def clear():
        for cached in (module._read_module, module._modules):
            cached.cache_clear()

    yield version
    clear()


def test_comments_docstrings_and_layout_do_not_count(version_with):
    loss = FILES["loss"]
    assert version_with(loss="# why\n" + loss.replace("Loss.", "Another text.")) == version_with()
    assert (
        version_with(loss=loss.replace("return numbers_.ONE", "return (\n        numbers_.ONE\n    )"))
        == version_with()
    )


def test_a_changed_line_counts_however_deep_it_is_imported(version_with):
    for name, text in {"numbers_": "ONE = 2\n", "loss": FILES["loss"].replace(".ONE", ".ONE + 0")}.items():
        assert version_with(**{name: text}) != version_with()


@pytest.mark.parametrize(
    "change", ["x in {'a', 'b', 'c'}", "x < 1", "lambda: 1", "[y for y in x]", "x.other"]
)
def test_every_kind_of_line_counts(version_with, change):
    assert version_with(loss=f"def loss(x=0):\n    return {change}\n") != version_with(
        loss="def loss(x=0):\n    return x in {'a', 'b'}\n"
    )


HELPED = "ROLES = ('a',)\n{helper}def body():\n    '''{doc}'''\n    return helper() and ROLES\n"
HELPER = "def helper():\n    '''Help.'''\n    return run()\n"


def test_the_body_its_helpers_and_its_constants_count_but_not_their_docstrings(version_with):
    def version(helper=HELPER, doc="Doc.", **changed):
        return version_with(HELPED.format(helper=helper, doc=doc), **changed)

    assert version() != version_with()
    assert version(doc="Another.") == version(helper=HELPER.replace("Help", "Aid")) == version()
    assert version(helper=HELPER.replace("run()", "run() + 1")) != version()
    assert version_with(HELPED.format(helper=HELPER, doc="Doc.").replace("'a'", "'b'")) != version()
    assert version(numbers_="ONE = 2\n") != version()


@pytest.mark.parametrize(
    "hidden",
    ["(lambda: run())()", "[run() for _ in ONCE]", "partial(run)()", "def inner(): return run()"],
)
def test_what_a_body_runs_counts_wherever_it_is_named(hidden, version_with):
    body = f"from functools import partial\nONCE = [1]\ndef body():\n    {hidden}\n"
    assert version_with(body, numbers_="ONE = 2\n") != version_with(body)


def test_no_module_of_the_core_imports_the_package_in_a_form_that_is_not_followed():
    core = Path(streetvision_core.__file__).parent
    plain = re.compile(r"^[ \t]*(import streetvision_core|from \.)", re.MULTILINE)
    assert [path for path in core.rglob("*.py") if plain.search(path.read_text())] == []


def test_an_edit_after_the_code_was_read_is_noticed_and_a_touch_is_not(version_with, tmp_path):
    body = function("def body():\n    run()")
    version_with()
    assert not module.code_has_changed(body)
    path = tmp_path / "sample_package" / "numbers_.py"
    path.write_text("ONE = 1\n# a comment\nif TYPE_CHECKING:\n    from sample_package.types_ import T\n")
    assert not module.code_has_changed(body)
    path.write_text("ONE = 3\n")
    assert module.code_has_changed(body)
    path.write_text("ONE = (\n")
    assert module.code_has_changed(body)


def test_code_that_is_not_run_does_not_count(version_with):
    assert version_with(unrelated="X = 2\n") == version_with()
    assert version_with(types_="T = float\n") == version_with()


def test_the_version_is_the_same_in_every_process():
    code = (
        "from streetvision_assets.definitions import defs\n"
        "versions = [str(dict(a.code_versions_by_key)) for a in defs.resolve_asset_graph().assets_defs]\n"
        "print(sorted(versions))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


TABLE = Path(graph.__file__).read_text().replace("streetvision_core", "sample_package")
ROW = '        "images": Step(),\n'


@pytest.mark.parametrize(
    ("was", "becomes", "counts"),
    [
        (ROW, ROW + '        "never": Step(("images",)),\n', False),
        ("BUNDLE = ", 'NEVER = "never"\nBUNDLE = ', False),
        ("role not in rule.roles", "role in rule.roles", True),
        ('= "policy/"', '= "policies/"', True),
    ],
)
def test_of_the_table_only_its_functions_and_records_count_as_code(was, becomes, counts, version_with):
    def version(table):
        return version_with(train="from sample_package.graph import STEPS\n", graph=table)

    assert was in TABLE
    assert (version(TABLE.replace(was, becomes)) != version(TABLE)) == counts


def changed_by(monkeypatch, **tables):
    """Return the steps whose version is another with other tables."""
    import streetvision_assets.definitions  # noqa: F401 - every asset has a body from then on

    before = {step: code_version(body, step=step) for step, body in BODIES.items()}
    for name, rows in tables.items():
        monkeypatch.setattr(graph, name, rows)
    return {step for step, body in BODIES.items() if code_version(body, step=step) != before[step]}


def test_a_new_policy_changes_the_version_of_the_steps_that_take_it_and_of_no_other(monkeypatch):
    taking = {
        step: replace(rule, optional=(*rule.optional, "never"))
        for step, rule in STEPS.items()
        if step in {"evaluation", "bundle"}
    }
    steps = {**STEPS, **taking, "never": Step((CHECKPOINT,))}
    policies = {**POLICIES, "never": PolicyKind("never", "never.json")}
    assert changed_by(monkeypatch, STEPS=steps, POLICIES=policies) == taking.keys()


@pytest.mark.parametrize(
    ("table", "row", "changed"),
    [
        ("STEPS", {"side": Step(("images", "bundle"))}, set()),
        ("STEPS", {"label_audit": Step(("images", "splits"))}, {"label_audit"}),
        ("STEPS", {"gate": replace(STEPS["gate"], roles=("train",))}, {"gate", "evaluation", "bundle"}),
        ("STEPS", {"scrc": replace(STEPS["scrc"], optional=("images",))}, {"scrc", "evaluation", "bundle"}),
        ("POLICIES", {"gate": PolicyKind("gate", "door.json")}, {"gate", "evaluation", "bundle"}),
        ("LOOKS", {"label_audit": "train"}, {"label_audit"}),
        ("STEPS", {CHECKPOINT: Step(("images", "splits", "backbone"))}, {
            CHECKPOINT, "val_calib_logits", "thresholds", "gate", "scrc", "evaluation", "bundle",
            "cross_validation", "label_audit",
        }),
    ],
)  # fmt: skip
def test_a_row_changes_the_version_of_its_step_and_of_what_may_be_made_from_that(
    table, row, changed, monkeypatch
):
    assert changed_by(monkeypatch, **{table: {**getattr(graph, table), **row}}) == changed


def test_another_role_changes_every_version(monkeypatch):
    assert changed_by(monkeypatch, ROLES=(*graph.ROLES, "val_extra")) == STEPS.keys()


def modules_of(step):
    from streetvision_assets.definitions import defs

    body = inspect.unwrap(defs.get_assets_def(step).op.compute_fn.decorated_fn)
    return {name.removeprefix("streetvision_core.") for name in modules_behind(body)}


READING = ("backbone", "phase1_checkpoint", "val_calib_logits", "gate", "evaluation", "bundle")
ALL = ("images", "splits", "thresholds", "scrc", *READING)


@pytest.mark.parametrize(
    ("changed", "steps"),
    [
        ("demo.draw_works", ("images",)),
        ("data.sources.parquet", ("images", *READING)),
        ("data.duplicates", ("images", "splits", *READING)),
        ("models.zoo", ("thresholds", "scrc", *READING)),
        ("models.fold", ("evaluation", "bundle")),
        ("training.module", ("backbone", "phase1_checkpoint")),
        (
            "eval.calibration",
            ("backbone", "phase1_checkpoint", "thresholds", "gate", "scrc", "evaluation", "bundle"),
        ),
        ("policies.threshold", ("thresholds", "scrc", "evaluation", "bundle")),
        ("policies.scrc_fit", ("scrc", "evaluation", "bundle")),
        ("policies.gate_fit", ("gate", "evaluation", "bundle")),
        ("bundle.export", ("bundle",)),
        ("io.encode", ALL),
        ("io.published", ALL),
        ("io.tensors", ALL),
        ("io.store", ()),
        ("errors", ()),
        # Its images are files of the report; thresholds only shows them.
        ("report.plots", ("evaluation", "bundle")),
    ],
)
def test_a_change_of_a_module_counts_for_exactly_these_steps(changed, steps):
    """They may be more than the steps that run it, where its records are read, and never fewer."""
    assert {step for step in ALL if changed in modules_of(step)} == set(steps)


def test_every_step_of_the_graph_has_a_version_of_its_own():
    from streetvision_assets.definitions import defs

    versions = [
        version
        for asset in defs.resolve_asset_graph().assets_defs
        for version in asset.code_versions_by_key.values()
    ]
    assert len(set(versions)) == len(versions) == len(STEPS)
