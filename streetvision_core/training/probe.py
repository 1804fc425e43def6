"""The probe: heads on features of a backbone that stays as it is, many at once.

`FrozenBackbone` gives the features, which are computed once and cached.

One head for each pair of a learning rate and a weight decay, all of one shape, trained in one pass on the
same batches; each has a loss, gradients and averaged weights of its own, as if it were alone. The epoch's
row is that of the head which does best on val_select, and the best epoch's best head is the result.

Where an image is many views, a head says something of each, and that is pooled to what it says of the
image. With the pooling "attention" each head learns how to weigh the views as well.

Features are standardised with the mean and the standard deviation of train, so that one range of learning
rates fits every backbone. That is folded into the head's first layer in the end: what comes out is a head on
the backbone's own features. So is the attention's score.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import Dataset

from streetvision_core.errors import ConfigError
from streetvision_core.inference.cached_features import Features, feature_key, image_features
from streetvision_core.models import build_classifier, hub_config
from streetvision_core.models.classifier import classifier_name
from streetvision_core.models.head import head_layers, make_head
from streetvision_core.models.pooling import ViewPooling
from streetvision_core.models.preprocessing import eval_transform
from streetvision_core.models.views import Views, make_views
from streetvision_core.training.config import PROBE, TrainingConfig
from streetvision_core.training.data import Batch, EpochBatches, Look, make_loader
from streetvision_core.training.loop import BestEpoch, Plan, Saving, run_training
from streetvision_core.training.losses import LABEL_SMOOTHING, class_weights, image_losses, soft_targets
from streetvision_core.training.module import TrainingModule
from streetvision_core.training.report import CandidateRow, EpochReport
from streetvision_core.training.seeds import torch_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from streetvision_core.data.decoding.decode import ImageReader
    from streetvision_core.models.backbone import Backbone
    from streetvision_core.training.throughput import Throughput

ROWS = 4096
# A head is trained for each pair: on features of mean 0 and spread 1 the best ones of all backbones that were
# tried lie within these ranges, and one pass trains them all.
LEARNING_RATES = (0.0003, 0.001, 0.003, 0.01)
WEIGHT_DECAYS = (0.0, 0.05, 0.5)
# Before the names of the attention's tensors, which are no part of the classifier.
POOLING_PREFIX = "views."
_SMALLEST_SPREAD = 1e-3
# Draws of each image of train under conditions that a probe takes in turn.
TRAIN_DRAWS = 4


class FrozenBackbone:
    """Gives features of named images; `classifier` is the name of the head that would take them.

    `views` says how many views an image is; a pooling by attention has parameters of zero in it.
    """

    def __init__(
        self, backbone: Backbone, *, config: TrainingConfig, reader: ImageReader, cache: Path
    ) -> None:
        self._model = build_classifier(backbone)
        self.classifier = classifier_name(self._model)
        layers = head_layers(self._model.get_classifier())
        if not layers:
            raise _no_features(f"a {type(self._model.get_classifier()).__name__}", backbone)
        width = layers[0].in_features
        self.views = make_views(config.views, attention=(0.0,) * (width + 1))
        self._transform = eval_transform(backbone.pretrained_cfg, views=self.views)
        self._reader = reader
        self._cache = cache
        # Once for all roles and views: it hashes the weights.
        key = feature_key(self._model, self._transform, config=hub_config(backbone))
        if key is None:
            raise _no_features("one whose features are not all that its logits are made of", backbone)
        self._key = key

    def features(self, names: Sequence[str], *, draw: int = 0) -> Features:
        """Return the features of images in their order; of many views [V, D] an image, else [D].

        Args:
            names: The images.
            draw: Which draw of each under the conditions.
        """
        return image_features(
            self._model,
            names,
            self._reader,
            transform=self._transform,
            key=self._key,
            cache=self._cache,
            draw=draw,
        )

    def train_views(self, names: Sequence[str]) -> list[Features]:
        """Return the views of train that epochs take in turn: one, or under conditions several draws."""
        conditions = self._reader.conditions
        drawn = conditions is not None and not conditions.is_as_is
        return [self.features(names, draw=draw) for draw in (range(1, TRAIN_DRAWS + 1) if drawn else [0])]


def _no_features(found: str, backbone: Backbone) -> ConfigError:
    expected = "an architecture whose classifier is a linear layer"
    action = "Choose another architecture for a probe, or train it with method: finetune."
    return ConfigError(expected, found, backbone.architecture, action)


class Heads(nn.Module):
    """Heads of one shape on features with this mean and standard deviation [D]; each starts alike."""

    def __init__(
        self,
        count: int,
        *,
        mean: torch.Tensor,
        std: torch.Tensor,
        hidden: int,
        seed: int,
        views: Views | None = None,
    ) -> None:
        super().__init__()
        self.heads = nn.ModuleList(make_head(len(mean), hidden=hidden, seed=seed) for _ in range(count))
        poolings = [ViewPooling(views, num_features=len(mean)) for _ in range(count)] if views else []
        self.poolings = nn.ModuleList(poolings)
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.register_buffer("mean", mean.float())
        self.register_buffer("std", std.float())

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the logits of each head, float32 [S, B, 2], of features [B, D] or [B, V, D]."""
        standard = (features - self.mean) / self.std
        rows = self._classify(standard.flatten(0, -2))
        logits = rows.reshape(len(rows), *features.shape[:-1], rows.shape[-1])
        if not self.poolings:
            return logits
        poolings = zip(self.poolings, logits, strict=True)
        return torch.stack([pool(view_logits, standard) for pool, view_logits in poolings])

    def _classify(self, rows: torch.Tensor) -> torch.Tensor:
        """Return what each head says of rows [N, D]: all heads at once, [S, N, 2]."""
        values = rows.expand(len(self.heads), *rows.shape)
        columns = zip(*(head_layers(head) for head in self.heads), strict=True)
        for depth, layers in enumerate(columns):
            weight = torch.stack([layer.weight for layer in layers])
            bias = torch.stack([layer.bias for layer in layers])[:, None]
            values = torch.baddbmm(bias, functional.gelu(values) if depth else values, weight.mT)
        return values

    def folded(self, number: int) -> tuple[nn.Module, Mapping[str, torch.Tensor]]:
        """Return a copy of one head that takes features as they are, and the tensors of its pooling."""
        head = copy.deepcopy(self.heads[number])
        pooling = copy.deepcopy(self.poolings[number]) if self.poolings else nn.Module()
        for layer in (head_layers(head)[0], *head_layers(pooling)):
            with torch.no_grad():
                weight = layer.weight.double() / self.std.double()
                layer.bias.copy_(layer.bias.double() - weight @ self.mean.double())
                layer.weight.copy_(weight)
        return head, pooling.state_dict()


