"""The real graph on a real instance, with a store of its own and a model small enough for a test."""

import os
import shutil
from functools import cache

import dagster as dg
import sqlalchemy
from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.runs.sqlite import sqlite_run_storage
from dagster._core.storage.schedules.sqlite import sqlite_schedule_storage
from sqlalchemy.util import LRUCache

from streetvision_assets.console import readable_error
from streetvision_assets.definitions import defs
from streetvision_core import graph
from streetvision_core.escape import from_markdown
from streetvision_core.io import ArtifactStore
from streetvision_core.recorded import from_recorded
from tests.bundle.chain import draw_images


@sqlalchemy.event.listens_for(sqlalchemy.Engine, "connect")
def _without_waiting_for_the_disk(connection, _):
    """Turn syncing off: it took a third of a run, and no test's history need outlive a power cut."""
    connection.execute("PRAGMA synchronous=OFF")


_make_engine = sqlite_event_log.create_engine
_engines, _statements = {}, LRUCache(500)


def _engine(url, **options):
    """The engine of a database; it keeps no connection open, but what a statement compiles to.

    Dagster makes an engine for each statement, and so compiles all of them anew: a third of a run.
    """
    if url not in _engines:
        _engines[url] = _make_engine(url, **options)
        _engines[url]._compiled_cache = _statements
    return _engines[url]


for _storage in (sqlite_event_log, sqlite_run_storage, sqlite_schedule_storage):
    _storage.create_engine = _engine


def behind(step):
    """A step and all that it may be made from."""
    return graph.steps_behind(step, added=True, optional=True)


def _depth(step):
    return 1 + max(map(_depth, graph.STEPS[step].takes), default=0)


# The way to the bundle as Dagster runs it: what may follow the same steps, by name.
STEPS = tuple(sorted(behind(graph.BUNDLE), key=lambda step: (_depth(step), step)))
# Steps beside that way.
BESIDE = tuple(step for step in graph.STEPS if step not in STEPS)


def small_config(pictures, **changes):
    """Settings of every step for a folder of tiny images; `changes` per step are flat, as they once were."""
    config = {
        "images": {"folder": {"path": str(pictures)}},
        "backbone": {"architecture": "test_resnet", "input_size": 48},
        "phase1_checkpoint": {
            "epochs": 6, "batch_size": 16, "learning_rate": 3e-3, "ema_decay": 0.5,
            "num_workers": 0,
        },
    }  # fmt: skip
    for step, change in changes.items():
        config[step] = {**config.get(step, {}), **change}
    return {step: {"config": as_written(from_recorded(step, values))} for step, values in config.items()}


def reusing(reuse):
    """The part of a run configuration that says whether steps take over what was made before."""
    return {"resources": {"store": {"config": {"reuse": reuse}}}}


def as_written(recorded):
    """Recorded settings as a person writes them: the kind of a choice around its settings."""
    if not isinstance(recorded, dict):
        return recorded
    inner = {name: as_written(value) for name, value in recorded.items() if name != "kind"}
    return {recorded["kind"]: inner} if "kind" in recorded else inner


class Graph:
    """Runs jobs of the definitions in this process, on one instance and one store."""

    def __init__(self, root):
        (root / "dagster").mkdir(exist_ok=True)
        quiet = {"telemetry": {"enabled": False}}
        self.instance = dg.DagsterInstance.local_temp(str(root / "dagster"), overrides=quiet)
        self.store_path = root / "store"

    @property
    def store(self):
        return ArtifactStore(self.store_path)

    def run(self, job, *, steps=None, config=None, reuse=True):
        """Execute a job, or the named assets with their checks, and return the result, good or bad."""
        os.environ["STREETVISION_STORE"] = str(self.store_path)  # what the store resource goes by
        definition = defs.resolve_job_def(job)
        selection = [dg.AssetKey(step) for step in steps] if steps else None
        return definition.execute_in_process(
            instance=self.instance,
            asset_selection=selection,
            run_config={
                "ops": config or {},
                **reusing(reuse),
                "loggers": {"console": {}},
            },
            raise_on_error=False,
        )

    def materialize(self, pictures, *steps, reuse=True, **changes):
        config = small_config(pictures, **changes)
        chosen = {step: value for step, value in config.items() if not steps or step in steps}
        return self.run("make_bundle", steps=steps or None, config=chosen, reuse=reuse)

    def current(self, step):
        return self.store.resolve(step)


@cache
def first_images(base):
    """The folder of tiny images that the tests of this process share, below pytest's own directory."""
    (folder := base / "first_images").mkdir()
    draw_images(folder)
    return folder


@cache
def first_run(base):
    """One run of everything on them and its result. Nobody writes there: tests that do copy it first."""
    (root := base / "first").mkdir()
    graph = Graph(root)
    result = graph.materialize(first_images(base))
    assert result.success, paragraph(result)
    return graph, result


def copy_of(graph, target):
    """A graph with its instance and its store, to do with as one likes."""
    shutil.copytree(graph.store_path.parent, target, dirs_exist_ok=True)
    return Graph(target)


def paragraph(result):
    """The innermost message of the first failure, which the person who ran it reads."""
    failures = [event for event in result.all_events if event.is_step_failure or event.is_job_failure]
    if not failures:
        return "; ".join(
            from_markdown(check.description) for check in evaluations(result).values() if not check.passed
        )
    return readable_error(failures[0].event_specific_data.error)


def evaluations(result):
    """Every check of a run: (asset, check) -> its evaluation."""
    checks = {}
    for event in result.all_events:
        if event.event_type_value == "ASSET_CHECK_EVALUATION":
            check = event.event_specific_data
            checks[check.asset_key.path[-1], check.check_name] = check
    return checks
