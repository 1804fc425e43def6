"""The front matter of README.md, by which the hub files a model: the schema, and how a bundle fills it.

The hub checks it when it is uploaded. These records are the part of its rules that a bundle needs, so that an
export checks it without asking anybody; `huggingface_hub.ModelCard` reads it. Nothing in it is free text:
names become slugs and the rest are identifiers, so it is no markup where a page shows it as it is.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, FiniteFloat, StringConstraints, model_validator

from streetvision_core.eval.decisions import same_numbers
from streetvision_core.eval.metrics import METRICS
from streetvision_core.io.records import Record
from streetvision_core.report.figures import Range

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streetvision_core.bundle.card import CardFacts
    from streetvision_core.report.report import PolicyReport, Report

# Those of the hub's identifiers that our weights can have; any other licence is "other", with name and link.
LICENCES = (
    "apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-nc-nd-4.0",
    "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-sa-4.0", "cc0-1.0", "gpl-3.0", "mit", "odc-by", "openrail",
    "unlicense",
)  # fmt: skip
OTHER = "other"
HUB_ID = r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?"
LONGEST_ID = 96  # characters
# The hub's type of a metric and what a reader sees, where that is not our own name of it.
_NAMED = {
    "mcc": ("matthews_correlation", "MCC"),
    "fnr": ("fnr", "Share of missed roadwork"),
    "fpr": ("fpr", "Share of false alarms"),
}
_DEEPEST = 9  # an interval of a metric of a result of a model
_LONGEST = 2**16  # characters: YAML is read at some 100 KiB a second, and our own has three
_TAGS = ("roadwork", "work-zone", "street-images", "streetvision")

Slug = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=96)]
LicenceName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]*$", max_length=100)]
HubId = Annotated[str, StringConstraints(pattern=f"^{HUB_ID}$", max_length=LONGEST_ID)]


class Metric(Record):
    """A figure; its interval lies in `args`, which the hub leaves to the author."""

    type: Slug
    value: FiniteFloat
    name: str
    args: Range | None = None


class Named(Record):
    """A task or a data set: the hub's type of it, and a name."""

    type: HubId
    name: str
    split: Literal["test"] | None = None


class Result(Record):
    """The figures on one data set."""

    task: Named
    dataset: Named
    metrics: Annotated[tuple[Metric, ...], Field(min_length=1)]


class IndexedModel(Record):
    """A model and its results."""

    name: Slug
    results: Annotated[tuple[Result, ...], Field(min_length=1)]


class FrontMatter(Record):
    """The front matter of a README.md; `license_name` and `license_link` stand beside "other"."""

    license: Literal[*LICENCES, "other"]  # type: ignore[valid-type]  # the list above is the one list
    license_name: LicenceName | None = None
    license_link: Literal["LICENSE"] | None = None
    library_name: Literal["timm"] | None = None
    pipeline_tag: Literal["image-classification"] = "image-classification"
    tags: tuple[Slug, ...]
    datasets: Annotated[tuple[HubId, ...], Field(min_length=1)] | None = None
    base_model: HubId | None = None
    model_index: Annotated[tuple[IndexedModel, ...], Field(min_length=1)] | None = Field(
        None, alias="model-index"
    )

    @model_validator(mode="after")
    def _names_another_licence(self) -> Self:
        if (self.license == OTHER) != (None not in (self.license_name, self.license_link)):
            raise ValueError(f"license {self.license} with the name {self.license_name}")
        return self


def front_matter(facts: CardFacts) -> str:
    """Return the front matter of a bundle's README.md, with its fences."""
    origin = facts.backbone.get("origin", {})
    # Given by alias, because the hub's name of the field is none that Python could have.
    matter = FrontMatter.model_validate(
        {
            **_licence(facts.licence),
            "library_name": None if facts.head_hidden else "timm",
            "tags": (*_TAGS, *(["degenerate"] if facts.degenerate else [])),
            "datasets": tuple(facts.config.datasets) or None,
            "base_model": origin.get("repository"),
            "model-index": _model_index(facts),
        }
    )
    return _spelled(matter)


def _spelled(matter: FrontMatter) -> str:
    import yaml

    content = matter.model_dump(mode="json", by_alias=True, exclude_none=True)
    return f"---\n{yaml.safe_dump(content, sort_keys=False)}---\n"


