"""The making of a manifest.

It is made from the files of a step that ran outside the graph, from a step of the graph, or from the
manifest of an earlier run whose content is reused.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streetvision_core.errors import ConfigError, SchemaError
from streetvision_core.io import private
from streetvision_core.io.atomic import compute_file_sha256
from streetvision_core.io.encode import json_bytes, json_digest
from streetvision_core.io.manifest import OPEN_VERSION, InputArtifact, Origin, OutputFile, StepManifest
from streetvision_core.io.names import MANIFEST_NAME, check_portable, check_relative_name, check_segment
from streetvision_core.io.plain import plain_mapping, plain_scalar
from streetvision_core.io.published import content_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import torch


_MOST_SECONDS = 100 * 366 * 86400
_REUSED_VERSION = 2  # the first schema with reused_from


def step_key(*, step: str, code_version: str, config_hash: str, inputs: Mapping[str, str]) -> str:
    """Return the digest of everything that decides a step's result: equal keys, equal content.

    Args:
        step: The name of the step.
        code_version: The digest of the code that it runs.
        config_hash: The digest of its resolved configuration.
        inputs: The data version of each input, by name.
    """
    return json_digest([step, code_version, config_hash, dict(inputs)])


def create_step_manifest(  # noqa: PLR0917 - the order in which it was asked for
    step_name: str,
    input_paths: Iterable[str | Path],
    output_paths: Iterable[str | Path],
    output_dir: str | Path,
    metrics: Mapping[str, float] | None = None,
    duration_seconds: float = 0.0,
    config: object = None,
    *,
    run_id: str | None = None,
    device: str | torch.device = "cpu",
    seed: int | None = None,
) -> StepManifest:
    """Describe a step that ran outside the graph, from the files it read and wrote.

    The commit is that of the caller's repository: of the one that holds `output_dir`, or, where that lies in
    none, of the one that holds the working directory. A file in it that git does not know and does not
    ignore makes it dirty. StreetVision's own version and, where it is known, commit are the code_version,
    such as "streetvision 0.1.0 705fcbb...".

    Args:
        step_name: The name of the step.
        input_paths: Files that were read; recorded with their SHA-256 by file name, or, where two have the
            same, by as much of the path as tells them apart ("a:x.csv" for a/x.csv).
        output_paths: Files that were written, all of them below `output_dir`; not the manifest itself.
        output_dir: The directory of the artifact; output names are relative to it.
        metrics: Finite numbers worth keeping.
        duration_seconds: How long the step took, in seconds.
        config: The resolved configuration: a mapping, a pydantic model, a dataclass, a namespace or
            OmegaConf's container, nested to any depth. Paths become text.
        run_id: The run it belongs to; without it, that of this process.
        device: Where it ran, for instance `cpu` or `cuda`, or a `torch.device`.
        seed: The seed it used, if any.

    Raises:
        StoreError: an input or output does not exist. Nothing is listed only "if it exists".
        ConfigError: the configuration or the metrics hold what JSON cannot, or another argument is none of
            what is described here; it is named.
        SchemaError: an output outside `output_dir`, named twice, or the manifest itself.
    """
    inputs = _input_names(_paths(input_paths, "input_paths"))
    (directory,), metrics_of = _paths([output_dir], "output_dir"), f"the metrics of {step_name}"
    outputs = _outputs(_paths(output_paths, "output_paths"), directory)
    run_id = private.process_run_id() if run_id is None else run_id
    finished, seconds = private.utc_now(), _seconds(duration_seconds, where=f"the step {step_name}")
    described = describe_step(
        StepRun(
            step_name=_segment(step_name, "step_name"),
            run_id=_segment(run_id, "run_id"),
            code_version=private.own_code(),
            config=plain_mapping(config, where=f"the config of {step_name}"),
            inputs={
                name: InputArtifact(data_version=compute_file_sha256(path)) for name, path in inputs.items()
            },
            outputs=outputs,
            metrics=_numbers(plain_mapping(metrics, where=metrics_of), where=metrics_of),
            started=finished - timedelta(seconds=seconds),
            finished=finished,
            device=_device(device),
            seed=_seed(seed),
        ),
        code=private.callers_state(directory),
    )
    # One file is what this was asked for, so it names the machine itself.
    machine = private.environment()
    named = {"hostname": machine.hostname, "platform": machine.platform}
    return described.model_copy(update={"schema_version": OPEN_VERSION, **named})


def _paths(paths: Iterable[str | Path], what: str) -> list[Path]:
    try:
        # Text is iterable too: by letters, none of which is a file that anybody meant.
        listed = [Path(paths)] if isinstance(paths, (str, os.PathLike)) else list(map(Path, paths))
    except TypeError as error:
        raise ConfigError("paths as text or Path", str(error), what, "Pass each as text or Path.") from error
    if nul := next((path for path in listed if "\0" in str(path)), None):
        raise ConfigError("paths without a NUL character", f"{str(nul)!r}", what, "Mend this path.")
    return listed


def _input_names(paths: Iterable[Path]) -> dict[str, Path]:
    """Return the files by the names that a manifest gives them: the file name where only one has it.

    Files of one name are told apart by as few of their directories as it takes, the same number for each,
    with ":" for the "/" that no name of an input may hold: "a:manifest.json", "b:manifest.json". One path
    given twice is one input.

    Raises:
        SchemaError: two files come to one name all the same, as "a/b:c" and "a:b/c" do.
    """
    # The directory is resolved and the file is not: a link is an input under its own name.
    places = dict.fromkeys(path.parent.resolve() / path.name for path in paths)
    named: dict[str, Path] = {}
    for place in places:
        alike = [other for other in places if other.name == place.name]
        name = _tail(place, _shortest_tail(alike))
        if name in named:
            raise SchemaError("inputs with distinct names", f"{name} twice", place, "Rename one of them.")
        named[name] = place
    return named


def _shortest_tail(paths: Sequence[Path]) -> int:
    lengths = range(1, max(len(path.parts) for path in paths) + 1)
    return next(n for n in lengths if len({path.parts[-n:] for path in paths}) == len(paths))


def _tail(path: Path, length: int) -> str:
    return ":".join(part for part in path.parts[-length:] if part != path.anchor)


def _outputs(paths: Iterable[Path], directory: Path) -> dict[str, OutputFile]:
    outputs: dict[str, OutputFile] = {}
    for path in paths:
        name = _relative_name(path, directory)
        if name in outputs:
            raise SchemaError("each output once", f"{name} twice", directory, "Name each output once.")
        if name.casefold() == MANIFEST_NAME:
            expected = "outputs besides the manifest, which is written last and cannot hold its own digest"
            action = f"Leave {MANIFEST_NAME} out of output_paths."
            raise SchemaError(expected, f"{name} as an output", directory, action)
        outputs[name] = OutputFile(sha256=compute_file_sha256(path), size_bytes=path.stat().st_size)
    return outputs


def _segment(name: object, what: str) -> str:
    try:
        return check_segment(name if isinstance(name, str) else "", kind=what)
    except SchemaError as error:
        action = f"Choose another {what}: it becomes the name of a directory."
        raise ConfigError(error.expected, f"{name!r}", what, action) from error


def _numbers(metrics: Mapping[str, Any], *, where: str) -> Mapping[str, float]:
    for name, value in metrics.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            action = "Leave it out, or record it in the configuration."
            found = f"{name!r}, a {type(value).__qualname__}"
            raise ConfigError("a finite number for each metric", found, where, action)
    return metrics


def _seconds(value: object, *, where: str) -> float:
    number = plain_scalar(value)
    real = isinstance(number, (int, float)) and not isinstance(number, bool)
    if not real or not 0 <= number <= _MOST_SECONDS:
        expected = "duration_seconds as a number of seconds, at least 0 and at most a hundred years"
        raise ConfigError(expected, f"{value!r}", where, "Pass the difference of two time.monotonic().")
    return float(number)


def _seed(value: object) -> int | None:
    number = plain_scalar(value)
    if number is None or (isinstance(number, int) and not isinstance(number, bool)):
        return number
    raise ConfigError("a whole number or None", f"{value!r}", "seed", "Pass the seed that was set.")


def _device(value: object) -> str:
    # By its name, so that nobody who has no torch in the process imports it for this.
    if isinstance(value, str) or f"{type(value).__module__}.{type(value).__qualname__}" == "torch.device":
        return str(value)
    raise ConfigError("a device such as 'cpu' or 'cuda:0'", f"{value!r}", "device", "Pass its name.")


@dataclass(frozen=True)
class StepRun:
    """One run of a step, as its manifest tells of it; what is derived is added by `describe_step`.

    `config` is written down as it is given: whoever hands a manifest on has taken the paths out of it
    before (`private.part_config`), and `private_sha256` is that of the side file in which they lie.
    """

    step_name: str
    run_id: str
    outputs: Mapping[str, OutputFile]
    started: datetime
    finished: datetime
    dagster_run_id: str = ""
    code_version: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, InputArtifact] = field(default_factory=dict)
    roles: Iterable[str] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    device: str = "cpu"
    seed: int | None = None
    private_sha256: str | None = None


def describe_step(run: StepRun, *, code: private.GitState | None = None) -> StepManifest:
    """Build the manifest of a step, adding the derived digests, the versions and the code's commit.

    The commit is that of this package's source, unless `code` gives another.

    Raises:
        ConfigError: the configuration or the metrics hold what JSON cannot.
        SchemaError: an output has a name that not every system can hold.
    """
    check_portable(run.outputs)
    try:
        # A round trip through JSON, so that the record in memory is the one that will be read back.
        config, metrics = json.loads(json_bytes(run.config)), json.loads(json_bytes(run.metrics))
    except (TypeError, ValueError) as error:
        expected = "a configuration and metrics of JSON values, all numbers finite"
        action = "Turn paths into text, and leave out a metric that is not a number."
        raise ConfigError(expected, str(error), run.step_name, action) from error
    code, machine = code or private.git_state(), private.environment()
    return StepManifest(
        run_id=run.run_id,
        dagster_run_id=run.dagster_run_id,
        step_name=check_segment(run.step_name, kind="step name"),
        git_sha=code.sha,
        git_dirty=code.dirty,
        code_version=run.code_version,
        config=config,
        input_artifacts=dict(run.inputs),
        roles=sorted(run.roles),
        output_artifacts=dict(run.outputs),
        metrics=metrics,
        started_at=private.iso_utc(run.started),
        finished_at=private.iso_utc(run.finished),
        private_sha256=run.private_sha256,
        device=run.device,
        python_version=machine.python_version,
        packages=machine.packages,
        seed=run.seed,
        **_derived(run, config),
    )


def _derived(run: StepRun, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a manifest that follow from the others."""
    config_hash = json_digest(config)
    versions = {name: given.data_version for name, given in run.inputs.items()}
    return {
        "data_version": content_digest({name: file.sha256 for name, file in run.outputs.items()}),
        "config_hash": config_hash,
        "step_key": step_key(
            step=run.step_name, code_version=run.code_version, config_hash=config_hash, inputs=versions
        ),
        "duration_seconds": round((run.finished - run.started).total_seconds(), 6),
    }


