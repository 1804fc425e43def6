"""A toy task that is learnt in seconds: an image is roadwork where it holds an orange square."""

import hashlib
from io import BytesIO
from types import SimpleNamespace

import numpy as np
from PIL import Image

from streetvision_core.data import ROLES, ImageIndex
from streetvision_core.data.decoding.decode import ImageReader
from streetvision_core.errors import IntegrityError
from streetvision_core.io import ArtifactStore, create_step_manifest
from streetvision_core.models import BackboneConfig, prepare_backbone
from streetvision_core.recorded import from_recorded
from streetvision_core.training import TrainingConfig, TrainingFolders, fit_classifier

SIZE = 40


def draw(number: int, label: int, *, size: int = SIZE) -> bytes:
    """A PNG of smooth noise, with an orange square where the label is 1."""
    random = np.random.default_rng(number)
    image = Image.fromarray(random.integers(40, 200, (4, 4, 3), dtype=np.uint8))
    image = image.resize((size, size), Image.Resampling.BICUBIC)
    if label:
        image.paste((255, 110, 0), (size // 4, size // 4, size * 3 // 4, size * 3 // 4))
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


class Reader(ImageReader):
    """Gives the images of a mapping; counts what was read."""

    def __init__(self, pictures, conditions=None):
        digests = [(name, hashlib.sha256(data).hexdigest()) for name, data in pictures.items()]
        index = SimpleNamespace(
            pictures=[SimpleNamespace(name=name, sha256=sha256) for name, sha256 in digests]
        )
        super().__init__(None, index, conditions=conditions)
        self.pictures = pictures
        self.reads = []
        self.damaged = set()

    def read(self, name):
        self.reads.append(name)
        if name in self.damaged:
            raise IntegrityError(f"the image {name}", "other bytes", "the toy", "Restore it.")
        return self.pictures[name]


def make_toy(*, train=12, others=6, conditions=None):
    """Return index, splits and reader of a toy task; classes alternate."""
    counts = dict(zip(ROLES, (train, others, others, others), strict=True))
    roles, pictures, data = {}, [], {}
    for role, count in counts.items():
        names = tuple(f"{role}/{i:03d}.png" for i in range(count))
        roles[role] = names
        for i, name in enumerate(names):
            data[name] = draw(len(data), i % 2)
            digest, group = hashlib.sha256(data[name]).hexdigest(), f"{role}/{i // 2}"
            pictures.append(SimpleNamespace(name=name, label=i % 2, sha256=digest, group=group))
    index = ImageIndex(tuple(sorted(pictures, key=lambda image: image.name)))
    return SimpleNamespace(index=index, splits=SimpleNamespace(roles=roles), reader=Reader(data, conditions))


def make_backbone(directory, *, architecture="test_resnet", input_size=32, **options):
    config = BackboneConfig(architecture=architecture, input_size=input_size, **options)
    return prepare_backbone(config, directory=directory)


def recipe(**changes):
    """A recipe for a dozen images; settings may be given flat, as older versions recorded them."""
    settings = {
        "epochs": 2,
        "batch_size": 6,
        "learning_rate": 3e-3,
        "ema_decay": 0.5,
        "num_workers": 0,
    }
    return TrainingConfig.model_validate(from_recorded("phase1_checkpoint", {**settings, **changes}))


def fit(
    backbone,
    toy,
    directory,
    *,
    resume=None,
    features=None,
    tensorboard_to=None,
    on_epoch=lambda _: None,
    **changes,
):
    return fit_classifier(
        backbone,
        index=toy.index,
        splits=toy.splits,
        images=toy.reader,
        config=recipe(**changes),
        folders=TrainingFolders(directory, resume, features, tensorboard_to),
        on_epoch=on_epoch,
    )


RUN = "20261121T093000-0a1b2c3d"


def stage(store_root):
    """Return the empty directory of the step in a store, for large files."""
    return ArtifactStore(store_root).stage(RUN, "step")


def publish(artifact, store_root, *, step="step"):
    """Publish an artifact whose large files already lie in the step's directory of the store."""
    store = ArtifactStore(store_root)
    directory = store.directory(RUN, step)
    names = store.write(directory, artifact)
    manifest = create_step_manifest(
        step_name=step,
        input_paths=[],
        output_paths=[directory / name for name in names],
        output_dir=directory,
        config={},
        run_id=RUN,
        metrics=dict(artifact.metrics),
    )
    return store.publish(directory, manifest)
