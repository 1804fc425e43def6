"""The classifier: a backbone with a new head of two outputs, None and Roadwork, and its hub format.

`hub_config` is the config.json with which timm (`local-dir:PATH`) and transformers (TimmWrapper) open the
same weights; `load_classifier` builds our own model from that same file, so there is one description of
the model and not two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streetvision_core.data.labels import LABEL_NAMES
from streetvision_core.errors import ConfigError
from streetvision_core.models.views import KEY, Views, find_views
from streetvision_core.models.zoo import create_model, load_exactly, without_head

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from streetvision_core.models.backbone import Backbone


def build_classifier(backbone: Backbone, *, head_hidden: int = 0, seed: int = 0) -> Any:
    """Return a `torch.nn.Module` with the backbone's weights and a new head, which says 0.5 of everything.

    Args:
        backbone: The starting weights.
        head_hidden: Width of the head's hidden layer; 0 for a linear head.
        seed: Seed of the hidden layer.

    Raises:
        ConfigError: the weights do not fit the model, or the architecture has no head of its own.
        IntegrityError: the weights are not those that were staged.
    """
    from streetvision_core.models.head import deepen_head

    model = create_model(backbone.architecture, seed=0, num_classes=len(LABEL_NAMES), **backbone.model_args)
    head = {name: tensor.zero_() for name, tensor in _head_state(model, backbone).items()}
    load_exactly(model, {**head, **backbone.read_state()}, where=f"the backbone {backbone.architecture}")
    if head_hidden:
        deepen_head(model, name=classifier_name(model), hidden=head_hidden, seed=seed)
    return model


def classifier_name(model: Any) -> str:
    """Return the name under which a timm model holds its classifier, "fc" or "head.fc" for instance.

    Raises:
        ConfigError: it has none, or several.
    """
    classifier = model.get_classifier()
    for name, module in model.named_modules():
        if module is classifier:
            return str(name)
    raise _no_classifier(type(model).__name__)


def _head_state(model: Any, backbone: Backbone) -> dict[str, torch.Tensor]:
    state = model.state_dict()
    body = without_head(state, backbone.pretrained_cfg.get("classifier"))
    head = {name: tensor for name, tensor in state.items() if name not in body}
    if not head:
        raise _no_classifier(backbone.architecture)
    return head


def _no_classifier(where: str) -> ConfigError:
    return ConfigError(
        "an architecture with a classifier", "none in it", where, "Choose another architecture."
    )


def hub_config(backbone: Backbone, *, head_hidden: int = 0, views: Views | None = None) -> dict[str, Any]:
    """Return the config.json of a classifier on this backbone, in the format of the Hugging Face hub.

    A head with a hidden layer is one that neither timm nor transformers can build: its config says so under
    `head_hidden`, and leaves out what makes transformers try. Many views stand in it under a key of their
    own, which timm and transformers leave alone: they open the same weights and look at the whole image.
    """
    opens = {"model_type": "timm_wrapper", "architectures": ["TimmWrapperForImageClassification"]}
    return {
        "architecture": backbone.architecture,
        "num_classes": len(LABEL_NAMES),
        "num_features": backbone.num_features,
        "label_names": list(LABEL_NAMES),
        **({"model_args": dict(backbone.model_args)} if backbone.model_args else {}),
        **({"head_hidden": head_hidden} if head_hidden else opens),
        "pretrained_cfg": {**backbone.pretrained_cfg, "num_classes": len(LABEL_NAMES), "custom_load": False},
        **({KEY: views.to_config()} if views else {}),
    }


def load_classifier(config: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> Any:
    """Build the `torch.nn.Module` of a hub config with these weights, in evaluation mode on the CPU.

    Many views of an image are no part of the module: `hub_transform` makes them, and `forward_batch` pools
    what the module says of each.

    Raises:
        ConfigError: timm has no such model, the weights do not fit it, or its views are none of ours.
    """
    views, model = find_views(config), _create(config)
    load_exactly(model, state, where=f"the classifier {config['architecture']}")
    if views is not None:
        from streetvision_core.models.pooling import check_attention

        check_attention(views, model.get_classifier())
    return model.eval()


def lay_out_classifier(config: Mapping[str, Any]) -> Any:
    """Build the `torch.nn.Module` of `load_classifier` without memory: names, shapes, dtypes.

    Raises:
        ConfigError: timm has no such model.
    """
    import torch

    with torch.device("meta"):
        return _create(config)


def _create(config: Mapping[str, Any]) -> Any:
    from streetvision_core.models.head import deepen_head

    arguments = config.get("model_args", {})
    model = create_model(config["architecture"], seed=0, num_classes=config["num_classes"], **arguments)
    if hidden := config.get("head_hidden", 0):
        deepen_head(model, name=classifier_name(model), hidden=hidden)
    return model
