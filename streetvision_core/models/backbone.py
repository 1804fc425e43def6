"""The starting weights of a classifier: a timm model without its head, from the hub, a file or a seed.

`prepare_backbone` builds the model at the configured input size, proves with one picture that it runs at
that size, and stages its weights. From there on nothing asks the hub or the local file again: everything
downstream builds from `model.safetensors` and `backbone.json`.

Round trip: `Backbone.from_artifact(published)` equals the backbone whose `to_artifact()` was published.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from streetvision_core.errors import ConfigError
from streetvision_core.io import (
    Artifact,
    StagedFile,
    bytes_digest,
    json_bytes,
    write_checkpoint_atomic,
)
from streetvision_core.models.config import PRETRAINED, RANDOM
from streetvision_core.models.weights import published_file, read_state
from streetvision_core.models.zoo import (
    convert_foreign,
    create_model,
    find_mismatches,
    find_pretrained_cfg,
    load_exactly,
    size_arguments,
    without_head,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from streetvision_core.io import PublishedArtifact
    from streetvision_core.models.config import BackboneConfig

WEIGHTS_NAME = "model.safetensors"
RECORD_NAME = "backbone.json"
ADAPTERS_NAME = "adapters.safetensors"

# What of timm's description is about pixels and the head, and so goes on into the bundle.
_CARRIED = ("fixed_input_size", "interpolation", "mean", "std", "first_conv", "classifier")


@dataclass(frozen=True)
class Backbone:
    """Weights without a head, and what is needed to build their model again.

    `architecture` is timm's name without a tag, `model_args` its constructor arguments, `pretrained_cfg`
    its preprocessing in timm's terms (JSON), `num_features` the width of its features. `licence` is that
    of the weights: "none" for random ones, "unknown" where their origin does not say. `source` says in
    words where they come from. `adaptation` is the record of an ExPLoRA adaptation (JSON) and `adapters` what
    it trained, whether or not `weights` are the adapted ones; both None where there was none.
    """

    architecture: str
    model_args: Mapping[str, Any]
    pretrained_cfg: Mapping[str, Any]
    num_features: int
    licence: str
    source: str
    weights: StagedFile
    adaptation: Mapping[str, Any] | None = None
    adapters: StagedFile | None = None

    def read_state(self) -> dict[str, torch.Tensor]:
        """Return the weights by name, verified against their SHA-256; raises IntegrityError."""
        return read_state(self.weights)

    def to_artifact(self) -> Artifact:
        """Return `model.safetensors` and `backbone.json`, and `adapters.safetensors` after an adaptation."""
        record = {
            "architecture": self.architecture,
            "model_args": dict(self.model_args),
            "pretrained_cfg": dict(self.pretrained_cfg),
            "num_features": self.num_features,
            "licence": self.licence,
            "source": self.source,
        }
        metrics = {"num_features": self.num_features, "weights_bytes": self.weights.size_bytes}
        files = {WEIGHTS_NAME: self.weights}
        if self.adaptation is not None and self.adapters is not None:
            record["adaptation"] = dict(self.adaptation)
            files[ADAPTERS_NAME] = self.adapters
            metrics |= {name: self.adaptation[name] for name in ("probe_mcc_before", "probe_mcc_after")}
        return Artifact({**files, RECORD_NAME: json_bytes(record)}, metrics)

    @classmethod
    def from_artifact(cls, published: PublishedArtifact) -> Self:
        """Read back what `to_artifact` gave; the weights are verified when they are read."""
        record = published.read_json(RECORD_NAME)
        adapters = published_file(published, ADAPTERS_NAME) if "adaptation" in record else None
        return cls(**record, weights=published_file(published, WEIGHTS_NAME), adapters=adapters)


def prepare_backbone(config: BackboneConfig, *, directory: Path) -> Backbone:
    """Build the configured model and stage its weights in `directory`.

    Raises:
        ConfigError: an unknown model or tag, weights that do not fit, a hub that cannot be reached, an
            input size at which the model does not run.
        StoreError: the weights cannot be written.
    """
    described = find_pretrained_cfg(config.architecture)
    arguments = size_arguments(described, config.input_size)
    model, licence, source = _load(config, described, arguments)
    _try_once(model, config)
    path = Path(directory) / WEIGHTS_NAME
    return Backbone(
        architecture=config.architecture.partition(".")[0],
        model_args=arguments,
        pretrained_cfg=_describe_input(described, config),
        num_features=int(model.num_features),
        licence=licence,
        source=source,
        weights=StagedFile.at(path, write_checkpoint_atomic(path, model)),
    )


def _load(
    config: BackboneConfig, described: Mapping[str, Any], arguments: Mapping[str, Any]
) -> tuple[Any, str, str]:
    """Return the model with its weights, their licence and where they come from."""
    if config.weights == PRETRAINED:
        origin = str(described.get("hf_hub_id") or described.get("url") or "")
        model = _load_from_hub(config.architecture, origin, arguments)
        return model, str(described.get("license") or "unknown"), f"hub: {origin}"
    model = create_model(config.architecture, seed=config.seed, num_classes=0, **arguments)
    if config.weights == RANDOM:
        return model, "none", f"random weights of seed {config.seed}"
    path = Path(config.weights).expanduser()
    digest = _load_from_file(model, path, classifier=described.get("classifier"))
    return model, "unknown", f"file: {path.name}, SHA-256 {digest}"


def _load_from_hub(architecture: str, origin: str, arguments: Mapping[str, Any]) -> Any:
    expected, where = f"pretrained weights of {architecture}", "weights of the backbone"
    if not origin:
        raise ConfigError(
            expected, "no weights that timm knows", where, "Choose another tag, or weights: random."
        )
    try:
        return create_model(architecture, seed=0, num_classes=0, pretrained=True, **arguments)
    except (OSError, RuntimeError) as error:
        # The hub's client raises OSError for everything the network does; timm adds RuntimeError.
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"{expected} from {origin}",
            f"the error '{reason}'",
            where,
            "Check the network, or fetch model.safetensors elsewhere and give its path as weights.",
        ) from error


def _load_from_file(model: Any, path: Path, *, classifier: Any) -> str:
    """Load a local file into the model, its head left out; return the file's SHA-256."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    if not path.is_file():
        raise ConfigError(
            "a .safetensors file",
            "no file",
            path,
            "Correct the path; it is relative to the working directory.",
        )
    try:
        data = path.read_bytes()
        state = without_head(load(data), classifier)
    except SafetensorError as error:
        raise ConfigError(
            "a readable .safetensors file", str(error), path, "Replace it by a whole copy."
        ) from error
    if find_mismatches(model.state_dict(), state):
        state = without_head(convert_foreign(model, state), classifier)
    load_exactly(model, state, where=str(path))
    return bytes_digest(data)


def _try_once(model: Any, config: BackboneConfig) -> None:
    """Prove that the model runs at the configured size, before anything is spent on it."""
    import torch

    size = config.input_size
    try:
        with torch.inference_mode():
            model.eval()(torch.zeros(1, 3, size, size))
    except (AssertionError, RuntimeError) as error:
        raise ConfigError(
            f"an input size at which {config.architecture} runs",
            f"{size} pixels: {str(error).splitlines()[0]}",
            "input_size of the backbone",
            "Choose a multiple of its patch size or stride, 224 for most models.",
        ) from error


def _describe_input(described: Mapping[str, Any], config: BackboneConfig) -> dict[str, Any]:
    """Return the preprocessing in timm's terms.

    `crop_pct` is 1: timm's 0.875 cuts away the edges of a picture, where cones and barriers stand.
    """
    from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    carried = {key: described[key] for key in _CARRIED if described.get(key) is not None}
    defaults = {"interpolation": "bicubic", "mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD}
    merged = {**defaults, **carried}
    return {
        **{key: list(value) if isinstance(value, tuple) else value for key, value in merged.items()},
        "input_size": [3, config.input_size, config.input_size],
        "crop_pct": 1.0,
        "crop_mode": config.crop_mode,
    }