class ProbeModule(TrainingModule):
    """The heads in training."""

    kind = PROBE

    def __init__(self, heads: Heads, *, classifier: str, **common: Any) -> None:
        super().__init__(heads, **common)
        self.model: Heads
        self._classifier = classifier
        if not self.candidates:
            self.candidates = new_candidates()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return a group for the weights of each head in their order, then one for the biases of each."""
        learned = [head_layers(head) for head in self.model.heads]
        for layers, pooling in zip(learned, self.model.poolings, strict=False):  # or there are no poolings
            layers.extend(head_layers(pooling))

        def group(part: str, number: int, weight_decay: float) -> dict[str, Any]:
            parameters = [getattr(layer, part) for layer in learned[number]]
            rate = self.candidates[number].learning_rate
            return {"params": parameters, "lr": rate, "weight_decay": weight_decay}

        decays = [candidate.weight_decay for candidate in self.candidates]
        weights = [group("weight", number, decay) for number, decay in enumerate(decays)]
        return weights + [group("bias", number, 0.0) for number in range(len(learned))]

    def learning_rates(self) -> list[float]:
        """Return the learning rate of each head at the last step."""
        groups = self.trainer.optimizers[0].param_groups
        return [float(group["lr"]) for group in groups[: len(self.candidates)]]

    def trained_state(self) -> Mapping[str, torch.Tensor]:
        """Return the best head's averaged weights by their names in the classifier, and its attention's."""
        head, pooling = self.ema.module.folded(self.best_candidate)
        return {
            **{f"{self._classifier}.{name}": tensor for name, tensor in head.state_dict().items()},
            **{POOLING_PREFIX + name: tensor for name, tensor in pooling.items()},
        }

    def batch_losses(self, batch: Batch) -> torch.Tensor:
        """Return each head's mean loss of a batch of features [B, D], float32 [S]."""
        targets = soft_targets(batch.labels, smoothing=LABEL_SMOOTHING)
        losses = image_losses(
            self.model(batch.inputs), targets, self.class_weights, gamma=self.config.loss.gamma
        )
        return losses.mean(-1)

    def validate_batch(self, batch: Batch) -> torch.Tensor:
        """Return each averaged head's logits, float32 [S, B, 2]."""
        logits: torch.Tensor = self.ema.module.eval()(batch.inputs)
        return logits


