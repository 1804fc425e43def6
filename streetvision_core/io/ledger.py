"""The ledger: how often images were looked at, so that a result can say which look it comes from.

Whoever certifies ten models on the same images and keeps the best has a promise that fails more often than it
says, and the best of many runs by val_test is better there than elsewhere. So each look is written down, for
good, before the images are read: a threshold tuned or a certificate given on val_calib, a report on val_test.

    ledger/<key>.json         one look, named by the digest of what it was: step, images, checkpoint, policy,
                              conditions. Written once, never changed, never removed
    ledger/images/<sha256>    the set of images: their SHA-256, 32 bytes each, sorted, each once. Named by the
                              SHA-256 of the file, so that all looks at the same images share it

The same look again is no new look. Two looks share images if their sets have one image in common, whatever
roles they had: one image more or less starts no new count. The store is held alone while a look is counted
and written, the set before the look, each durable (`atomic.py`). So two processes count twice where their
looks differ, and a kill leaves a look that is counted, or none and a temporary file that is swept later.

A certificate takes its share of delta. Under a budget of N looks that is delta / N (Bonferroni). A look is
refused if with it the certificates that share its images would together take more than the least of their
deltas. After a certificate with a budget none is given without one: the earlier promises would not hold.
Promises of different steps are of different kinds, and each kind has its own sum. Another checkpoint that was
looked at without a certificate takes a share too: it might have been the one to certify.

What is damaged here is an error and never left out, for a look that is not counted makes a promise look
better than it is. A store of a version that kept no ledger has none: its looks are not recorded.

Not promised: looks at copies of images in another store, at re-encoded images, or by other software.
"""

from __future__ import annotations

import json
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, FiniteFloat, StringConstraints, ValidationError

from streetvision_core.errors import ConfigError, IntegrityError, SchemaError, StoreError, field_faults
from streetvision_core.graph import CHECKPOINT, POLICY_STEPS
from streetvision_core.io.atomic import write_file_atomic
from streetvision_core.io.claims import refuse_links
from streetvision_core.io.encode import bytes_digest, json_bytes, json_digest, parse_json
from streetvision_core.io.manifest import Sha256, StepName
from streetvision_core.io.names import is_partial
from streetvision_core.io.records import Record
from streetvision_core.io.system import open_directory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from streetvision_core.io.manifest import StepManifest
    from streetvision_core.io.store import ArtifactStore
    from streetvision_core.io.system import Directory

LEDGER, IMAGES = "ledger", "images"
SCHEMA_VERSION = 1
AS_IS = "as_is"
# The metrics of a manifest: which look its result comes from, and how many there were when it was published.
NUMBER, SO_FAR = "look_number", "looks_so_far"
_DIGEST_BYTES = 32
_MOST_IMAGES, _MOST_RECORD_BYTES = 10_000_000, 4096
# Ten tenths of delta are delta, which floating point does not know.
_ROUNDING = 1e-9
_KEPT = "Keep what an earlier run certified ('streetvision runs {}' lists them). Or: "
_RESTORE = (
    "Nothing was counted, because a look that is left out makes a promise look better than it is. Bring the"
    " file back from a copy of the store; without one, go on in a new store, with images that no model of"
    " this one was judged by."
)


class Subject(Record):
    """The subject of a look: `step` judges `checkpoint` by `policy`, under `conditions`.

    `policy` is the digest of what decides: of the configuration of the step, or of the policies that a
    report judges. `conditions` is `as_is`: under others another checkpoint is trained.
    """

    step: StepName
    checkpoint: Sha256
    policy: Sha256
    conditions: Annotated[str, StringConstraints(pattern=r"^(as_is|[0-9a-f]{64})$")] = AS_IS


class Share(Record):
    """The share of `delta` that one certificate takes; `budget` is how many may, None for any number."""

    delta: Annotated[FiniteFloat, Field(gt=0, lt=1)]
    budget: Annotated[int, Field(ge=1)] | None = None

    @property
    def takes(self) -> float:
        """The probability with which this one certificate may fail."""
        return self.delta / (self.budget or 1)


class Look(Record):
    """One look: its subject, the set of images by its digest, and what it was among those that share images.

    `number` counts from 1, `share` is None where nothing was certified at a delta, `run_id` is the run
    that looked first.
    """

    schema_version: Literal[1] = 1
    subject: Subject
    images: Sha256
    share: Share | None
    number: Annotated[int, Field(ge=1)]
    run_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._+-]{0,199}$")]

    @property
    def key(self) -> str:
        """The name of the look: the digest of what tells it from others."""
        return _key(self.subject, self.images)

    def to_bytes(self) -> bytes:
        """Return the canonical bytes, which hold the digest of all other fields."""
        fields = self.model_dump(mode="json")
        return json_bytes({**fields, "sha256": json_digest(fields)})

    @classmethod
    def from_bytes(cls, data: bytes, *, where: Path) -> Self:
        """Read a look strictly: in no other bytes than `to_bytes` gives, under no other name.

        Raises:
            SchemaError: a newer version wrote it, or it is damaged.
        """
        try:
            fields = parse_json(data)
        except ValueError as error:
            raise _damaged(str(error), where) from error
        if not isinstance(fields, dict):
            raise _damaged("no JSON object", where)
        fields.pop("sha256", None)
        version = fields.get("schema_version")
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise SchemaError(
                f"a look of schema version {SCHEMA_VERSION}",
                f"version {version}",
                where,
                "It was written by a newer StreetVision; update this installation.",
            )
        try:
            look = cls.model_validate_json(json.dumps(fields))
        except ValidationError as error:
            raise _damaged(field_faults(error), where) from error
        if look.to_bytes() != data or where.name != f"{look.key}.json":
            raise _damaged("a file that was changed, or another name", where)
        return look


