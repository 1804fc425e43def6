"""Runs that were killed, Ctrl-C, damaged histories, paths that name nothing, foreign modules, full disks."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test
from filelock import FileLock

from streetvision_assets.commands import stale_runs
from streetvision_assets.commands.preflight import DATABASES, prepare
from streetvision_core.bundle.verify import moved_bundle_problems
from streetvision_core.commands.shared import GOES_ON
from streetvision_core.errors import StoreError
from streetvision_core.io import claims as claim_files
from streetvision_core.io import default_store
from tests.assets.graph import paragraph
from tests.bundle.chain import draw_images
from tests.e2e.place import Place, activate_file, assert_one_paragraph
from tests.e2e.serving import ask, serving
from tests.faults import disk
from tests.zygote import PATIENCE, REPOSITORY, zygote

pytestmark = [pytest.mark.e2e, pytest.mark.long]
MAKE = f"make -C {shlex.quote(str(REPOSITORY))} -o .venv/runtime bundle PRESET="
MATERIALIZE = "dagster asset materialize --select '*phase1_checkpoint' -c "


@pytest.fixture(scope="module")
def activate(tmp_path_factory):
    return activate_file(tmp_path_factory.mktemp("environment"))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    draw_images(folder)
    return folder


@pytest.fixture
def place(tmp_path, images, activate):
    return Place(tmp_path / "place", images, activate)


def long_preset(place):
    return place.preset(phase1_checkpoint={"epochs": 500})


@contextmanager
def training(place, command=MATERIALIZE):
    """A run in the middle of its training, in a process group of its own, as a terminal starts it."""
    log = place.root / "training.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            place.command("eval", f"{command}{shlex.quote(str(long_preset(place)))}"),
            cwd=place.root, env=place.environment, stdout=output, stderr=output, start_new_session=True,
        ) as process,
    ):  # fmt: skip
        try:
            wait_for(lambda: "train loss" in log.read_text(), lambda: process.poll() is None, log)
            yield process, log
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def training_loaded(place):
    """The same in a process that is loaded, for what the start of a command has no part in."""
    log = place.root / "training_loaded.log"
    words = (*shlex.split(MATERIALIZE), long_preset(place))
    pid = zygote().start(place.call(words, output=log, errors=log))
    try:
        wait_for(lambda: log.exists() and "train loss" in log.read_text(), lambda: is_alive(pid), log)
        yield pid, log
    finally:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        zygote().wait(pid)


def is_alive(pid):
    return Path(f"/proc/{pid}").exists()


def wait_for(condition, runs, log):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert runs(), log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


@contextmanager
def opened(place):
    with dg.DagsterInstance.from_config(str(place.home)) as instance:
        yield instance


def statuses(place):
    with opened(place) as instance:
        return {run.run_id: run.status.value for run in instance.get_runs()}


def leave_killed_runs(place, count):
    """Leave what a kill leaves: a run that Dagster calls started, and a claim that nobody holds."""
    (place.home / "claims").mkdir(exist_ok=True)
    with opened(place) as instance:
        for _ in range(count):
            run = create_run_for_test(instance, job_name="make_bundle", status=dg.DagsterRunStatus.STARTED)
            (place.home / f"claims/.{run.run_id}.claim").touch()


# Modules in the working directory that have the names of well-known ones

NAMES = (
    "streetvision_assets",
    "streetvision_core",
    "dagster",
    "dagster_webserver",
    "torch",
    "numpy",
    "yaml",
    "joblib",
)


def foreign_modules(root):
    """Make a folder of such modules and return it; whichever is imported leaves a trace."""
    folder = root / "foreign"
    folder.mkdir()
    for name in NAMES:
        trace = str(root / "imported" / name)
        (folder / f"{name}.py").write_text(
            f"import os\nos.makedirs({trace!r}, exist_ok=True)\nraise ImportError({name!r})\n"
        )
    return folder


def imported(root):
    return sorted(path.name for path in root.glob("imported/*"))


@pytest.fixture(scope="module")
def served(images, activate, tmp_path_factory):
    """The UI in a folder of foreign modules, on a place where ten runs were killed before."""
    root = tmp_path_factory.mktemp("served")
    place = Place(root / "place", images, activate)
    leave_killed_runs(place, 10)
    with serving(place, cwd=foreign_modules(root)) as address:
        yield place, address, root


# Runs whose process is gone


def test_the_next_run_fails_a_killed_one_and_leaves_one_that_is_at_work(place):
    with training_loaded(place) as (pid, _):
        [at_work] = statuses(place)
        assert place.materialize("images").code == 0
        assert statuses(place)[at_work] == "STARTED"
        os.killpg(pid, signal.SIGKILL)
    assert statuses(place)[at_work] == "STARTED"
    assert place.run("dagster", "asset", "list").code == 0, "loading the definitions repairs nothing"
    assert statuses(place)[at_work] == "STARTED"
    assert place.materialize("images").code == 0
    assert statuses(place)[at_work] == "FAILURE"
    assert list((place.home / "claims").iterdir()) == []
    with opened(place) as instance:
        messages = [event.message for event in instance.all_logs(at_work)]
    assert any("probably killed" in message for message in messages)


LAUNCH = """mutation {{ launchRun(executionParams: {{
  selector: {{jobName: "make_bundle", repositoryName: "__repository__",
    repositoryLocationName: "streetvision_assets.definitions", assetSelection: [{{path: ["images"]}}]}},
  runConfigData: {config}
}}) {{ __typename ... on LaunchRunSuccess {{ run {{ runId }} }} ... on PythonError {{ message }} }} }}"""


def test_the_ui_starts_runs_though_ten_were_killed_before(served):
    """Ten runs in progress are as many as Dagster's queue lets be."""
    place, address, _ = served
    config = f'{{ops: {{images: {{config: {{folder: {{path: "{place.pictures}"}}}}}}}}}}'
    launched = ask(address, LAUNCH.format(config=config))["launchRun"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    run, deadline = launched["run"]["runId"], time.monotonic() + 120
    while statuses(place)[run] != "SUCCESS":
        assert time.monotonic() < deadline, statuses(place)[run]
        time.sleep(0.5)
    assert sorted(statuses(place).values()) == ["FAILURE"] * 10 + ["SUCCESS"]


def test_a_run_without_a_claim_is_failed_only_after_a_long_silence(place, monkeypatch):
    """It may be starting, or be of a version that claimed nothing."""
    with opened(place) as instance:
        run = create_run_for_test(instance, job_name="make_bundle", status=dg.DagsterRunStatus.STARTING)
        instance.report_engine_event("at work", run)
        assert stale_runs.fail_stale_runs(instance) == []
        monkeypatch.setattr(stale_runs, "SILENCE", 0.0)
        assert stale_runs.fail_stale_runs(instance) == [run.run_id]
        assert stale_runs.fail_stale_runs(instance) == []


def test_a_run_that_has_said_nothing_at_all_is_silent_since_it_was_created(place, monkeypatch):
    with opened(place) as instance:
        run = create_run_for_test(instance, job_name="make_bundle", status=dg.DagsterRunStatus.STARTING)
        assert stale_runs.fail_stale_runs(instance) == []
        monkeypatch.setattr(stale_runs, "SILENCE", 0.0)
        assert stale_runs.fail_stale_runs(instance) == [run.run_id]


def test_a_run_that_gives_its_claim_back_meanwhile_is_not_failed(place, monkeypatch):
    leave_killed_runs(place, 1)
    claims = place.home / "claims"

    @contextmanager
    def abandoned_late(directory):
        for path in claims.iterdir():
            path.unlink()
        with claim_files.abandoned(directory) as free:
            yield free

    monkeypatch.setattr(stale_runs, "abandoned", abandoned_late)
    with opened(place) as instance:
        assert stale_runs.fail_stale_runs(instance) == []


def test_what_is_no_claim_stays_beside_the_claims(place):
    leave_killed_runs(place, 1)
    claims = place.home / "claims"
    (claims / ".notes.claim").write_text("mine")
    (claims / ".dir.claim").mkdir()
    (claims / ".link.claim").symlink_to(place.root / "elsewhere")
    with opened(place) as instance:
        assert len(stale_runs.fail_stale_runs(instance)) == 1
    assert {path.name for path in claims.iterdir()} == {".notes.claim", ".dir.claim", ".link.claim"}
    assert not (place.root / "elsewhere").exists()


@pytest.mark.parametrize("claimed", [True, False])
def test_a_run_whose_events_are_damaged_keeps_no_other_from_being_failed(place, monkeypatch, caplog, claimed):
    monkeypatch.setattr(stale_runs, "SILENCE", -1.0)
    leave_killed_runs(place, 2)
    damaged, whole = sorted(statuses(place))
    if not claimed:
        (place.home / f"claims/.{damaged}.claim").unlink()
    path = place.home / f"history/runs/{damaged}.db"
    path.write_bytes(b"\xff" * 8192)
    with opened(place) as instance:
        assert stale_runs.fail_stale_runs(instance) == [whole]
    assert caplog.text.count(str(path)) == 1
    path.unlink()
    with opened(place) as instance:
        assert stale_runs.fail_stale_runs(instance) == [damaged], "what the warning advises helps"


def test_what_fails_before_the_first_step_is_one_paragraph(place):
    (place.home / "claims").write_text("")
    assert_one_paragraph(place.materialize("images"), str(place.home / "claims"), "Check DAGSTER_HOME")


# Ctrl-C


@pytest.mark.alone
@pytest.mark.parametrize(("command", "codes"), [(MATERIALIZE, {130}), (MAKE, {130, -signal.SIGINT})])
def test_ctrl_c_ends_with_one_line_and_the_next_run_goes_on(place, command, codes):
    """make ends by the signal itself; the shell around it does too, or says 130."""
    with training(place, command) as (process, log):
        time.sleep(2)  # for an epoch to be kept
        before = log.read_text()
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=PATIENCE) in codes, log.read_text()
    lines = log.read_text().splitlines()[len(before.splitlines()) :]
    lines = [line for line in lines if "train loss" not in line and not line.startswith("make: ***")]
    assert lines == [GOES_ON]
    assert list(statuses(place).values()) == ["FAILURE"]
    with training_loaded(place) as (_, log):
        assert "epoch 1/" not in log.read_text()


