"""The commands that the README tells a newcomer to type, typed."""

import re
import shutil
import subprocess
import sys

import pytest
import yaml

from tests.e2e.place import REPOSITORY
from tests.e2e.test_presets import config_models

pytestmark = [pytest.mark.e2e, pytest.mark.long]
README = (REPOSITORY / "README.md").read_text()
COMMAND_BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
# What these run is tested elsewhere: by .ci/run itself, test_dagster.py and contract/test_dagster_ui.py.
RUN_ELSEWHERE = {
    "make bundle",
    "make verify",
    "make test",
    "make ui",
    "dagster asset materialize --select bundle",
    "dagster asset materialize --select '*bundle'",
    "dagster dev",
    # tests/contract/test_dagster_source.py runs it with a preset of its own
    (
        "dagster asset materialize --select '*bundle' -c presets/folder.yaml --config-json"
        """ '{"ops": {"phase1_checkpoint": {"config": {"optimizer": {"learning_rate": 0.001}}}}}'"""
    ),
}


def commands():
    lines = (line.partition("  #")[0].strip() for block in COMMAND_BLOCKS for line in block.splitlines())
    return [line for line in lines if line]


@pytest.fixture
def beside_the_store(place):
    """A folder that looks like the repository root after `make bundle`."""
    folder = place.root / "clone"
    (folder / "dagster_home").mkdir(parents=True)
    (folder / "dagster_home" / "artifacts").symlink_to(place.store.root)
    return place, folder


def run_block(place, folder, *, saying):
    """Type the block of commands that holds this text, after `source .venv/bin/activate`."""
    block = next(block for block in COMMAND_BLOCKS if saying in block)
    script = f'source "{place.activate}" && set -e\n{block}'
    return subprocess.run(
        ["bash", "-c", script], cwd=folder, env=place.environment, capture_output=True, text=True, check=False
    )


def test_every_command_of_the_readme_is_run_by_a_test_or_by_ci():
    ci = (REPOSITORY / ".ci/run").read_text()
    assert all(f"make {target}" in ci for target in ("lint", "test", "bundle", "verify"))
    left = [line for line in commands() if line not in RUN_ELSEWHERE]
    assert [line.split()[0].partition("=")[0] for line in left] == [
        *["streetvision"] * 4,
        "BUNDLE",
        *["streetvision"] * 4,
    ]
    assert "`make bundle PRESET=presets/folder.yaml`" in README
    assert (REPOSITORY / "presets/folder.yaml").is_file()


def test_the_bundle_is_verified_and_used_by_the_commands_of_the_readme(beside_the_store):
    place, folder = beside_the_store
    (folder / "FOLDER").symlink_to(place.pictures)
    done = run_block(place, folder, saying="BUNDLE=")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("good ")
    assert re.search(r"^not void ", done.stdout, re.MULTILINE)
    assert done.stdout.count('"decision"') == len(list((place.bundle / "golden").glob("*.jpg"))) > 0


def test_what_was_made_is_shown_by_the_commands_of_the_readme(beside_the_store):
    place, folder = beside_the_store
    done = run_block(place, folder, saying="streetvision runs")
    assert done.returncode == 0, done.stderr
    run = place.store.resolve("bundle").manifest.run_id
    assert done.stdout.count(run) > 8
    assert "all good" in done.stdout
    assert "Would free" in done.stdout


def test_the_settings_of_the_readme_are_settings(place, capsys):
    written = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)]
    blocks = [config["ops"] for config in written if "ops" in config]
    changes = {step: entry["config"] for block in blocks for step, entry in block.items()}
    assert set(changes) == {"images", "backbone", "thresholds", "scrc", "bundle"}
    models = config_models()
    for step, entry in (item for block in blocks for item in block.items()):
        models[step](**entry["config"])
    done = place.materialize_here(capsys, "images", reuse=False)
    assert done.code == 0, done.terminal
    assert {"resources": {"store": {"config": {"reuse": False}}}} in written


def test_the_python_of_the_readme_runs_as_it_stands(beside_the_store):
    place, folder = beside_the_store
    shutil.copytree(place.bundle, folder / "bundle")
    for name, source in zip("ab", sorted((place.bundle / "golden").glob("*.[jp]*g")), strict=False):
        shutil.copy(source, folder / f"{name}.jpg")
    outputs = []
    for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    predictions, figures = outputs
    assert re.fullmatch(r"(\d\.\d+(e-\d+)? (roadwork|none)\n){2}", predictions)
    _, best, mcc, certified, bound = map(float, figures.split())
    assert mcc <= best < 1
    assert certified in {1.0, 2.0, 3.0}
    assert bound <= 0.05


def test_every_file_the_readme_points_to_is_there():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (REPOSITORY / target).exists(), target
