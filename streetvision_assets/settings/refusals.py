"""Configurations that are refused before a run exists, and the paragraph that says why.

Dagster's editor holds a configuration against a schema: names, types and choices. Bounds and the rules of a
step are pydantic's. `refusing` looks at them where Dagster resolves the configuration of the selected
steps, which is before it creates a run. `paragraph` puts both into our words.

Dagster's command line drops the settings of steps that it does not know, and nothing in place of settings
(`demo:` with no word behind it) is no setting to Dagster at all. `check_written` refuses both.
"""

from __future__ import annotations

import difflib
import json
import math
from typing import TYPE_CHECKING, Any

import dagster as dg
import pydantic

from streetvision_core.errors import ConfigError, refused_settings
from streetvision_core.graph import STEPS
from streetvision_core.recorded import NOW_CONSTANT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from dagster._config import ConfigType, EvaluationError

_STORE = "write resources: {store: {config: {reuse: false}}} beside ops"
_DRAWN = "Leave it out: the demo is always drawn 192 pixels wide and of the same seed."
# Settings and choices that every step, or one of them, had in an earlier version, and what to do instead.
_MOVED = {
    "reuse": f"To compute the selected steps again {_STORE}.",
    "rescan": f"To read every image again {_STORE}.",
    "validator": "What validators send is a profile of conditions now: write conditions: {config: {profile:"
    " {natix_crops_2025: {}}}} beside phase1_checkpoint, and augmentation: {none: {}}.",
    "separator": "Leave it out: it is found. An unusual one is named in the file, in a first line sep=X.",
    "image_column": "It is file_column now.",
    "pictures": "It is images now.",
    "patience": "Leave it out: a training stops after 8 epochs without a better one.",
    "warmup_epochs": "Leave it out: the learning rate rises for a tenth of the epochs, and for one at least.",
    "cache_mb": "Leave it out: decoded images take 1 GiB; more num_workers decode what does not fit.",
    "false_alarm": "Leave it out, and give miss in false alarms: only the ratio of the two prices decides.",
    "store.path": "Leave it out, and set the environment variable STREETVISION_STORE.",
    "accept_license": "Name the licence as license of the bundle: to state it is to accept it.",
    "images.seed": _DRAWN,
    "images.size": _DRAWN,
    "require_evaluation": "Leave it out: what no evaluation has judged is not releasable. The check"
    " releasable says so, and streetvision promote refuses it.",
    "micro_batch": "Leave it out: 128 views are in memory at once, whatever the batch_size.",
    "splits.train": "It is what the other roles leave: leave it out.",
    "threads": "Leave it out, and set the environment variable OMP_NUM_THREADS.",
}
_NAMES = {"String": "a text", "Int": "a whole number", "Float": "a number", "Bool": "true or false"}
_TRUTHS = ("True", "False")


def refusing(asset: dg.AssetsDefinition, model: type[dg.Config]) -> dg.AssetsDefinition:
    """Return an asset that refuses a configuration which its model refuses, before a run of it exists."""
    name = asset.op.name
    configured = dg.configured(asset.op, name=name, config_schema=model.to_config_schema().as_field())
    return dg.AssetsDefinition(
        keys_by_input_name=asset.keys_by_input_name,
        keys_by_output_name=asset.keys_by_output_name,
        node_def=configured(_look_at(name, model)),
        specs=list(asset.specs),
    )


