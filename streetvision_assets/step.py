"""One execution of a step: what an asset needs around its one call into the core library.

`begin` opens the step's directory, remembers what it reads and when it started, and takes over what an
earlier run has published of exactly this code, configuration and input; `reused` gives that back as the
record that the core would compute. `result` turns the record into a MaterializeResult. The IO manager
writes and publishes it.

A person finds a run again by its tags: the commit of the code, and the source of its images. The first step
of the run sets them and not whoever starts it, so that runs from the browser have them too, and so that they
name a source that was taken from the store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import dagster as dg
from pydantic import BaseModel

from streetvision_assets.code_version import code_has_changed
from streetvision_assets.conventions import BODIES
from streetvision_assets.remembered import drawn_before
from streetvision_assets.resources import StoreResource, store_run_id
from streetvision_core.data.splits import digests_of_role
from streetvision_core.errors import MissingArtifactError, StreetVisionError
from streetvision_core.graph import LOGITS, LOOKS, STEPS
from streetvision_core.history.text import IMAGES, source_of
from streetvision_core.io import Artifact, PrivateRecord, json_digest, step_key
from streetvision_core.io.claims import forget_progress
from streetvision_core.io.ledger import count_looks, look_text, record_look, subject
from streetvision_core.io.private import git_state, local_paths, part_config, utc_now
from streetvision_core.io.published import require_one_chain
from streetvision_core.training.config import recipe_of

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from streetvision_core.io import ArtifactStore, InputArtifact, PublishedArtifact
    from streetvision_core.io.ledger import Share

COMMIT, DIRTY, SOURCE = "commit", "dirty", "source"


def tag_run(context: dg.AssetExecutionContext, images_config: Mapping[str, Any] | None) -> None:
    """Tag the run of a step with `commit` and `dirty`, and with `source` where that is known.

    Args:
        context: Dagster's context of the step.
        images_config: The configuration of the `images` that the step reads or makes, if it does.
    """
    if not context.instance.has_run(context.run.run_id):  # an asset that was called as a plain function
        return
    tags = {**_code_of(context.run.run_id)}
    if images_config is not None:
        kind, settings = source_of(images_config)
        tags[SOURCE] = f"{kind} {settings.get('path', '')}".strip()
    context.instance.add_run_tags(context.run.run_id, tags)


@lru_cache(maxsize=1)  # git takes its time
def _code_of(run_id: str) -> Mapping[str, str]:  # noqa: ARG001 - the code may be another in the next run
    """Return the tags of the code as it was at the first step of a run."""
    state = git_state()
    return {COMMIT: state.sha[:12], DIRTY: str(state.dirty).lower()}


R = TypeVar("R")
# The code version of a result whose code is unknown. No step ever has it, so no key leads to that result.
EDITED = "edited while it ran"


@dataclass(frozen=True)
class Metric:
    """A metric of the manifest that the page shows under a name for people, and so not under its own."""

    name: str
    also: tuple[str, ...] = ()  # further names of the very same number


class Record(Protocol):
    """The result that the core returns from a step; it can be written as an artifact."""

    def to_artifact(self) -> Artifact:
        """Return the files of the record."""


@dataclass(frozen=True)
class Step:
    """A step that has begun: its place in the store and everything its manifest will say.

    `config` is what everybody may see of the configuration; the paths in it are in `private`, which is
    None where nothing of this machine shall be recorded.

    `origin` is the artifact whose content lies in `directory` already, where there was one to take over.
    `resume` is where the computation may keep how far it has come; it is removed with the publication.
    `looked` are the metrics of this run's own that say how often its images were looked at.
    """

    name: str
    run_id: str
    dagster_run_id: str
    code_version: str
    directory: Path
    resume: Path
    config: Mapping[str, Any]
    private: PrivateRecord | None
    inputs: Mapping[str, PublishedArtifact]
    roles: tuple[str, ...]
    started: datetime
    instance: dg.DagsterInstance
    log: dg.DagsterLogManager
    store: ArtifactStore
    origin: PublishedArtifact | None = None
    looked: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def begin(
        cls,
        context: dg.AssetExecutionContext,
        store: StoreResource,
        config: BaseModel | None,
        *inputs: PublishedArtifact,
        roles: tuple[str, ...] | None = None,
        reusable: bool = True,
        anonymous: bool = False,
    ) -> Step:
        """Open the directory of this step in this run and note which artifacts and roles it reads.

        Args:
            context: Dagster's context of the asset.
            store: The store.
            config: The asset's configuration; None where it has none.
            inputs: The artifacts that it reads.
            roles: The roles of the images that it opens; by default those of the table where it reads images.
            reusable: Whether code, configuration and inputs are all that decides the result.
            anonymous: Whether nothing of this machine shall be recorded.

        Raises:
            IntegrityError: the inputs were not made from each other.
        """
        run_id, name = store_run_id(context.instance, context.run.run_id), context.asset_key.path[-1]
        given = {artifact.manifest.step_name: artifact for artifact in inputs}
        require_one_chain(given, step=name)
        opened = store.open()
        code_version = context.assets_def.code_versions_by_key[context.asset_key] or ""
        settings = recipe_of(config) if config else {}
        tag_run(context, settings if name == IMAGES else given[IMAGES].config() if IMAGES in given else None)
        declared = local_paths(config) if config else frozenset()
        recipe, paths = part_config(settings, declared=declared)
        # The key does not see what is hidden. Of declared paths the caller knows whether they decide.
        reusable = reusable and paths.keys() <= declared
        key = step_key(
            step=name,
            code_version=code_version,
            config_hash=json_digest(recipe),
            inputs={step: artifact.manifest.data_version for step, artifact in given.items()},
        )
        step = cls(
            name=name,
            run_id=run_id,
            dagster_run_id=context.run.run_id,
            code_version=code_version,
            directory=opened.stage(run_id, name),
            resume=opened.resume_directory(name, key),
            config=recipe,
            private=None if anonymous else PrivateRecord.of_this_machine(paths),
            inputs=given,
            roles=(STEPS[name].roles if IMAGES in given else ()) if roles is None else roles,
            started=utc_now(),
            instance=context.instance,
            log=context.log,
            store=opened,
        )
        if not (store.reuse and reusable):
            forget_progress(step.resume, root=opened.root)
            return step
        return replace(step, origin=_take_over(opened, step.directory, key, context.log))

    @property
    def references(self) -> Mapping[str, InputArtifact]:
        """Its inputs as its manifest names them."""
        return {name: given.reference for name, given in self.inputs.items()}

    def look(self, *, share: Share | None = None) -> Step:
        """Record in the ledger that this step looks at its role, before it does; also where it is reused.

        Args:
            share: The share of delta that a certificate takes.

        Raises:
            ConfigError: the budget of looks is used up.
            StreetVisionError: the ledger is damaged, or cannot be written.
        """
        versions = {name: given.manifest.data_version for name, given in self.inputs.items()}
        looked = record_look(
            self.store,
            subject(self.name, versions, config_hash=json_digest(self.config)),
            self._digests(LOOKS[self.name]),
            run_id=self.run_id,
            share=share,
        )
        return replace(self, looked=looked.metrics)

    def count_looks(self) -> Step:
        """Note how often each role that judges was looked at, where this step itself does not look."""
        counts = {f"{role}_looks": count_looks(self.store, self._digests(role)) for role in LOOKS.values()}
        return replace(self, looked={name: count for name, count in counts.items() if count})

    def _digests(self, role: str) -> list[str]:
        """Return the digests of the images of a role, also where the step reads nothing but their logits."""
        images, splits = (
            self.inputs.get(name) or self.store.input_of(self.inputs[LOGITS], name)
            for name in (IMAGES, "splits")
        )
        return digests_of_role(images, splits, role)

    def reused(self, read: Callable[[PublishedArtifact], R]) -> R | None:
        """Return what was taken over, read back as the record that the core computes; None if nothing was."""
        return read(self.origin) if self.origin else None

    def result(
        self,
        record: Record | Artifact,
        *,
        shown: Callable[[], Mapping[str, dg.MetadataValue]] = dict,
        facts: Mapping[str, str | float | Metric] | None = None,
        device: str = "cpu",
        seed: int | None = None,
    ) -> dg.MaterializeResult[StepOutput]:
        """Return the record as what Dagster materializes, under the digest of its content.

        Args:
            record: What the core has made.
            shown: Draws the images and tables of it for the UI, when no earlier run has.
            facts: Texts and numbers by name, which a person comes to the page for. They stand first there,
                because the page hides tables and plots behind a click.
            device: Where it was computed.
            seed: The seed that was used, if any.
        """
        artifact = record if isinstance(record, Artifact) else record.to_artifact()
        step = self
        if self.origin is None and code_has_changed(BODIES[self.name]):
            self.log.warning(
                "the code of %s was edited while it ran; no later run will take over what it made", self.name
            )
            step = replace(self, code_version=EDITED)
        digest = self.origin.manifest.data_version if self.origin else artifact.digest
        metadata = {
            name: artifact.metrics[fact.name] if isinstance(fact, Metric) else fact
            for name, fact in (facts or {}).items()
        }
        if self.looked and self.name in LOOKS:
            metadata[f"looks at {LOOKS[self.name]}"] = look_text(self.looked)
        metrics = [fact for fact in (facts or {}).values() if isinstance(fact, Metric)]
        renamed = frozenset(name for metric in metrics for name in (metric.name, *metric.also))
        # An older version may have drawn under the name of a fact.
        drawn = self._drawn_before() or shown()
        return dg.MaterializeResult(
            value=StepOutput(step=step, artifact=artifact, device=device, seed=seed, renamed=renamed),
            data_version=dg.DataVersion(digest),
            metadata={**metadata, **{name: value for name, value in drawn.items() if name not in metadata}},
        )

    def _drawn_before(self) -> Mapping[str, dg.MetadataValue]:
        if self.origin is None:
            return {}
        computed = self.origin.manifest.reused_from or self.origin.manifest
        return drawn_before(self.instance, computed.dagster_run_id, self.name)


@dataclass(frozen=True)
class StepOutput:
    """The value that an asset hands to the IO manager."""

    step: Step
    artifact: Artifact
    device: str
    seed: int | None
    renamed: frozenset[str] = frozenset()


def previous_artifact(
    context: dg.AssetExecutionContext, store: StoreResource, step: Step
) -> PublishedArtifact | None:
    """Return what this very code published last, whatever its configuration and input; None if nothing."""
    try:
        current = store.open().resolve(step.name)
    except MissingArtifactError:
        return None
    except StreetVisionError as error:
        problems = [str(error)]
    else:
        problems = current.problems()
    if problems:
        context.log.warning("what was published last is of no help: %s", "; ".join(problems))
        return None
    return current if current.manifest.code_version == step.code_version else None


def _take_over(
    store: ArtifactStore, directory: Path, key: str, log: dg.DagsterLogManager
) -> PublishedArtifact | None:
    """Fill the directory from an earlier run; where that is damaged, warn, and compute again."""
    try:
        origin = store.take_over(directory, step_key=key)
    except StreetVisionError as error:
        log.warning("computed again, because what was published cannot be taken over. %s", error)
        return None
    if origin is not None:
        log.info("taken over from run %s: same code, configuration and inputs", origin.manifest.run_id)
    return origin
