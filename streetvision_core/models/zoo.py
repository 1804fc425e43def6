"""The one place that asks timm for models: names, constructor arguments, and weights that must fit.

Models are built under a seed of their own; the random state of the caller is left as it was. Weights fit
exactly or not at all: `load_exactly` names every tensor that is missing, unexpected or of another shape.
"""

from __future__ import annotations

import difflib
import sys
from typing import TYPE_CHECKING, Any

from streetvision_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

SHOWN = 6


def find_pretrained_cfg(architecture: str) -> dict[str, Any]:
    """Return timm's description of a model and its weights (the default weights where no tag is given).

    Raises:
        ConfigError: timm has no such model, or no such weights of it; close names are given.
    """
    import timm

    base, _, tag = architecture.partition(".")
    if not timm.is_model(base):
        close = difflib.get_close_matches(base, timm.list_models(), n=3, cutoff=0.5)
        found = f"the unknown {base!r}"
        action = f"Did you mean {' or '.join(close)}?" if close else "timm.list_models() gives all names."
        raise ConfigError("the name of a timm model", found, "architecture of the backbone", action)
    cfgs = timm.models.get_arch_pretrained_cfgs(base)
    names = [name for name in cfgs if name.partition(".")[2] == tag] if tag else []
    if tag and not names:
        tags = sorted(name.partition(".")[2] for name in cfgs)
        found = f"the unknown tag {tag!r}"
        action = f"Choose one of {', '.join(filter(None, tags)) or 'no tag'}."
        raise ConfigError(f"weights of {base} that timm knows", found, "architecture of the backbone", action)
    cfg = timm.models.get_pretrained_cfg(architecture)
    return dict(vars(cfg)) if cfg is not None else {}


def size_arguments(pretrained_cfg: Mapping[str, Any], input_size: int) -> dict[str, Any]:
    """Return the constructor arguments that make the model see `input_size` pixels, where it needs any."""
    native = tuple(pretrained_cfg.get("input_size", ()))[-2:]
    if pretrained_cfg.get("fixed_input_size") and native != (input_size, input_size):
        return {"img_size": input_size}
    return {}


def create_model(architecture: str, *, seed: int, **arguments: Any) -> Any:
    """Build a timm model whose random weights depend on `seed` alone, float32 on the CPU.

    Raises:
        ConfigError: the model refuses the arguments, an input size for instance.
    """
    import timm
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            return timm.create_model(architecture, **arguments)
        except (AssertionError, TypeError, ValueError) as error:
            expected = f"arguments that {architecture} takes"
            found = f"{arguments}: {_first_line(error)}"
            action = "Correct input_size, or choose another architecture."
            raise ConfigError(expected, found, "the backbone's configuration", action) from error


def load_exactly(model: Any, state: Mapping[str, torch.Tensor], *, where: str) -> None:
    """Load weights that fit the model tensor by tensor.

    Raises:
        ConfigError: they do not; the report names what is missing, unexpected or of another shape.
    """
    faults = find_mismatches(model.state_dict(), state)
    if faults:
        action = "Check that architecture and input_size are those of the weights."
        raise ConfigError("weights that fit the model tensor by tensor", "; ".join(faults), where, action)
    model.load_state_dict(dict(state))


def find_mismatches(wanted: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]) -> list[str]:
    """Compare the names and shapes of weights; one phrase a kind of fault, none when they fit."""
    missing = sorted(wanted.keys() - given.keys())
    unexpected = sorted(given.keys() - wanted.keys())
    shapes = [
        f"{name} {tuple(given[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in sorted(wanted.keys() & given.keys())
        if wanted[name].shape != given[name].shape
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
    return [f"{len(names)} {kind} ({_shorten(names)})" for kind, names in kinds.items() if names]


def convert_foreign(model: Any, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Pass weights through the converter of the model's own timm module, where it has one.

    It resizes position embeddings to the model's input size and renames what older files call differently.
    """
    converter = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    return dict(state) if converter is None else dict(converter(dict(state), model))


def without_head(state: Mapping[str, torch.Tensor], classifier: Any) -> dict[str, torch.Tensor]:
    """Leave out the classifier's tensors; `classifier` is one name of it, or several."""
    names = (classifier,) if isinstance(classifier, str) else tuple(classifier or ())
    prefixes = tuple(f"{name}." for name in names)
    return {key: tensor for key, tensor in state.items() if not key.startswith(prefixes)}


def _shorten(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