def new_candidates() -> tuple[CandidateRow, ...]:
    """Return what each head is trained with."""
    pairs = product(LEARNING_RATES, WEIGHT_DECAYS)
    return tuple(CandidateRow(learning_rate=rate, weight_decay=decay) for rate, decay in pairs)


@dataclass(frozen=True)
class ProbeData:
    """Features of val_select, and of train one or more views of each image, which epochs take in turn."""

    views: Sequence[Features]
    labels: Sequence[int]
    validation: Features
    validation_labels: Sequence[int]


def train_probe(
    data: ProbeData,
    *,
    classifier: str,
    config: TrainingConfig,
    best: BestEpoch,
    saving: Saving,
    on_epoch: Callable[[EpochReport], None],
    pooling: Views | None = None,
) -> tuple[ProbeModule, Throughput]:
    """Train the heads; return the module with its rows and candidates, and how fast it was.

    Args:
        data: What it is trained and validated on.
        classifier: The name of the head in the classifier.
        config: The recipe.
        best: Stages the best head.
        saving: Where epochs are saved, and those that an earlier run has trained.
        on_epoch: Called after each epoch.
        pooling: How views [B, V, D] are pooled; None for features [B, D].
    """
    mean, std = spread_of(data.views)
    batches = EpochBatches(len(data.labels), batch_size=config.batch_size, seed=config.seed)
    known = saving.saved
    number, hidden = len(new_candidates()), config.head_hidden
    heads = Heads(number, mean=mean, std=std, hidden=hidden, seed=config.seed, views=pooling)
    module = ProbeModule(
        heads,
        classifier=classifier,
        config=config,
        class_weights=class_weights(data.labels),
        steps_per_epoch=batches.steps,
        rows=known.rows if known else (),
        candidates=known.candidates if known else (),
    )
    loader = make_loader(_FeatureBatches(data.views, data.labels), batches, workers=0)
    # On so little work a second thread costs more than it does, far more where the cores are busy.
    with torch_threads(1):
        speed = run_training(
            module,
            loader,
            _Chunks(data.validation, data.validation_labels),
            plan=Plan(config.epochs),
            best=best,
            saving=saving,
            on_epoch=on_epoch,
        )
    return module, speed


def spread_of(views: Sequence[Features]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and standard deviation of features over all images and views, float64 [D] each.

    A feature that hardly varies counts as if it varied a thousandth as much as the others do.
    """
    total = number = 0
    chunks = [(view, rows) for view in views for rows in _chunks(view)]
    for view, rows in chunks:
        values = _flat(view[rows])
        total, number = total + values.sum(0), number + len(values)
    mean = total / number
    squares = sum(((_flat(view[rows]) - mean) ** 2).sum(0) for view, rows in chunks)
    std = np.sqrt(squares / number)
    floor = _SMALLEST_SPREAD * float(np.sqrt(np.mean(std**2))) or 1.0
    return torch.from_numpy(mean), torch.from_numpy(np.maximum(std, floor))


def _chunks(features: Features) -> list[range]:
    positions = range(len(features))
    return [positions[start : start + ROWS] for start in positions[::ROWS]]


def _flat(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    return features.reshape(-1, features.shape[-1]).astype(np.float64)


class _FeatureBatches(Dataset[Batch]):
    """Batches of features by looks; each epoch takes the next view."""

    def __init__(self, views: Sequence[Features], labels: Sequence[int]) -> None:
        self._views = views
        self._labels = torch.tensor(labels, dtype=torch.int64)

    def __getitem__(self, looks: Sequence[Look]) -> Batch:
        epoch = looks[0][0]
        positions = [position for _, position in looks]
        rows = self._views[epoch % len(self._views)][positions]
        return Batch(torch.from_numpy(rows), self._labels[positions])


class _Chunks:
    """All features in their order, as batches of at most `ROWS`."""

    def __init__(self, features: Features, labels: Sequence[int]) -> None:
        self._features, self._rows = features, _chunks(features)
        self._labels = torch.tensor(labels, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Batch]:
        for rows in self._rows:
            yield Batch(torch.from_numpy(self._features[rows]), self._labels[rows.start : rows.stop])
