"""Settings as this version writes them, whichever version recorded them.

Older versions recorded the settings of a step flat: those of a choice beside the choice, all of them, whether
they were used or not. A choice that is recorded as a word is an old one. Settings that the recorded choice
did not use, and those that are gone, are left out. Nothing is validated here, so that parts of a record can
be read as well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

KIND = "kind"
# The unit of certificates that counted every image, whatever its group: read, but chosen no more.
EVERY_IMAGE = "every_image"
_PROBE_BATCH = 64  # images a step of a probe, where a part of a record does not say
_CROPS = {name: name for name in ("scale_min", "hflip", "color_jitter")}


@dataclass(frozen=True)
class _Choice:
    """The old places of a choice's settings by kind, the default first: new name, and flat name."""

    kinds: Mapping[str, Mapping[str, str]]
    word: str = ""  # the flat name of the choice itself, where it was another one


@dataclass(frozen=True)
class _Step:
    """The choices of a step, its groups of settings that lay flat, and what is gone."""

    choices: Mapping[str, _Choice]
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    gone: tuple[str, ...] = ()


# What a probe has no use for: its heads have rates of their own, and take features, not pixels.
NOT_OF_A_PROBE: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "optimizer": ("learning_rate", "layer_decay"),
        "hardware": ("devices", "accumulate"),
    }
)
_TRAINING = _Step(
    choices={
        "method": _Choice(
            {
                "finetune": {},
                "probe": {
                    "learning_rates": "probe_learning_rates",
                    "weight_decays": "probe_weight_decays",
                    "augmented_views": "probe_views",
                    "cache_features": "cache_features",
                },
                "lp_ft": {"probe_epochs": "probe_epochs"},
                "lora": {"rank": "lora_rank", "alpha": "lora_alpha"},
            }
        ),
        "loss": _Choice(
            {
                "cross_entropy": {"label_smoothing": "label_smoothing"},
                "focal": {"gamma": "focal_gamma", "label_smoothing": "label_smoothing"},
            }
        ),
        "augmentation": _Choice({"crop": _CROPS, "trivial": _CROPS, "validator": {}, "none": {}}),
        "views": _Choice(
            {
                "whole": {},
                "grid": {"size": "view_grid", "overlap": "view_overlap", "pooling": "pooling"},
            }
        ),
        "pooling": _Choice(
            {"top_k": {"views": "view_top_k"}, "mean": {}, "max": {}, "attention": {}}, word="view_pooling"
        ),
    },
    groups={
        "optimizer": (
            "learning_rate", "weight_decay", "warmup_epochs", "layer_decay", "gradient_clip", "ema_decay",
        ),
        "hardware": (
            "devices", "accumulate", "precision", "compile", "threads", "num_workers",
        ),
    },
    gone=("probe_batch_size", "lora_dropout", "cutmix", "patience", "cache_mb"),
)  # fmt: skip
_BACKBONE = _Step(
    choices={
        "adaptation": _Choice(
            {
                "none": {},
                "simclr": {
                    "rank": "explora_rank",
                    "epochs": "explora_epochs",
                    "batch_size": "explora_batch_size",
                    "learning_rate": "explora_learning_rate",
                    "num_workers": "num_workers",
                },
            }
        )
    },
    gone=("explora_unfrozen_blocks", "explora_micro_batch"),
)
_THRESHOLDS = _Step(
    {
        "objective": _Choice(
            {
                "mcc": {},
                "f_beta": {"beta": "beta"},
                "cost": {"miss": "miss_cost", "false_alarm": "false_alarm_cost"},
                "recall_at_least": {"recall": "min_recall"},
            }
        )
    }
)
_SCRC = _Step(
    {
        "promise": _Choice(
            {
                "error": {"alpha": "alpha"},
                "two_sided": {"miss": "alpha_miss", "alarm": "alpha_alarm"},
                "expected": {"alpha": "alpha"},
            }
        )
    }
)
_STEPS: Mapping[str, _Step] = MappingProxyType(
    {
        "splits": _Step({}, gone=("train",)),
        "backbone": _BACKBONE,
        "phase1_checkpoint": _TRAINING,
        "thresholds": _THRESHOLDS,
        "scrc": _SCRC,
    }
)


# Settings of an earlier version by where they lay, and what everybody has now. A record that says something
# else keeps it, so that `diff` tells.
NOW_CONSTANT: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "phase1_checkpoint": {
            "method.cache_features": True,
            "method.learning_rates": [0.0003, 0.001, 0.003, 0.01],
            "method.weight_decays": [0.0, 0.05, 0.5],
            "method.augmented_views": 0,
            "method.probe_epochs": 30,
            "method.alpha": 16,
            "views.overlap": 0.15,
            "views.pooling.views": 2,
            "optimizer.gradient_clip": 1.0,
            "optimizer.weight_decay": 0.05,
            "loss.label_smoothing": 0.05,
            "class_weights": "balanced",
            "augmentation.scale_min": 0.7,
            "augmentation.hflip": 0.5,
            "augmentation.color_jitter": 0.2,
            "hardware.compile": False,
            "hardware.threads": 0,
            "hardware.precision": "auto",
            "max_unreadable": 0,
            "dropout": 0.0,
            "tensorboard": True,
        },
        "images": {"max_megapixels": 200},
        "splits": {"max_distance": 8},
        "conditions": {"seed": 0},
        "bundle": {
            "description": "Tells images of streets with roadwork from images without.",
            "require_evaluation": False,
        },
        "thresholds": {"objective.false_alarm": 1.0, "at": "midpoint", "resamples": 200, "seed": 0},
        "gate": {"folds": 5, "seed": 0, "resamples": 2000, "min_errors": 30, "level": 0.95},
        "scrc": {"steps": 15, "folds": 5, "seed": 0},
        "backbone": {
            "crop_mode": "squash",
            "seed": 0,
            "adaptation.micro_batch": 0,
            "adaptation.rank": 8,
            "adaptation.learning_rate": 0.001,
            "adaptation.num_workers": -1,
        },
        "cross_validation": {"repeats": 0},
    }
)


