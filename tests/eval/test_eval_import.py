"""Definitions load the evaluation code, so importing it must stay cheap."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = ("torch", "scipy", "sklearn", "matplotlib", "PIL", "dagster", "pandas")


def test_importing_the_evaluation_code_loads_numpy_and_nothing_heavier():
    script = (
        "import importlib, json, pkgutil, sys, streetvision_core.eval as room\n"
        "for module in pkgutil.walk_packages(room.__path__, f'{room.__name__}.'):\n"
        "    importlib.import_module(module.name)\n"
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_every_public_name_can_be_imported():
    import streetvision_core.eval as public

    assert sorted(public.__all__) == sorted(set(public.__all__))
    for name in public.__all__:
        assert getattr(public, name) is not None