@dataclass(frozen=True)
class Counted:
    """The place of a look among those that share images with it: its number, and how many there are."""

    number: int
    so_far: int

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of the manifest that is published with it."""
        return {NUMBER: self.number, SO_FAR: self.so_far}


def look_text(metrics: Mapping[str, float]) -> str:
    """Return which look a manifest's metrics tell of, in words; those of an older version do not tell."""
    if NUMBER not in metrics:
        return "look number not recorded"
    number, so_far = int(metrics[NUMBER]), int(metrics.get(SO_FAR, 0))
    return f"look number {number}{f' of {so_far} so far' if so_far > number else ''}"


def record_look(
    store: ArtifactStore, subject: Subject, images: Iterable[str], *, run_id: str, share: Share | None = None
) -> Counted:
    """Record a look for good, before it is taken; return its place among those that share images with it.

    The same look again, by whatever run, is not written again and keeps its number.

    Args:
        store: The store.
        subject: What is judged, and by what.
        images: The SHA-256 (hex) of every image that is looked at, in any order.
        run_id: The run that looks.
        share: The share of delta that a certificate takes.

    Raises:
        ConfigError: a budget is given, and is used up.
        SchemaError: a look in the ledger is damaged.
        IntegrityError: a set of images in the ledger is damaged.
        StoreError: the ledger cannot be read or written, or lies behind a link.
    """
    own = image_set(images)
    with store.exclusive():
        sharing = _sharing(store.root, own)
        digest = bytes_digest(own)
        known = next((look for look in sharing if look.key == _key(subject, digest)), None)
        if known is not None:
            return Counted(known.number, len(sharing))
        if share is not None:
            _require_left(share, subject, sharing)
        look = Look(
            subject=subject, images=digest, share=share, number=len(sharing) + 1, run_id=run_id
        )  # fmt: skip
        _write_once(store.root / LEDGER / IMAGES / digest, own)
        _write_once(store.root / LEDGER / f"{look.key}.json", look.to_bytes())
        return Counted(look.number, look.number)


def count_looks(store: ArtifactStore, images: Iterable[str]) -> int:
    """Return how many looks share one of the images, given by their SHA-256 (hex); nothing is written.

    Raises:
        SchemaError, IntegrityError, StoreError: as for `record_look`.
    """
    return len(_sharing(store.root, image_set(images)))


def read_looks(root: Path) -> list[Look]:
    """Return every look of the ledger in the store at `root`, by name; none where there is no ledger.

    Raises:
        SchemaError: one is damaged, or something else lies there.
        StoreError: one cannot be read.
    """
    return [_read_look(root, name) for name in _names(root)]


def ledger_problems(root: Path, manifests: Iterable[StepManifest] = ()) -> list[str]:
    """Return what is wrong with the ledger at `root`, one sentence a fault.

    Args:
        root: The store.
        manifests: What was published there; each that tells a look number must have its look.
    """
    problems, looks = [], []
    try:
        names = _names(root)
    except StoreError as error:
        return [str(error)]
    for name in names:
        try:
            looks.append(_read_look(root, name))
        except (SchemaError, StoreError) as error:
            problems.append(str(error))
    for digest in sorted({look.images for look in looks}):
        try:
            _read_set(root, digest)
        except (IntegrityError, StoreError) as error:
            problems.append(str(error))
    known = {look.subject for look in looks}
    lost = [
        manifest
        for manifest in manifests
        if NUMBER in manifest.metrics
        and (CHECKPOINT not in manifest.input_artifacts or subject_of(manifest) not in known)
    ]
    problems += [
        f"{manifest.step_name} of run {manifest.run_id} is look number"
        f" {manifest.metrics[NUMBER]}, which the ledger lacks"
        for manifest in lost
    ]
    return problems


def subject_of(manifest: StepManifest) -> Subject:
    """Return the subject of the look that a published step took."""
    versions = {name: given.data_version for name, given in manifest.input_artifacts.items()}
    return subject(manifest.step_name, versions, config_hash=manifest.config_hash)


def subject(step: str, inputs: Mapping[str, str], *, config_hash: str) -> Subject:
    """Return the subject of a look of `step` at what it is made from.

    Args:
        step: A step that looks (`graph.LOOKS`).
        inputs: The data version of each of its inputs.
        config_hash: The digest of its configuration.
    """
    judged = {name: version for name, version in inputs.items() if name in POLICY_STEPS}
    return Subject(
        step=step, checkpoint=inputs[CHECKPOINT], policy=json_digest([config_hash, judged])
    )  # fmt: skip