# As Ctrl-C reaches Python's main thread, whatever the shell that started the tests has done to the signal;
# and again each second, as people press it.
SOON = (
    "import _thread, signal, sys, threading, time; from streetvision_core.cli import main\n"
    "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "def press():\n"
    "    time.sleep({after})\n"
    "    while True:\n"
    "        _thread.interrupt_main()\n"
    "        time.sleep(1)\n"
    "threading.Thread(target=press, daemon=True).start()\n"
    "sys.exit(main())"
)


@pytest.mark.alone
@pytest.mark.parametrize("after", [0.05, 2, 8], ids=["loads", "loads_or_waits", "waits"])
def test_ctrl_c_ends_the_command_for_what_was_made_alike(place, after):
    """It comes while the command loads, or waits for the store, which somebody else holds alone."""
    assert place.materialize("images").code == 0
    with FileLock(place.store.root / ".lock"):
        done = place.run(sys.executable, "-c", SOON.format(after=after), "gc", "--delete")
    assert (done.code, done.terminal) == (130, f"{GOES_ON}\n")


@pytest.mark.parametrize(
    "words",
    [
        ("streetvision_assets.commands.launch", "verify"),
        ("streetvision_assets.commands.dagster_command", "job", "execute", "-j", "verify"),
    ],
    ids=["launch", "dagster"],
)
@pytest.mark.parametrize("becomes", ["KeyboardInterrupt", "RuntimeError"])
def test_ctrl_c_while_a_command_still_loads_is_one_line(place, words, becomes):
    """It comes when Dagster is first looked for; Python 3.11 makes another error of some interrupts."""
    program = (
        "import runpy, signal, sys\n"
        "class Impatient:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'dagster':\n"
        "            try:\n"
        "                signal.raise_signal(signal.SIGINT)\n"
        "            except KeyboardInterrupt as error:\n"
        f"                raise {becomes} from error\n"
        "sys.meta_path.insert(0, Impatient())\n"
        f"sys.argv = {['', *words[1:]]!r}\n"
        f"runpy.run_module({words[0]!r}, run_name='__main__', alter_sys=True)\n"
    )
    done = place.run(sys.executable, "-P", "-c", program)
    assert (done.code, done.terminal) == (130, f"{GOES_ON}\n")


