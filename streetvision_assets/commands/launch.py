"""Launch a job from the command line as a run of the code location that the UI serves.

`dagster job execute` leaves the code location out of its runs, and the timeline and the pages of jobs draw
no run without one. So this makes the run itself, with the origin that `dagster dev` would give it, and
executes it in this process. Of Dagster it uses what its own command line is made of, which is not public: one
module holds all of it, and `tests/contract/test_dagster_ui.py` holds the page to it.

Usage: python -m streetvision_assets.commands.launch JOB [-c PRESET ...]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streetvision_assets.commands.interrupts import interruptible, one_line_after_ctrl_c
from streetvision_core.commands.shared import BAD, GOOD
from streetvision_core.errors import ConfigError, StreetVisionError

with one_line_after_ctrl_c():  # for what takes a second or more to load
    import dagster as dg
    from dagster._core.definitions.reconstruct import ReconstructableRepository
    from dagster._core.execution.api import execute_run
    from dagster._core.remote_origin import (
        ManagedGrpcPythonEnvCodeLocationOrigin,
        RemoteJobOrigin,
        RemoteRepositoryOrigin,
    )
    from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
    from dagster._utils.interrupts import capture_interrupts

    from streetvision_assets.commands.preflight import prepare
    from streetvision_assets.presets import read_preset
    from streetvision_assets.settings.refusals import paragraph, refuse_nothing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MODULE = "streetvision_assets.definitions"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job to its end; return 0 when it succeeded, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m streetvision_assets.commands.launch", description="Run a job."
    )
    parser.add_argument("job", metavar="JOB", help="make_bundle, phase1, preset_demo, ...")
    parser.add_argument("-c", "--config", metavar="PRESET", action="append", default=[], type=Path)
    parsed = parser.parse_args(arguments)
    try:
        prepare()
        config = read_config(parsed.config)
        return interruptible(lambda: _launch_here(parsed.job, config, presets=parsed.config))
    except StreetVisionError as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command line prints
        return BAD


def _launch_here(name: str, config: Mapping[str, Any], *, presets: Sequence[Path]) -> int:
    with capture_interrupts(), dg.DagsterInstance.get() as instance:
        return GOOD if launch(instance, name, config, presets=presets) else BAD


def read_config(files: Sequence[Path]) -> Mapping[str, Any]:
    """Return the run configuration of the files, merged in their order.

    Raises:
        ConfigError: a file is not there, or no run configuration.
    """
    for file in files:
        if not file.is_file():
            raise ConfigError("a preset", "no such file", file, "Give the path of one: ls presets.")
        refuse_nothing(read_preset(file))
    return dg.config_from_files([str(file) for file in files])


def launch(
    instance: dg.DagsterInstance, name: str, config: Mapping[str, Any], *, presets: Sequence[Path] = ()
) -> bool:
    """Execute the job in this process and return whether it succeeded.

    Raises:
        ConfigError: there is no such job, or the configuration does not fit it.
    """
    repository = ReconstructableRepository.for_module(MODULE, "defs")
    names = [job for job in repository.get_definition().job_names if not job.startswith("__")]
    if name not in names:
        raise ConfigError(f"one of the jobs {', '.join(names)}", repr(name), MODULE, "Choose one of them.")
    job = repository.get_reconstructable_job(name)
    definition = job.get_definition()
    config = _of_its_steps(config, definition, repository) or definition.run_config or {}
    try:
        dg.validate_run_config(definition, dict(config))
    except dg.DagsterInvalidConfigError as error:
        raise paragraph(error, where=", ".join(map(str, presets))) from error
    run = instance.create_run_for_job(
        job_def=definition,
        run_config=config,
        tags={**definition.run_tags, **_preset_tag(presets)},
        remote_job_origin=_origin(name),
        job_code_origin=job.get_python_origin(),
    )
    return execute_run(job, run, instance).success


def _preset_tag(presets: Sequence[Path]) -> dict[str, str]:
    return {"preset": " ".join(preset.stem for preset in presets)} if presets else {}


def _of_its_steps(
    config: Mapping[str, Any], job: dg.JobDefinition, repository: ReconstructableRepository
) -> dict[str, Any]:
    """Leave out the steps of the graph that a job has not, so that one preset serves every job."""
    steps = {key.path[-1] for key in repository.get_definition().asset_graph.get_all_asset_keys()}
    others = steps - {key.path[-1] for key in job.asset_layer.selected_asset_keys}
    ops = {name: given for name, given in (config.get("ops") or {}).items() if name not in others}
    return {**config, "ops": ops} if "ops" in config else dict(config)


def _origin(job: str) -> RemoteJobOrigin:
    """Return where `dagster dev -m` would say that the job comes from."""
    target = LoadableTargetOrigin(executable_path=sys.executable, module_name=MODULE)
    location = ManagedGrpcPythonEnvCodeLocationOrigin(loadable_target_origin=target, location_name=MODULE)
    return RemoteJobOrigin(
        repository_origin=RemoteRepositoryOrigin(
            code_location_origin=location, repository_name="__repository__"
        ),
        job_name=job,
    )


if __name__ == "__main__":
    with one_line_after_ctrl_c():
        sys.exit(main())