def manifest_problems(manifest: StepManifest) -> list[str]:
    """Compute again what follows from the rest of a manifest; one sentence for each contradiction.

    A step may end before it began: clocks are put right while it runs.
    """
    started, finished = map(datetime.fromisoformat, (manifest.started_at, manifest.finished_at))
    version, inputs, outputs = manifest.code_version, manifest.input_artifacts, manifest.output_artifacts
    run = StepRun(
        manifest.step_name, manifest.run_id, outputs, started, finished, code_version=version, inputs=inputs
    )
    return [
        f"the manifest of {manifest.step_name} says {name} {getattr(manifest, name)}, and {value} follows"
        " from the rest of it"
        for name, value in _derived(run, manifest.config).items()
        if getattr(manifest, name) != value
    ]


def describe_reuse(
    origin: StepManifest,
    *,
    manifest_sha256: str,
    run_id: str,
    dagster_run_id: str,
    inputs: Mapping[str, InputArtifact],
    outputs: Mapping[str, OutputFile],
    metrics: Mapping[str, float] | None = None,
) -> StepManifest:
    """Build the manifest of a run that took over the content of another; `reused_from` names who computed.

    Its side file is the origin's, too.

    Args:
        origin: The manifest that the content was published with.
        manifest_sha256: The SHA-256 of that manifest's file.
        run_id: The run that takes the content over.
        dagster_run_id: Dagster's name of it.
        inputs: What that run would have computed from: other runs, the same data versions.
        outputs: The files; all but those below `lineage/` are the origin's.
        metrics: Numbers that are that run's own, beside those of the content.
    """
    computed = origin.reused_from or Origin(
        run_id=origin.run_id, dagster_run_id=origin.dagster_run_id, manifest_sha256=manifest_sha256
    )
    return origin.model_copy(
        update={
            "schema_version": max(origin.schema_version, _REUSED_VERSION),
            "run_id": run_id,
            "dagster_run_id": dagster_run_id,
            "input_artifacts": dict(inputs),
            "output_artifacts": dict(outputs),
            "metrics": {**origin.metrics, **(metrics or {})},
            "reused_from": computed,
        }
    )


def _relative_name(path: Path, directory: Path) -> str:
    try:
        return check_relative_name(path.resolve().relative_to(Path(directory).resolve()).as_posix())
    except ValueError as error:
        raise SchemaError(
            "every output below the output directory", str(path), directory, "Write outputs below output_dir."
        ) from error