# A damaged history


@pytest.mark.parametrize("name", DATABASES)
def test_a_damaged_database_is_one_paragraph_and_what_it_advises_helps(place, name):
    assert place.materialize("images").code == 0
    path = place.home / name
    path.write_bytes(b"\xff" * 8192)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    folder = place.home / Path(name).parts[0]
    assert_one_paragraph(place.materialize("images"), str(path), f"Restore {folder} from a copy, or move it")
    folder.rename(place.root / "moved away")
    assert place.materialize("splits").code == 0


def test_a_damaged_database_stops_the_ui_before_it_serves(place):
    assert place.materialize("images").code == 0
    (place.home / DATABASES[0]).write_bytes(b"\xff" * 8192)
    assert_one_paragraph(place.run("dagster", "dev", "--port", "0"), DATABASES[0])


@pytest.mark.parametrize("text", ["run_storage: [", "no_such_part: 1\n", "- a list\n"])
def test_a_malformed_dagster_yaml_stops_the_ui_in_one_paragraph(place, text):
    (place.home / "dagster.yaml").write_text(text)
    done = place.run_loaded("dagster", "dev", "--port", "0")
    assert_one_paragraph(done, str(place.home / "dagster.yaml"))


# Directories that the environment names

NO_DIRECTORIES = (
    "store",
    "./store",
    "../store",
    "s3://bucket/store",
    "file:///tmp/store",
    "~nobody-here/store",
    "~root/store",
)


