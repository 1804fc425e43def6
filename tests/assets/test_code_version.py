import os
import subprocess
import sys

import pytest

from streetvision_assets import code_version as module
from streetvision_assets.code_version import code_version

FILES = {
    "__init__": "",
    "train": "def run():\n    from sample_package.loss import loss\n    return loss()\n",
    "loss": 'from sample_package import numbers_\n\ndef loss():\n    """Loss."""\n    return numbers_.ONE\n',
    "numbers_": "ONE = 1\nif TYPE_CHECKING:\n    from sample_package.types_ import T\n",
    "types_": "T = int\n",
    "unrelated": "X = 1\n",
}


@pytest.fixture
def version_with(tmp_path, monkeypatch):
    """The version of ``train``, which imports ``loss`` in a function, which imports ``numbers_``."""
    monkeypatch.setattr(module, "_PACKAGE", "sample_package")
    monkeypatch.setattr(module, "_ROOT", tmp_path)
    (tmp_path / "sample_package").mkdir()

    def version(**changed):
        for name, text in (FILES | changed).items():
            (tmp_path / "sample_package" / f"{name}.py").write_text(text)
        clear()
        return code_version("sample_package.train")

    def clear():
        module._read_module.cache_clear()
        module._modules.cache_clear()

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


def test_code_that_is_not_run_does_not_count(version_with):
    assert version_with(unrelated="X = 2\n") == version_with()
    assert version_with(types_="T = float\n") == version_with()


def test_the_version_is_the_same_in_every_process():
    code = "import streetvision_assets.code_version as c; print(c.code_version('streetvision_core.bundle'))"
    seeds = ("1", "2", "3")
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        ).stdout
        for seed in seeds
    }
    assert len(found) == 1


def test_every_step_of_the_graph_has_a_version_of_its_own():
    from streetvision_assets.definitions import defs

    versions = {
        key.path[-1]: version
        for asset in defs.resolve_asset_graph().assets_defs
        for key, version in asset.code_versions_by_key.items()
    }
    assert all(versions.values())
    assert len(versions) == 8