def from_recorded(step: str, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recorded settings of a step, or a part of them, as this version writes them."""
    settings = _sources(recorded) if step == "images" else _nested(step, recorded)
    return _without_constants(settings, NOW_CONSTANT.get(step, {}))


def _sources(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of images, and of each source that is joined, as this version writes them."""
    settings = dict(recorded)
    if isinstance(demo := settings.get("demo"), dict):  # whatever its seed and size were, it lies drawn
        named = {"pictures": "images"}
        settings["demo"] = {
            named.get(name, name): demo[name] for name in demo if name not in ("seed", "size")
        }
    if isinstance(table := settings.get("csv"), dict):  # the file itself tells how it is separated
        settings["csv"] = {name: value for name, value in table.items() if name != "separator"}
    if isinstance(table := settings.get("parquet"), dict):
        names = {"image_column": "file_column"}
        settings["parquet"] = {names.get(name, name): value for name, value in table.items()}
    if settings.get("join"):
        settings["join"] = [_sources(part) for part in settings["join"]]
    return settings


def _nested(step: str, recorded: Mapping[str, Any]) -> dict[str, Any]:
    settings = dict(recorded)
    known = _STEPS.get(step)
    if known is None:
        return settings
    if step == "scrc" and "one_per_group" in settings:
        settings["unit"] = {KIND: "group" if settings.pop("one_per_group") else EVERY_IMAGE}
    # A choice inside another comes first: the outer one then takes it in.
    for name in reversed(tuple(known.choices)):
        _nest(settings, name, known.choices[name])
    for name in known.gone:
        settings.pop(name, None)
    for group, names in known.groups.items():
        if given := {name: settings.pop(name) for name in names if name in settings}:
            settings[group] = {**settings.get(group, {}), **given}
    if step == "phase1_checkpoint" and isinstance(recorded.get("method"), str):
        _of_a_probe(settings, recorded)
    return _without_warmup(settings)


def _without_constants(settings: Mapping[str, Any], constants: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings without those that repeat what is constant now."""
    kept = dict(settings)
    for place, value in constants.items():
        kept = _without(kept, place, value)
    return kept


def _without(settings: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    name, _, below = place.partition(".")
    if below and isinstance(settings.get(name), dict):
        return {**settings, name: _without(settings[name], below, value)}
    if below or name not in settings or settings[name] != value:
        return settings
    return {other: kept for other, kept in settings.items() if other != name}


def warmup_of(epochs: int) -> float:
    """Return the epochs in which the learning rate rises linearly: a tenth of all, and at least one."""
    return max(1.0, epochs / 10)


def _without_warmup(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings without a warm-up that equals today's."""
    return _without(settings, "optimizer.warmup_epochs", warmup_of(settings.get("epochs", 1)))


def _nest(settings: dict[str, Any], name: str, choice: _Choice) -> None:
    """Put the flat settings of a choice inside it; beside one that is nested nothing flat is taken."""
    word = settings.pop(choice.word, None) if choice.word else settings.get(name)
    if word is not None and not isinstance(word, str):
        return
    kind = next(iter(choice.kinds)) if word is None else word
    inside = choice.kinds.get(kind, {})
    given = {inner: settings[flat] for inner, flat in inside.items() if flat in settings}
    for flat in {flat for names in choice.kinds.values() for flat in names.values()}:
        settings.pop(flat, None)
    if word is not None or given:
        settings[name] = {KIND: kind, **given}


def _of_a_probe(settings: dict[str, Any], recorded: Mapping[str, Any]) -> None:
    if settings["method"][KIND] != "probe":
        return
    settings["batch_size"] = recorded.get("probe_batch_size", _PROBE_BATCH)
    leave_out_unused(settings)


def leave_out_unused(settings: dict[str, Any]) -> None:
    """Take what a probe does not use out of its settings."""
    for group, names in NOT_OF_A_PROBE.items():
        if group in settings:
            settings[group] = {name: kept for name, kept in settings[group].items() if name not in names}
    settings.pop("mixup", None)
    settings.pop("augmentation", None)


def reworded(text: str) -> str:
    """Return recorded prose in today's words: older versions said picture where this one says image."""
    return re.sub(r"\b([Aa]) picture", r"\1n picture", text).replace("picture", "image")