@pytest.mark.parametrize("variable", ["STREETVISION_STORE", "DAGSTER_HOME"])
@pytest.mark.parametrize("value", NO_DIRECTORIES)
def test_what_names_no_directory_is_refused_in_a_sentence(monkeypatch, variable, value):
    monkeypatch.delenv("STREETVISION_STORE", raising=False)
    monkeypatch.setenv(variable, value)
    with pytest.raises(StoreError, match="absolute path, or one that begins with ~/") as refusal:
        default_store()
    assert repr(value) in str(refusal.value)
    assert variable in str(refusal.value)


@pytest.mark.parametrize("variable", ["STREETVISION_STORE", "DAGSTER_HOME"])
def test_a_relative_path_makes_nothing_in_the_working_directory(place, tmp_path, variable):
    folder = tmp_path / "folder"
    folder.mkdir()
    overrides = {"STREETVISION_STORE": "", variable: "here"}
    lost = replace(place, overrides=overrides)
    assert_one_paragraph(
        lost.run("dagster", "asset", "materialize", "--select", "images", cwd=folder), "'here'"
    )
    assert_one_paragraph(lost.run("streetvision", "runs", cwd=folder), "'here'")
    assert list(folder.iterdir()) == []


def test_a_path_below_the_home_directory_is_one_whatever_the_working_directory(place, tmp_path):
    home, folder = tmp_path / "home", tmp_path / "folder"
    folder.mkdir()
    shutil.copytree(place.home, home / "dagster")
    overrides = {"HOME": str(home), "DAGSTER_HOME": "~/dagster", "STREETVISION_STORE": "~/store"}
    at_home = replace(place, overrides=overrides)
    words = ("dagster", "asset", "materialize", "--select", "images", "-c", place.preset())
    done = at_home.run_loaded(*words, cwd=folder)
    assert done.code == 0, done.terminal
    assert (home / "store/latest/images.json").is_file()
    assert (home / "dagster/history/runs.db").is_file()
    assert list(folder.iterdir()) == []


