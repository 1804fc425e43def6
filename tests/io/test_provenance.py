import subprocess
import sys

from streetvision_core.io.private import GitState, environment, git_state


def _git(directory, *arguments):
    command = ["git", "-C", directory, "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_a_commit_and_its_changes_are_seen(tmp_path):
    _git(tmp_path, "init", "-q")
    (tmp_path / "code.py").write_text("x = 1\n")
    assert git_state(tmp_path) == GitState("unknown", dirty=False)  # nothing committed yet
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-qm", "one")
    sha = _git(tmp_path, "rev-parse", "HEAD")
    assert len(sha) == 40
    assert git_state(tmp_path) == GitState(sha, dirty=False)
    (tmp_path / "code.py").write_text("x = 2\n")
    assert git_state(tmp_path) == GitState(sha, dirty=True)
    _git(tmp_path, "checkout", "-q", "code.py")
    (tmp_path / "new.py").write_text("")
    assert git_state(tmp_path) == GitState(sha, dirty=True)


def test_a_change_elsewhere_in_the_repository_counts(tmp_path):
    _git(tmp_path, "init", "-q")
    for name in ("package", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "code.py").write_text("")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-qm", "one")
    (tmp_path / "other" / "code.py").write_text("x = 1")
    assert git_state(tmp_path / "package").dirty


def test_outside_a_repository_the_commit_is_unknown(tmp_path):
    assert git_state(tmp_path) == GitState("unknown", dirty=False)
    assert git_state(tmp_path / "missing") == GitState("unknown", dirty=False)


def test_a_package_installed_inside_somebody_elses_repository_is_unknown(tmp_path):
    _git(tmp_path, "init", "-q")
    (tmp_path / ".gitignore").write_text(".venv\n")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "installed.py").write_text("")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-qm", "one")
    assert git_state(tmp_path / ".venv") == GitState("unknown", dirty=False)


def test_git_variables_of_a_hook_do_not_answer_for_another_repository(tmp_path, monkeypatch):
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
        _git(tmp_path / name, "init", "-q")
        (tmp_path / name / "code.py").write_text(name)
        _git(tmp_path / name, "add", ".")
        _git(tmp_path / name, "commit", "-qm", name)
    expected = git_state(tmp_path / "ours")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "theirs" / ".git"))
    assert git_state(tmp_path / "ours") == expected


def test_a_machine_without_git_has_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state() == GitState("unknown", dirty=False)


def test_the_environment_names_the_versions_that_count():
    facts = environment()
    assert facts.python_version == ".".join(map(str, sys.version_info[:3]))
    assert facts.packages["numpy"].count(".") == 2
    assert "torch" in facts.packages
