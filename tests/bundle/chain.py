"""A real, tiny chain from images to a bundle, and ways to copy, change and forge bundles."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from streetvision_core.bundle import BundleConfig, Predictor, evaluate, export_bundle
from streetvision_core.bundle.layout import RECORD, BundleRecord
from streetvision_core.bundle.origin.provenance import provenance
from streetvision_core.data.conditions import ConditionsConfig
from streetvision_core.data.images import ImagesConfig, index_images
from streetvision_core.data.index import ImageIndex
from streetvision_core.data.opening import open_images
from streetvision_core.data.splits import Splits, SplitsConfig, assign_splits
from streetvision_core.errors import StreetVisionError
from streetvision_core.graph import POLICIES, STEPS
from streetvision_core.io import (
    Artifact,
    ArtifactStore,
    OutputFile,
    PrivateRecord,
    PublishedArtifact,
    StepManifest,
    StepRun,
    bytes_digest,
    content_digest,
    describe_step,
)
from streetvision_core.io.private import part_config, utc_now
from streetvision_core.io.published import PROVENANCE
from streetvision_core.policies.config import RecordedGate, RecordedScrc
from streetvision_core.policies.registry import published_policies
from streetvision_core.policies.scrc_fit import fit_scrc
from streetvision_core.policies.threshold import Thresholds, fit_threshold_policy

RUN = "20261121T093000-0a1b2c3d"
SHARES = SplitsConfig(seed=4)


# What every step that looks at images is made from.
SEEN = ("images", "splits", "conditions")


def _roles(step):
    """The roles that a step opens; the backbone is not adapted here."""
    return () if step == "backbone" else STEPS[step].roles


def publish(store, step, artifact, *, inputs, run_id=RUN, config=None, roles=None, anonymous=False):
    """Write, describe and publish an artifact, as the IO manager does."""
    outputs = store.write(store.directory(run_id, step), artifact)
    now = utc_now()
    seed = (config or {}).get("seed")
    config, paths = part_config(config or {}, declared=())
    private = PrivateRecord.of_this_machine(paths)
    manifest = describe_step(
        StepRun(
            step_name=step,
            run_id=run_id,
            dagster_run_id=f"{run_id[-8:]}-0000",
            code_version="1",
            config=config,
            inputs={name: published.reference for name, published in inputs.items()},
            outputs=outputs,
            roles=_roles(step) if roles is None else roles,
            metrics=artifact.metrics,
            started=now,
            finished=now,
            seed=seed,
            private_sha256=None if anonymous else store.write_private(store.directory(run_id, step), private),
        )
    )
    return store.publish(store.directory(run_id, step), manifest)


def draw_images(folder, *, per_class=60, seed=0):
    """Write coarse random patterns, no two alike; those of roadwork have an orange part.

    One in ten is labelled wrongly, so that temperature, threshold and mistakes mean something.
    """
    random = np.random.default_rng(seed)
    for label in ("None", "Roadwork"):
        (folder / label).mkdir(parents=True)
        for number in range(per_class):
            pixels = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
            if (label == "Roadwork") != (random.random() < 0.1):
                row, column = random.integers(0, 4, 2)
                pixels[row : row + 3, column : column + 3] = (255, 120, 0)
            image = Image.fromarray(pixels).resize((48, 48), Image.Resampling.BICUBIC)
            image.save(folder / label / f"{number:03d}.{'png' if number % 4 == 0 else 'jpg'}")


@dataclass(frozen=True, eq=False)
class Chain:
    """The artifacts of every step before the bundle, and the store they lie in."""

    store: ArtifactStore
    upstream: dict[str, PublishedArtifact]

    @property
    def splits(self) -> Splits:
        return Splits.from_artifact(self.upstream["splits"])

    @property
    def index(self) -> ImageIndex:
        return ImageIndex.from_artifact(self.upstream["images"])

    def pictures(self, *roles):
        return open_images(
            self.upstream["images"], self.splits, roles=roles, conditions=self.upstream["conditions"]
        )

    def publish(self, step, artifact, *, inputs=None, **options):
        """Publish a step, made from all that it must be made from unless `inputs` say otherwise."""
        names = STEPS[step].inputs + STEPS[step].added if inputs is None else inputs
        chosen = {name: self.upstream[name] for name in names}
        self.upstream[step] = publish(self.store, step, artifact, inputs=chosen, **options)
        return self.upstream[step]

    def export(self, directory, *, upstream=None, **config) -> Artifact:
        return export_bundle(
            upstream or self.upstream,
            config=BundleConfig(**config),
            images=self.pictures("val_test"),
            directory=directory,
        )

    def bundle(self, run_id=RUN, *, upstream=None, **config) -> Path:
        """Export, publish as the bundle of a run, and return the folder."""
        upstream = upstream or self.upstream
        directory = self.store.stage(run_id, "bundle")
        artifact = self.export(directory, upstream=upstream, **config)
        anonymous = config.get("lineage") == "redacted"
        published = publish(
            self.store, "bundle", artifact, inputs=upstream, run_id=run_id, anonymous=anonymous,
            config=BundleConfig(**config).model_dump(),
        )  # fmt: skip
        return published.directory


def small_recipe():
    """A training of a second, which learns the two classes of images."""
    from streetvision_core.training.config import TrainingConfig

    recipe = {
        "epochs": 6,
        "batch_size": 16,
        "optimizer": {"learning_rate": 3e-3, "ema_decay": 0.5},
        "hardware": {"num_workers": 0},
    }
    return TrainingConfig.model_validate(recipe)


def make_chain(root, *, training, seed=0, per_class=60, splits_config=SHARES) -> Chain:
    """Draw images and run every step up to the evaluation, for real."""
    from streetvision_core.inference.logits import predict_role
    from streetvision_core.models import BackboneConfig, prepare_backbone
    from streetvision_core.training.fit import TrainingFolders, fit_classifier

    draw_images(root / "pictures", seed=seed, per_class=per_class)
    store = ArtifactStore(root / "store")
    config = ImagesConfig(folder={"path": str(root / "pictures")})
    images = index_images(config, directory=store.stage(RUN, "images"))
    chain = Chain(store, {})
    chain.publish("images", images.to_artifact(), config=config.model_dump())
    splits = assign_splits(images.index, splits_config)
    chain.publish("splits", splits.to_artifact(), config=splits_config.model_dump())
    chain.publish("conditions", ConditionsConfig().conditions().to_artifact())
    backbone_config = BackboneConfig(architecture="test_resnet", weights="random", input_size=48)
    backbone = prepare_backbone(backbone_config, directory=store.stage(RUN, "backbone"))
    chain.publish("backbone", backbone.to_artifact(), config=backbone_config.model_dump())
    checkpoint = fit_classifier(
        backbone=backbone, index=chain.index, splits=chain.splits,
        images=chain.pictures("train", "val_select"), config=training,
        folders=TrainingFolders(store.stage(RUN, "phase1_checkpoint")), on_epoch=lambda _: None,
    )  # fmt: skip
    chain.publish("phase1_checkpoint", checkpoint.to_artifact(), config=training.model_dump(mode="json"))
    logits = predict_role(
        checkpoint, chain.splits.roles["val_calib"], index=chain.index,
        images=chain.pictures("val_calib"), projected=True,
    )  # fmt: skip
    chain.publish("val_calib_logits", logits.to_artifact())
    decide_and_evaluate(chain)
    return chain


# Loose enough for the few images of a test to be certified; of one step, so that some are deferred.
CERTIFIED = RecordedScrc(alpha=0.4, delta=0.2, steps=1)


def decide_and_evaluate(chain, *, run_id=RUN):
    """Run the steps behind the logits, as they are in `chain` now."""
    for kind, policy in POLICIES.items():
        fitted, config = FITS[kind](chain)
        chain.publish(policy.step, fitted.to_artifact(), run_id=run_id, config=config.model_dump())
    evaluate_again(chain, run_id=run_id)


def _fit_threshold(chain):
    _, given = fitted_on(chain)
    thresholds = fit_threshold_policy(**given)
    return thresholds, thresholds.policy.chosen_by


def _fit_gate(chain):
    from streetvision_core.policies.gate_fit import train_gate

    checkpoint, given = fitted_on(chain)
    config = RecordedGate(coverage=0.7)
    gate = train_gate(
        checkpoint, index=chain.index, splits=chain.splits, images=chain.pictures("train", "val_select"),
        config=config, checkpoint_version=given["checkpoint_version"],
    )  # fmt: skip
    return gate, config


def _fit_scrc(chain, config=CERTIFIED):
    _, given = fitted_on(chain)
    return fit_scrc(**given, config=config), config


# Each kind of policy as it is fitted on a chain, and the settings that its manifest records.
FITS = {"threshold": _fit_threshold, "gate": _fit_gate, "scrc": _fit_scrc}


def certify(chain, config):
    """Fit and publish scrc as `config` says."""
    scrc, _ = _fit_scrc(chain, config)
    chain.publish("scrc", scrc.to_artifact(), config=config.model_dump())
    return scrc.policy


def fitted_on(chain):
    from streetvision_core.inference.logits import Logits
    from streetvision_core.training.checkpoint import Checkpoint

    published, logits = chain.upstream["phase1_checkpoint"], chain.upstream["val_calib_logits"]
    checkpoint = Checkpoint.from_artifact(published)
    return checkpoint, {
        "select": checkpoint.val_select,
        "calib": Logits.from_artifact(logits),
        "checkpoint_version": published.manifest.data_version,
        "logits_version": logits.manifest.data_version,
    }


def build_predictor(chain, kind="threshold") -> Predictor:
    """Fold a policy of `chain` into its checkpoint, without a bundle."""
    return Predictor.of_checkpoint(checkpoint_of(chain), published_policies(chain.upstream)[kind])


def checkpoint_of(chain):
    from streetvision_core.training.checkpoint import Checkpoint

    return Checkpoint.from_artifact(chain.upstream["phase1_checkpoint"])


def evaluate_again(chain, *, run_id=RUN):
    """Evaluate the policies as they are in `chain` now."""
    evaluation = evaluate(
        checkpoint_of(chain),
        published_policies(chain.upstream),
        chain.splits.roles["val_test"],
        index=chain.index,
        images=chain.pictures("val_test"),
    )
    inputs = [step for step in STEPS["evaluation"].takes if step in chain.upstream]
    chain.publish("evaluation", evaluation.to_artifact(), inputs=inputs, run_id=run_id)


def read_thresholds(chain):
    return Thresholds.from_artifact(chain.upstream["thresholds"])


def copy(bundle, target):
    shutil.copytree(bundle, target)
    return target


def forge(bundle, target, *, files=None, manifest=None):
    """Copy a bundle with other files (None deletes), and make every digest fit again.

    This is what somebody does who tampers carefully; only what the files mean can give it away.
    """
    copy(bundle, target)
    for name, data in (files or {}).items():
        path = target / name
        if data is None:
            path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    old = StepManifest.load(target / "manifest.json")
    names = sorted(
        (set(old.output_artifacts) | set(files or {})) - {n for n, d in (files or {}).items() if d is None}
    )
    if RECORD not in (files or {}):
        record = BundleRecord.from_bytes((target / RECORD).read_bytes(), where="")
        checksums = {
            name: bytes_digest((target / name).read_bytes())
            for name in names
            if name != RECORD and not name.startswith("lineage/")
        }
        (target / RECORD).write_bytes(record.model_copy(update={"checksums": checksums}).to_bytes())
    if PROVENANCE in names and PROVENANCE not in (files or {}):
        listed = {name: (target / name).read_bytes() for name in names}
        (target / PROVENANCE).write_bytes(provenance_of(listed))
    write_manifest(target, old.model_copy(update=manifest or {}), names=names)
    return target


def provenance_of(files):
    """Return the provenance that follows from the listed files of a bundle and the manifests among them."""
    steps = [name[8:-5] for name in files if re.fullmatch(r"lineage/\w+\.json", name) and name != PROVENANCE]
    try:
        lineage = {step: StepManifest.from_bytes(files[f"lineage/{step}.json"], where=step) for step in steps}
        return provenance({name: bytes_digest(data) for name, data in files.items()}, lineage)
    except (StreetVisionError, KeyError):  # a manifest that is refused for itself, or is not there
        return files[PROVENANCE]


def write_manifest(folder, manifest, *, names):
    """Write `manifest` with the digests of the files `names` as they lie there now."""
    outputs = {}
    for name in names:
        data = (folder / name).read_bytes()
        outputs[name] = OutputFile(sha256=bytes_digest(data), size_bytes=len(data))
    version = content_digest({name: file.sha256 for name, file in outputs.items()})
    changed = manifest.model_copy(update={"output_artifacts": outputs, "data_version": version})
    (folder / "manifest.json").write_bytes(changed.to_bytes())


def names_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())
