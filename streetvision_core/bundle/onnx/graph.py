"""The network of `model.onnx`: pixels of whole images or of views go in, and answers come out.

Normalisation, the views' pooling and the policy's margins are part of it; temperature and threshold are in
the weights. The file does not tell where and when it was exported: torch writes paths of source code into
every node, and these are removed.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from streetvision_core.bundle.onnx import specification as spec
from streetvision_core.errors import BundleError
from streetvision_core.models.views import MAX, TOP_K

if TYPE_CHECKING:
    import torch

    from streetvision_core.inference.predictor import Predictor
    from streetvision_core.models.preprocessing import Preprocessing
    from streetvision_core.models.views import Views

_BESIDE = ("metadata_props", "doc_string")  # where torch writes of the source code


def onnx_bytes(predictor: Predictor, specification: spec.Specification) -> bytes:
    """Return `model.onnx` for a predictor; needs the extra `onnx`.

    Raises:
        BundleError: torch cannot export this network.
    """
    import torch

    network = _network(predictor, specification.answers)
    outputs = [spec.LOGITS, spec.PROBABILITY, *([spec.DECISION] if specification.answers else [])]
    # Two images: of one torch would take the number for a constant.
    example = torch.zeros((2, *map(int, specification.shape[1:])), dtype=torch.uint8)
    try:
        program = torch.onnx.export(
            network,
            (example,),
            input_names=[spec.PIXELS],
            output_names=outputs,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=spec.OPSET,
            verbose=False,
        )
    except (torch.onnx.OnnxExporterError, RuntimeError, ValueError) as error:
        raise BundleError(
            "a network that torch can export",
            _cause(error).partition("\n")[0],
            predictor.config["architecture"],
            "Leave onnx off: the bundle opens in timm and transformers all the same.",
        ) from error
    assert program is not None
    model = program.model_proto
    _strip(model.graph)
    for each in _BESIDE:
        model.ClearField(each)
    model.metadata_props.add(key=spec.METADATA, value=specification.to_bytes().decode())
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _cause(error: BaseException) -> str:
    """Return the text of the first error of a chain; those above it only say where torch was."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip()


def _strip(graph: Any) -> None:
    graph.ClearField("value_info")
    for part in (graph, *graph.input, *graph.output, *graph.initializer, *graph.node):
        for each in _BESIDE:
            part.ClearField(each)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _strip(attribute.g)


def _network(predictor: Predictor, answers: spec.Answers | None) -> torch.nn.Module:
    import torch

    from streetvision_core.models.classifier import classifier_name
    from streetvision_core.models.preprocessing import hub_transform

    transform: Preprocessing = hub_transform(predictor.config)
    views = transform.views

    class Network(torch.nn.Module):
        """A network in two parts: the body gives the features, which the rest takes."""

        def __init__(self) -> None:
            super().__init__()
            self.body, name = copy.deepcopy(predictor.model), classifier_name(predictor.model)
            self.classifier = self.body.get_submodule(name)
            self.body.set_submodule(name, torch.nn.Identity())

        def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
            images = pixels if views is None else pixels.flatten(0, 1)
            features = self.body(transform.normalise(images))
            count = 1 if views is None else views.count
            rows = features.reshape(-1, count, features.shape[-1])
            logits = _pool(self.classifier(features).reshape(-1, count, 2), rows, views)
            margins = logits[:, 1] - logits[:, 0]
            probability = torch.sigmoid(margins)
            return (logits, probability, *([_decide(margins, answers)] if answers else []))

    return Network().eval()


def _pool(logits: torch.Tensor, features: torch.Tensor, views: Views | None) -> torch.Tensor:
    """Return `pool_logits`; the largest are found by counting, because ONNX has no stable sort."""
    import torch

    from streetvision_core.models.pooling import pool_logits

    number = {MAX: 1, TOP_K: views.top_k}.get(views.pooling) if views else None
    if number is None:
        return pool_logits(logits, features, views=views)
    margins = logits[:, :, 1].double() - logits[:, :, 0].double()
    mine, others = margins[:, :, None], margins[:, None, :]
    earlier = torch.ones(others.shape[-1], others.shape[-1], dtype=torch.bool).tril(-1)
    before = ((others > mine) | ((others == mine) & earlier)).sum(dim=2)
    return (logits * (before < number)[:, :, None]).sum(dim=1) / number


def _decide(margins: torch.Tensor, answers: spec.Answers) -> torch.Tensor:
    """Return 0 (none), 1 (roadwork) or 2 (deferred) for margins [N]."""
    import torch

    bounds = {
        code: torch.full_like(margins, float("nan") if bound is None else bound)
        for code, bound in ((0, answers.none_to), (1, answers.roadwork_from))
    }
    roadwork = torch.where(margins >= bounds[1], 1, 2)
    return torch.where(margins > 0, roadwork, torch.where(margins <= bounds[0], 0, 2))