def image_set(images: Iterable[str]) -> bytes:
    """Return a set of images as it is stored: the SHA-256 of each, given in hex, sorted, each once.

    Raises:
        StoreError: they are more than the ledger holds.
    """
    rows = sorted({bytes.fromhex(image) for image in images})
    if len(rows) > _MOST_IMAGES:
        raise StoreError(
            f"a role of at most {_MOST_IMAGES} images", f"{len(rows)}", "the ledger", "Make the role smaller."
        )
    return b"".join(rows)


def _key(subject: Subject, images: str) -> str:
    return json_digest([subject.model_dump(mode="json"), images])


def _sharing(root: Path, own: bytes) -> list[Look]:
    """Return the looks that share an image with the set `own`."""
    looks, mine = read_looks(root), frozenset(_rows(own))
    digest = bytes_digest(own)
    # A set that many looks share is read once; the same set is not read at all.
    others = {look.images for look in looks} - {digest}
    shared = {other for other in others if not mine.isdisjoint(_rows(_read_set(root, other)))} | {digest}
    return [look for look in looks if look.images in shared]


def _require_left(share: Share, subject: Subject, sharing: Sequence[Look]) -> None:
    given = [look for look in sharing if look.share and look.subject.step == subject.step]
    budgets = [look.share.delta for look in given if look.share and look.share.budget]
    if share.budget is None and not budgets:
        return
    delta = min([share.delta, *budgets])
    certified = {look.subject.checkpoint for look in given} | {subject.checkpoint}
    only_seen = {look.subject.checkpoint for look in sharing} - certified
    taken = sum(look.share.takes for look in given if look.share) + len(only_seen) * share.takes
    if share.budget is not None and taken + share.takes <= delta * (1 + _ROUNDING):
        return
    seen = f" and {_many(len(only_seen), 'other checkpoint')} looked at without one" if only_seen else ""
    raise ConfigError(
        f"a look within the budget, of which this one takes {share.takes:.4g} of delta, {delta:g}",
        f"that {taken:.4g} is taken: by {_many(len(given), 'promise')} about images of this one{seen}",
        f"looks of {subject.step}",
        f"Nothing was certified. {_KEPT.format(subject.step) if given else ''}Certify on images that nobody"
        " has looked at; a larger budget after the fact would keep no promise.",
    )


def _many(number: int, kind: str) -> str:
    return f"{number} {kind}{'' if number == 1 else 's'}"


def _write_once(path: Path, data: bytes) -> None:
    """Make a file durable unless it is there; the store is held alone, so nobody else writes it."""
    if not path.exists():
        write_file_atomic(path, data)


def _rows(data: bytes) -> Iterator[bytes]:
    return (data[at : at + _DIGEST_BYTES] for at in range(0, len(data), _DIGEST_BYTES))


@contextmanager
def _reading(root: Path, *inside: str) -> Iterator[Directory | None]:
    """Open the ledger, or the directory `inside` it, to which no link leads; None where there is none."""
    path = root.joinpath(LEDGER, *inside)
    refuse_links(root / LEDGER / IMAGES, root=root)
    try:
        with ExitStack() as stack:
            yield stack.enter_context(open_directory(path)) if inside or path.exists() else None
    except OSError as error:
        where = path / error.filename if isinstance(error.filename, str) else path
        raise StoreError(
            "a ledger that can be read", f"the error '{error.strerror}'", where, _RESTORE
        ) from error


def _names(root: Path) -> list[str]:
    with _reading(root) as directory:
        names = directory.names() if directory else []
    return [name for name in names if name != IMAGES and not is_partial(name)]


def _read_look(root: Path, name: str) -> Look:
    where = root / LEDGER / name
    data = _read(root, name, most_bytes=_MOST_RECORD_BYTES)
    if len(data) > _MOST_RECORD_BYTES:
        raise _damaged(f"more than {_MOST_RECORD_BYTES} bytes", where)
    return Look.from_bytes(data, where=where)


def _read_set(root: Path, digest: str) -> bytes:
    data = _read(root, IMAGES, digest, most_bytes=_MOST_IMAGES * _DIGEST_BYTES)
    if bytes_digest(data) != digest or len(data) % _DIGEST_BYTES:
        where = root / LEDGER / IMAGES / digest
        raise IntegrityError("the set of images as it was recorded", "other content", where, _RESTORE)
    return data


def _read(root: Path, *names: str, most_bytes: int) -> bytes:
    """Return the bytes of a file of the ledger; one more than the most tells that it is too long."""
    *inside, name = names
    with _reading(root, *inside) as directory:
        assert directory is not None
        with directory.open_to_read(name) as file:
            return file.read(most_bytes + 1)


def _damaged(found: str, where: Any) -> SchemaError:
    return SchemaError("a look as it was recorded", found, where, _RESTORE)