def _look_at(step: str, model: type[dg.Config]) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    def look(settings: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            model(**settings)
        except pydantic.ValidationError as error:
            refusal = refused_settings(error, step=step)
            raise dg.DagsterInvalidConfigError(  # type: ignore[no-untyped-call]  # Dagster's is untyped
                str(refusal), [], settings
            ) from refusal
        return settings

    return look


def check_written(config: Mapping[str, Any]) -> None:
    """Refuse settings of steps or resources that are not there, and what `refuse_nothing` refuses.

    Where assets are selected Dagster drops settings of steps that it does not know. A job refuses them.

    Raises:
        ConfigError: there are such settings.
    """
    for part in ("ops", "resources"):
        given = config.get(part)
        if not isinstance(given, dict):
            continue  # Dagster refuses it
        if unknown := sorted(map(str, given.keys() - _fields([part]))):
            raise _unknown(unknown, [part], part)
    refuse_nothing(config)


def refuse_nothing(config: Mapping[str, Any]) -> None:
    """Refuse a run configuration with nothing in place of settings.

    Raises:
        ConfigError: a place has nothing.
    """
    for fault in _nothings(_schema(), config, []):
        raise fault


def _nothings(kind: Any, given: object, path: list[str]) -> Iterator[ConfigError]:
    """Yield the places where nothing is written for settings, or for an entry of a map."""
    if kind.kind.name == "NONEABLE":
        kind = kind.inner_type
        if given is None and hasattr(kind, "fields"):
            yield ConfigError(
                "its settings",
                "nothing",
                _place(path),
                f"Write {path[-1]}: {{}} for the defaults, or leave it out.",
            )
    if isinstance(given, list) and kind.kind.name == "ARRAY":
        for entry in given:
            yield from _nothings(kind.inner_type, entry, path)
    for name, value in given.items() if isinstance(given, dict) else ():
        if kind.kind.name == "MAP" and value is None:
            yield ConfigError("a value", "nothing", _place([*path, str(name)]), "Write one, or leave it out.")
        if name in getattr(kind, "fields", ()):
            yield from _nothings(kind.fields[name].config_type, value, [*path, name])


def paragraph(error: dg.DagsterInvalidConfigError, *, where: str = "") -> ConfigError:
    """Return what a person should read of a refused configuration: every fault, in one paragraph.

    Args:
        error: What Dagster, or `refusing`, has raised.
        where: The files of the configuration, where they are known.
    """
    if isinstance(error.__cause__, ConfigError):
        return error.__cause__
    first, *others = [_explain(fault, where) for fault in error.errors]
    action = " ".join([first.action, *map(str, others)])
    return ConfigError(first.expected, first.found, first.where, action)


def _explain(fault: EvaluationError, where: str) -> ConfigError:
    # Dagster keeps these names to itself; the contract test holds them to what is read here.
    data, path = fault.error_data, fault.stack.levels
    place = _place(path) + (f", in {where}" if where else "")
    names = getattr(data, "field_names", None) or [getattr(data, "field_name", "")]
    if hasattr(data, "field_snap") or hasattr(data, "field_snaps"):
        return ConfigError(f"{', '.join(names)} to be given", "nothing", place, "Add it there.")
    if names != [""]:
        return _unknown(names, path, place)
    if hasattr(data, "incoming_fields"):
        found = " and ".join(data.incoming_fields) or "none of them"
        if not (choices := _fields(path)):
            return ConfigError("one value", "{...}", place, "Write the value alone.")
        return ConfigError(f"one of {' or '.join(choices)}", found, place, "Keep the one that is meant.")
    return _mistyped(fault, path, place)


def _place(path: Sequence[str]) -> str:
    """Return where a fault stands as people say it: setting of step."""
    if path[:1] != ["ops"] or len(path) < 2:
        return ":".join(path) or "the top of the configuration"
    setting = ".".join(path[3:])
    return f"{setting} of {path[1]}" if setting else path[1]


def _unknown(names: Sequence[str], path: Sequence[str], place: str) -> ConfigError:
    known = list(STEPS) if path == ["ops"] else _fields(path)
    what = {"ops": "a step", "resources": "a resource"}.get(".".join(path), "a setting")
    if path == ["ops"] and set(names) <= set(known):
        return ConfigError(
            "steps of this job", " and ".join(names), place, "Leave out what the job does not run."
        )
    close = {name: difflib.get_close_matches(name, known, n=2, cutoff=0.6) for name in names}
    hints = [f"Instead of {name}, did you mean {' or '.join(near)}?" for name, near in close.items() if near]
    step = path[1] if path[:1] in (["ops"], ["resources"]) and len(path) > 1 else ""
    hints = [hint for name in names if (hint := _earlier(step, name))] or hints
    if path[:1] == ["ops"] and len(path) == 2 and "config" in known:
        hints = [f"Put it below config: {path[1]}: {{config: {{{names[0]}: ...}}}}."]
    action = " ".join(hints) or f"Known are {', '.join(known)}."
    return ConfigError(f"{what} that there is", f"the unknown {' and '.join(names)}", place, action)


def _earlier(step: str, name: str) -> str | None:
    """Return what became of a setting of a step or of the store in an earlier version; None of all others."""
    if step and (moved := _MOVED.get(f"{step}.{name}") or _MOVED.get(name)):
        return moved
    constants = {place.rpartition(".")[2]: value for place, value in NOW_CONSTANT.get(step, {}).items()}
    if name not in constants:
        return None
    return f"{name} is no setting any more, it is always {json.dumps(constants[name])}: leave it out."


def _mistyped(fault: EvaluationError, path: Sequence[str], place: str) -> ConfigError:
    snap = getattr(fault.error_data, "config_type_snap", None)
    value = getattr(fault.error_data, "value_rep", "something else")
    if snap is None:
        return ConfigError("a value that can be used", fault.message, place, "Correct it.")
    if snap.enum_values:
        words = [choice.value for choice in snap.enum_values]
        near = difflib.get_close_matches(value.strip("'"), words, n=1)
        action = f"Did you mean {near[0]}?" if near else "Choose one of them."
        return ConfigError(f"one of {', '.join(words)}", value, place, action)
    of_scalar = snap.scalar_type_key if snap.kind.value == "SCALAR_UNION" else snap.given_name
    expected = _NAMES.get(of_scalar or "") or _shape(snap.kind.value, path)
    if value in _TRUTHS and expected == "a text":
        return ConfigError(
            expected, f"{value.lower()}, which is how YAML reads a bare yes, no, on or off", place,
            'Put quotes around it: "no", "yes".',
        )  # fmt: skip
    return ConfigError(expected, value, place, _advice(expected, value, path))


def _advice(expected: str, value: str, path: Sequence[str]) -> str:
    """Return what to do about a value of a wrong type, by what it looks like."""
    text, choices = value.strip("'"), _fields(path)
    if value == "None":
        return "Leave it out, or write something behind it."
    if text in choices:
        return f"Write {path[-1]}: {{{text}: {{}}}}, with its settings between the braces."
    if near := difflib.get_close_matches(text, choices, n=1):
        return f"Did you mean {path[-1]}: {{{near[0]}: {{}}}}?"
    if "number" in expected and (number := _number(text)) is not None:
        whole = int(number) if number == int(number) else None
        if expected == _NAMES["Float"]:
            return f"Write {number}, without quotes: YAML takes 1e-3 for a text, and 1.0e-3 for a number."
        return f"Write {whole}." if whole is not None else "Write it without a fraction."
    return f"Write {expected}."


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _shape(kind: str, path: Sequence[str]) -> str:
    if kind == "ARRAY":
        return "a list: [...]"
    if kind == "SELECTOR":
        return f"one of {', '.join(f'{name}: {{...}}' for name in _fields(path))}"
    return "settings by name: {name: value}"


def _fields(path: Sequence[str]) -> list[str]:
    """Return the names that the configuration knows at a place; none where it knows no names there."""
    kind = _schema()
    for name in path:
        kind = _inner(kind)
        if name not in getattr(kind, "fields", {}):
            return []
        kind = kind.fields[name].config_type  # type: ignore[attr-defined]  # those with fields have them
    return sorted(getattr(_inner(kind), "fields", None) or ())


def _schema() -> ConfigType:
    """Return the schema of a run of every step and every check."""
    from streetvision_assets.definitions import defs

    return defs.resolve_implicit_global_asset_job_def().run_config_schema.config_type


def _inner(kind: ConfigType) -> ConfigType:
    """Return what a list or an optional setting is about."""
    while getattr(kind, "inner_type", None) is not None:
        kind = kind.inner_type  # type: ignore[attr-defined]  # asked for above
    return kind
