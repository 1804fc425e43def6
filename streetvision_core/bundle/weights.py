"""The weights of a bundle: safetensors bytes that fill exactly the architecture of its config.json.

The architecture must be one of timm's own names: timm would download, or read from elsewhere, what a
name with a colon or a slash asks for. Every tensor must be one that the architecture has, of its shape
and type, none may be missing, and every number must be finite.

All but the last is judged from the header, before the weights are read and before a network is built: the
architecture is laid out without memory (torch's device "meta"), and a header that is not its own is refused.
Settings that would make a network or an image of any size are refused besides (`bounds.py`).
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal

from pydantic import BaseModel, Field, ValidationError

from streetvision_core.bundle import bounds
from streetvision_core.bundle.layout import CONFIG, TENSORS, WEIGHTS
from streetvision_core.errors import BundleError, ConfigError, StreetVisionError, field_faults
from streetvision_core.inference.predictor import BATCH_SIZE
from streetvision_core.io import StagedFile
from streetvision_core.io.records import Record, parse_unambiguous
from streetvision_core.io.tensors import read_layout, tensor_digests
from streetvision_core.models.config import CROP_MODES, LARGEST_HEAD
from streetvision_core.models.views import find_views

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

_Side = Annotated[int, Field(ge=bounds.SIDES.start, lt=bounds.SIDES.stop)]
_Mean = Annotated[float, Field(ge=-1e3, le=1e3)]
_Std = Annotated[float, Field(ge=1e-6, le=1e3)]
_LOWEST, _HIGHEST = bounds.CROP_SHARES
_ACTION = "Do not use this bundle; take a whole copy of it, or export it again."


# timm passes model_args on to the model's constructor, where checkpoint_path would open a pickle, and asks
# the network for what a pretrained_cfg names: only settings of shape and preprocessing are taken.
class _Arguments(Record):
    img_size: _Side | tuple[_Side, _Side] = bounds.SIDES.start


class _Preprocessing(Record):
    """Settings of preprocessing, in bounds: an image has pixels left, and fits into memory."""

    input_size: tuple[Literal[3], _Side, _Side]
    crop_pct: Annotated[float, Field(ge=_LOWEST, le=_HIGHEST)]
    crop_mode: Literal[*CROP_MODES]  # type: ignore[valid-type]  # the list of models is the one list
    interpolation: Literal["bicubic", "bilinear", "box", "hamming", "lanczos", "nearest"]
    mean: tuple[_Mean, _Mean, _Mean]
    std: tuple[_Std, _Std, _Std]
    classifier: Any = None
    custom_load: Any = None
    first_conv: Any = None
    fixed_input_size: Any = None
    num_classes: Any = None


class _Settings(BaseModel, extra="ignore", strict=True):
    architecture: str
    pretrained_cfg: _Preprocessing
    model_args: _Arguments = _Arguments()
    head_hidden: Annotated[int, Field(ge=0, le=LARGEST_HEAD)] = 0


def check_layout(file: BinaryIO, *, size_bytes: int, config: bytes, where: str) -> None:
    """Refuse weights whose header is not that of the architecture; nothing behind the header is read.

    Args:
        file: The safetensors file, open at its beginning.
        size_bytes: Its size.
        config: The bytes of config.json.
        where: What errors name.

    Raises:
        BundleError: the config is not one that StreetVision writes, or the header does not fit it.
    """
    settings = parse_unambiguous(config, where=f"{where}/{CONFIG}")
    architecture = _check_config(settings, where=where)
    try:
        given = read_layout(file, size_bytes=size_bytes, most_bytes=bounds.HEADER_BYTES)
    except ValueError as error:
        raise BundleError(f"safetensors in {WEIGHTS}", str(error), where, _ACTION) from error
    faults = _layout_faults(settings, given, where=where)
    if faults:
        raise BundleError(f"weights of a {architecture}", "; ".join(faults), where, _ACTION)


def _layout_faults(
    settings: Mapping[str, Any], given: Mapping[str, tuple[str, tuple[int, ...]]], *, where: str
) -> list[str]:
    import torch

    from streetvision_core.models.zoo import find_mismatches

    wanted = _lay_out(settings, where=where, action=_ACTION)
    meta = {
        name: torch.empty(shape, dtype=getattr(torch, dtype), device="meta")
        for name, (dtype, shape) in given.items()
    }
    types = [
        f"{name} of {meta[name].dtype} instead of {tensor.dtype}"
        for name, tensor in wanted.items()
        if name in meta and meta[name].dtype != tensor.dtype
    ]
    return find_mismatches(wanted, meta) or types[:5]


def _lay_out(settings: Mapping[str, Any], *, where: str, action: str) -> dict[str, torch.Tensor]:
    """Return the weights of the architecture without memory; refuse buffers that would fill it.

    Buffers that no file lists, relative positions for example, grow with the fourth power of `img_size`.
    """
    from streetvision_core.models.classifier import lay_out_classifier

    try:
        model = lay_out_classifier(settings)
    except (StreetVisionError, RuntimeError, ValueError, TypeError) as error:
        found = error.found if isinstance(error, StreetVisionError) else str(error)
        raise BundleError("an architecture that can be built", found, where, action) from error
    _check_bytes(
        sum(buffer.nbytes for buffer in model.buffers()), bounds.BUFFER_BYTES, "buffers", where, action
    )
    state: dict[str, torch.Tensor] = model.state_dict()
    return state


def check_costs(settings: Mapping[str, Any], *, where: str, action: str) -> None:
    """Refuse a sound config.json whose network, or whose batch of images, takes too much memory.

    Raises:
        BundleError: the buffers or a batch are larger than `bounds.py` allows.
    """
    _check_batch(settings, where=where, action=action)
    _lay_out(settings, where=where, action=action)


def _check_batch(settings: Mapping[str, Any], *, where: str, action: str) -> None:
    views, shape = find_views(settings), settings["pretrained_cfg"]["input_size"]
    size = BATCH_SIZE * (views.count if views else 1) * math.prod(shape)
    _check_bytes(size, bounds.BATCH_BYTES, f"{BATCH_SIZE} images in all their views", where, action)


def _check_bytes(size: int, most: int, what: str, where: str, action: str) -> None:
    if size > most:
        raise BundleError(f"{what} of at most {most} bytes by {CONFIG}", f"{size} bytes", where, action)


def load_weights(data: bytes, *, config: Any, where: str) -> torch.nn.Module:
    """Build the model of `config` (timm's hub format) with the weights in `data`, in eval mode.

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

    try:
        # As JSON, where a list may be read as a tuple however strictly.
        architecture = _Settings.model_validate_json(json.dumps(config)).architecture
    except ValidationError as error:
        raise BundleError(f"usable settings in {CONFIG}", field_faults(error), where, _ACTION) from error
    if not timm.is_model(architecture) or {*architecture} & {":", "/"}:
        raise BundleError(f"an architecture of timm in {CONFIG}", repr(architecture), where, _ACTION)
    try:
        written = _as_written(config)
    except ConfigError as error:
        raise BundleError(error.expected, error.found, where, _ACTION) from error
    if config != written:
        raise BundleError(f"{CONFIG} as StreetVision writes it", "other settings", where, _ACTION)
    _check_batch(config, where=where, action=_ACTION)
    return architecture


def _as_written(settings: Mapping[str, Any]) -> dict[str, Any]:
    from streetvision_core.models.backbone import Backbone
    from streetvision_core.models.classifier import hub_config

    backbone = Backbone(
        architecture=settings["architecture"],
        model_args=settings.get("model_args", {}),
        pretrained_cfg=settings["pretrained_cfg"],
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


def trained_problems(model: torch.nn.Module, data: bytes, trained: Mapping[str, str]) -> list[str]:
    """Tell which tensors are not those that were trained, though nothing is folded into them.

    Args:
        model: The classifier of the bundle.
        data: Its weights.
        trained: The SHA-256 (hex) of each tensor of the checkpoint, by name (`tensors.json`).
    """
    from streetvision_core.models.fold import last_linear

    shipped = tensor_digests(data)
    if shipped.keys() != trained.keys():
        return [f"{TENSORS} names other tensors than {WEIGHTS} has"]
    last = last_linear(model)
    prefix = next(name for name, module in model.named_modules() if module is last)
    folded = {f"{prefix}.{name}" for name, _ in last.named_parameters()}
    changed = sorted(name for name in shipped if shipped[name] != trained[name] and name not in folded)
    return (
        [f"{len(changed)} tensors are not those that were trained, {changed[0]} for instance"]
        if changed
        else []
    )
