"""The extra `onnx`: the packages that an ONNX file is made and proved with."""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec

from streetvision_core.errors import ConfigError

NEEDED = ("onnx", "onnxruntime", "onnxscript")


def has_runtime() -> bool:
    """Tell whether ONNX Runtime is installed."""
    return find_spec("onnxruntime") is not None


def require_extra() -> None:
    """Refuse to begin without the packages that make an ONNX file and prove it.

    Raises:
        ConfigError: they are not installed.
    """
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise ConfigError(
            "the packages that an ONNX file is made and proved with",
            f"no {', '.join(missing)}",
            "onnx",
            "Install the extra: pip install 'streetvision[onnx]'.",
        )


def made_with() -> dict[str, str]:
    """Return the versions of the packages that make a file and prove it."""
    return {name: version(name) for name in (*NEEDED, "torch")}
