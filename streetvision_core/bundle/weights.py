"""The weights of a bundle: safetensors bytes that fill exactly the architecture of its config.json.

The architecture must be one of timm's own names: timm would download, or read from elsewhere, what a
name with a colon or a slash asks for. Every tensor must be one that the architecture has, of its shape
and type, none may be missing, and every number must be finite.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from streetvision_core.bundle.layout import CONFIG, WEIGHTS
from streetvision_core.errors import BundleError, ConfigError, StreetVisionError
from streetvision_core.io import StagedFile
from streetvision_core.models.config import LARGEST_HEAD

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

# timm passes model_args on to the model's constructor, where checkpoint_path would open a pickle, and asks
# the network for what a pretrained_cfg names: only settings of shape and preprocessing are taken.
_ARGUMENTS = frozenset({"img_size"})
_PREPROCESSING = frozenset(
    {
        "classifier", "crop_mode", "crop_pct", "custom_load", "first_conv", "fixed_input_size", "input_size",
        "interpolation", "mean", "num_classes", "std",
    }
)  # fmt: skip
_ACTION = "Do not use this bundle; take a whole copy of it, or export it again."


def load_weights(data: bytes, *, config: Any, where: str) -> torch.nn.Module:
    """Build the model of ``config`` (timm's hub format) with the weights in ``data``, in eval mode.

    Raises:
        BundleError: the config is not one that StreetVision writes, or the weights do not fill it.
    """
    from streetvision_core.models.classifier import load_classifier

    architecture = _check_config(config, where=where)
    state = _read_state(data, where=where)
    try:
        model: torch.nn.Module = load_classifier(config, state)
    except (StreetVisionError, RuntimeError, ValueError, TypeError) as error:
        found = error.found if isinstance(error, StreetVisionError) else str(error)
        raise BundleError(f"weights of a {architecture}", found, where, _ACTION) from error
    for name, wanted in model.state_dict().items():
        if state[name].dtype != wanted.dtype:
            found = f"{name} of {state[name].dtype}"
            raise BundleError(f"{name} of {wanted.dtype} in {WEIGHTS}", found, where, _ACTION)
    if model.num_features != config["num_features"]:
        found = f"{config['num_features']!r} in {CONFIG}"
        raise BundleError(f"{model.num_features} features of a {architecture}", found, where, _ACTION)
    return model


def _check_config(config: Any, *, where: str) -> str:
    """Return the architecture; refuse every config.json but one that StreetVision writes for it."""
    import timm

    settings = config if isinstance(config, dict) else {}
    architecture, arguments = settings.get("architecture"), settings.get("model_args", {})
    if not isinstance(architecture, str) or not timm.is_model(architecture) or {*architecture} & {":", "/"}:
        raise BundleError(f"an architecture of timm in {CONFIG}", repr(architecture), where, _ACTION)
    preprocessing = settings.get("pretrained_cfg")
    if not isinstance(preprocessing, dict) or not isinstance(arguments, dict):
        raise BundleError(f"preprocessing in {CONFIG}", repr(preprocessing), where, _ACTION)
    hidden = settings.get("head_hidden", 0)
    if type(hidden) is not int or not 0 <= hidden <= LARGEST_HEAD:
        raise BundleError(f"head_hidden up to {LARGEST_HEAD} in {CONFIG}", repr(hidden), where, _ACTION)
    unknown = {*preprocessing} - _PREPROCESSING | {*arguments} - _ARGUMENTS
    try:
        written = _as_written(settings, arguments, preprocessing)
    except ConfigError as error:
        raise BundleError(error.expected, error.found, where, _ACTION) from error
    if unknown or settings != written:
        found = f"the settings {', '.join(map(repr, sorted(unknown)))}" if unknown else "other settings"
        raise BundleError(f"{CONFIG} as StreetVision writes it", found, where, _ACTION)
    return architecture


def _as_written(
    settings: Mapping[str, Any], arguments: Mapping[str, Any], preprocessing: Mapping[str, Any]
) -> dict[str, Any]:
    from streetvision_core.models.backbone import Backbone
    from streetvision_core.models.classifier import hub_config
    from streetvision_core.models.views import find_views

    backbone = Backbone(
        architecture=settings["architecture"],
        model_args=arguments,
        pretrained_cfg=preprocessing,
        num_features=settings.get("num_features", 0),
        licence="",
        source="",
        weights=StagedFile(Path(), "", (0, 0, 0)),
    )
    return hub_config(backbone, head_hidden=settings.get("head_hidden", 0), views=find_views(settings))


def _read_state(data: bytes, *, where: str) -> dict[str, torch.Tensor]:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        state: dict[str, torch.Tensor] = load(data)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise BundleError(f"safetensors in {WEIGHTS}", str(error), where, _ACTION) from error
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise BundleError(f"finite numbers in {WEIGHTS}", f"NaN or infinity in {name}", where, _ACTION)
    return state