def test_a_home_of_dagsters_that_is_not_there_is_refused_in_a_sentence(place):
    lost = replace(place, overrides={"DAGSTER_HOME": str(place.root / "none")})
    assert_one_paragraph(lost.run("dagster", "asset", "list"), f"mkdir -p {place.root / 'none'}")


# Modules in the working directory


@pytest.fixture
def foreign(tmp_path):
    return foreign_modules(tmp_path)


@pytest.mark.parametrize(
    "words",
    [
        ("dagster", "asset", "materialize", "--select", 'key:"images" or key:"splits" or key:"backbone"'),
        ("dagster", "job", "execute", "-j", "verify"),
        ("dagster", "asset", "list"),
        ("dagster", "job", "list"),
        ("dagster", "definitions", "validate"),
        ("streetvision", "runs"),
    ],
    ids=["materialize", "job", "assets", "jobs", "validate", "streetvision"],
)
def test_a_module_in_the_working_directory_is_not_taken_for_ours(place, foreign, tmp_path, words):
    if "materialize" in words:
        words = (*words, "-c", place.preset())
    done = place.run(*words, cwd=foreign)
    assert imported(tmp_path) == []
    assert "ImportError" not in done.terminal


def test_the_ui_imports_nothing_from_the_working_directory(served):
    _, address, root = served
    assert ask(address, "{ assetNodes { id } }")["assetNodes"]
    assert imported(root) == []


# A full disk for temporary files


@pytest.fixture
def full(tmp_path):
    (tmp_path / "try").mkdir()
    if reason := disk.why_not(tmp_path / "try"):
        pytest.skip(f"NOT TESTED: a full TMPDIR; no file system can be mounted: {reason}")
    with disk.tmpfs(tmp_path / "full", "size=64k") as folder:
        (folder / "filling").write_bytes(bytes(64 * 2**10))
        yield folder


def test_no_temporary_folder_at_all_is_one_paragraph_whatever_tmpdir_names(monkeypatch):
    monkeypatch.setenv("STREETVISION_STORE", "/nonexistent")
    monkeypatch.setenv("TMPDIR", "/nonexistent")
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/nonexistent"])
    with pytest.raises(StoreError, match="none that can be written"):
        prepare()


def test_a_full_temporary_folder_is_one_paragraph(place, full):
    cramped = replace(place, overrides={"TMPDIR": str(full)})
    assert_one_paragraph(cramped.materialize("images"), "free for temporary files", str(full), "set TMPDIR")
    assert_one_paragraph(cramped.run_loaded("dagster", "dev", "--port", "0"), "free for temporary files")


def test_a_temporary_folder_that_fills_up_during_a_run_is_one_paragraph(full, tmp_path, monkeypatch):
    """The code that looks at the folder beforehand saw room in it."""
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "model.safetensors").write_bytes(bytes(64 * 2**10))
    monkeypatch.setattr(tempfile, "tempdir", str(full))
    with pytest.raises(StoreError, match=rf"room for a copy of the bundle.*{full}.*TMPDIR"):
        moved_bundle_problems(bundle, deep=False)


def test_a_full_disk_of_a_library_is_a_paragraph_as_well(full):
    @dg.op
    def fill():
        (full / "more").write_bytes(bytes(2**20))

    @dg.job
    def filling():
        fill()

    assert "room on the disk, but found No space left on device" in paragraph(
        filling.execute_in_process(raise_on_error=False)
    )