def front_matter_problems(readme: bytes, *, licence: str, tested: PolicyReport | None) -> Iterator[str]:
    """Hold the front matter of a README.md against the card's licence and the report of its policy.

    An older README.md has none. Front matter that another program could read otherwise is reported, and not
    compared.
    """
    if not (text := _matter_of(readme)):
        return
    matter = _read(text)
    if matter is None or _spelled(matter) != text:
        yield "the front matter of README.md is not spelled as it was written"
        return
    stated = _licence(licence)
    if (matter.license, matter.license_name) != (stated["license"], stated.get("license_name")):
        yield f"README.md is filed under the licence {matter.license}, and model_card.json has {licence!r}"
    given = {metric.type: metric for metric in _metrics(tested)} if tested and tested.intervals else {}
    results = [result for model in matter.model_index or () for result in model.results]
    for shown in (metric for result in results for metric in result.metrics):
        if shown.type not in given:
            yield f"README.md is filed with the figure {shown.type}, which nothing here gives"
        elif not _same(shown, given[shown.type]):
            yield f"README.md is filed with {shown.type} {shown.value} as {shown.name}, not as reported"


def _matter_of(readme: bytes) -> str:
    """Return the front matter with its fences; empty where there is none."""
    matter = re.match(r"---\n.*?^---\n", readme.decode(errors="replace"), flags=re.DOTALL | re.MULTILINE)
    return matter[0] if matter else ""


def _read(text: str) -> FrontMatter | None:
    """Return the record that a front matter spells; None where it spells none.

    Long, deeply nested or self-referring YAML costs much to read, so it is refused before it is read.
    """
    import yaml

    if len(text) > _LONGEST:
        return None
    matter, depth = text.removeprefix("---\n").removesuffix("---\n"), 0
    try:
        for event in yaml.parse(matter, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST or isinstance(event, yaml.AliasEvent):
                return None
        return FrontMatter.model_validate_json(json.dumps(yaml.safe_load(matter)))
    except (yaml.YAMLError, ValueError, TypeError):  # of JSON and pydantic
        return None


def _same(shown: Metric, given: Metric) -> bool:
    intervals = [metric.args.model_dump() for metric in (shown, given) if metric.args]
    same = shown.name == given.name and same_numbers(shown.value, given.value)
    return same and (len(intervals) < 2 or same_numbers(*intervals))


def page_of(readme: bytes) -> str:
    """Return the text of a README.md behind its front matter, for a page that knows none."""
    return re.sub(r"\A---\n.*?^---\n+", "", readme.decode(), flags=re.DOTALL | re.MULTILINE)


def _licence(name: str) -> dict[str, str]:
    if name.lower() in LICENCES:
        return {"license": name.lower()}
    slug = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")[:100]
    return {"license": OTHER, "license_name": slug or "custom", "license_link": "LICENSE"}


def _model_index(facts: CardFacts) -> tuple[IndexedModel, ...] | None:
    """Return the figures on val_test; None where nothing was measured, or no image answered."""
    if not (facts.evaluation and facts.tested and facts.tested.intervals):
        return None
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", facts.config.model_name).strip("-._")[:96]
    result = Result(
        task=Named(type="image-classification", name="Roadwork or none"),
        dataset=Named(
            type=next(iter(facts.config.datasets), "imagefolder"),
            name=_data_set(facts.evaluation.report),
            split="test",
        ),
        metrics=_metrics(facts.tested),
    )
    return (IndexedModel(name=name or "model", results=(result,)),)


def _data_set(report: Report) -> str:
    return f"val_test, {report.counts.n} images that took no part in training, selection or calibration"


def _metrics(tested: PolicyReport) -> tuple[Metric, ...]:
    coverage, known = tested.coverage, [metric.name for metric in METRICS if metric.name in tested.metrics]
    figures = [
        (*_NAMED.get(name, (name, name.capitalize())), tested.metrics[name], tested.interval(name))
        for name in known
    ]
    figures.append(("coverage", "Share of images answered", coverage.share, coverage.over_groups))
    return tuple(
        Metric(type=kind, value=float(value), name=name, args=interval)
        for kind, name, value, interval in figures
    )
