"""The files of a bundle that people read: README.md, the model card that the field asks for, and the licence.

All of it follows from the content and the configuration: no time, no machine, no path. What comes from the
data, the configuration or a hub is shown as it is, and never becomes markup of the page around it.
"""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING, Any

from streetvision_core.bundle.hub.front_matter import front_matter
from streetvision_core.bundle.layout import ONNX, REDACTED, TIMM_FLOOR, TRANSFORMERS_FLOOR
from streetvision_core.bundle.model_card import ModelCard, is_unix_time
from streetvision_core.escape import PARAGRAPH, for_markdown, one_line
from streetvision_core.eval.metrics import BRIEF, COUNTS, METRICS
from streetvision_core.io import json_bytes
from streetvision_core.models.licences import TEXT_NAME, terms_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streetvision_core.bundle.config import BundleConfig
    from streetvision_core.data.conditions import Conditions
    from streetvision_core.eval.decisions import Policy
    from streetvision_core.models.views import Views
    from streetvision_core.report.evaluation import Evaluation
    from streetvision_core.report.report import PolicyReport, Report
    from streetvision_core.report.slices import LevelsReport

_NO_FIGURES = """\
## Figures

None: this policy was exported before it was evaluated on images that it had not seen.
"""
_NAMED = ("architecture", "source", "licence")
_TOLD = """\
Nothing here says when or where it was made, except `manifest.json`, `private.json` and `lineage/`: they name
the machine, the run, the code and the configuration, paths included.
"""
_REDACTED = """\
Only `manifest.json` and `lineage/` say when it was made, by which code and configuration. It is redacted: no
machine, path or image is named. Images are named by their SHA-256; each manifest in `lineage/` holds the
SHA-256 of the side file that was left out, so whoever has that can prove that it belongs here.
"""
DESCRIPTION = "Tells images of streets with roadwork from images without."


@dataclass(frozen=True)
class CardFacts:
    """Everything the texts of a bundle are made of; `backbone` is the content of backbone.json."""

    config: BundleConfig
    policy: Policy
    evaluation: Evaluation | None
    backbone: Mapping[str, Any]
    preprocessing: Mapping[str, Any]
    degenerate: Sequence[str]
    has_licence_text: bool = False
    views: Views | None = None
    head_hidden: int = 0
    conditions: Conditions | None = None

    @property
    def tested(self) -> PolicyReport | None:
        """The report of the bundle's policy on val_test; None where it was not evaluated."""
        return self.evaluation.report.of(self.policy.type) if self.evaluation else None

    @property
    def licence(self) -> str:
        """The configured licence of the weights, or that of what they started from, or this project's."""
        inherited = self.backbone["licence"]
        return self.config.license or (inherited if inherited != "none" else "MIT")


def model_card(facts: CardFacts) -> bytes:
    """Return model_card.json."""
    config = facts.config
    card = ModelCard(
        model_name=config.model_name,
        description=DESCRIPTION,
        version=config.version,
        submitted_by=config.submitted_by,
        submission_time=int(config.submission_time)
        if is_unix_time(config.submission_time)
        else config.submission_time,
        license=facts.licence,
        metrics=card_metrics(facts.tested),
        degenerate=tuple(facts.degenerate),
    )
    return json_bytes(card.model_dump(mode="json"))


def card_metrics(tested: PolicyReport | None) -> dict[str, int | float]:
    """Return the metrics on the card: coverage, those of the README, and the ends of the MCC's interval."""
    if tested is None:
        return {}
    shown = {name: figure for name, figure in tested.figures().items() if name not in COUNTS}
    return {"coverage": tested.coverage.share, **shown}


def license_text(facts: CardFacts) -> bytes:
    """Return LICENSE: the licence of the weights, and of what they started from."""
    architecture, source, licence = (one_line(facts.backbone[key]) for key in _NAMED)
    return (
        f"Licence of the weights in this folder: {one_line(facts.licence)}\n\n"
        f"They are a trained {architecture}, which started from: {source}\n"
        f"Licence of what they started from: {licence}\n\n"
        "Terms of what they started from apply to the weights as far as they are derived from it. The\n"
        "images in golden/ belong to whoever published the data set that they were taken from.\n"
        f"{_terms_of_start(facts)}"
    ).encode()


def _terms_of_start(facts: CardFacts) -> str:
    """Return who states the licence of the starting weights, its terms and text; empty for random ones."""
    backbone = facts.backbone
    if "origin" not in backbone:
        return ""
    licence, terms = one_line(backbone["licence"]), terms_of(backbone["licence"])
    words = " and ".join(terms.words) or "may be handed on for any use" if terms else "not known"
    stated = {
        "timm": "timm, which describes the weights",
        "package": "the package that the weights come in",
        "configuration": "whoever gave the weights",
        "nobody": "nobody",
    }
    lines = [
        f"Licence of what they started from is stated by: {stated[backbone['origin']['licence_stated_by']]}",
        f"Weights that are derived under {licence}: {words}",
        f"Text of {licence}: {TEXT_NAME}" if facts.has_licence_text else "",
        f"Accepted by name by whoever exported this: {licence}"
        if terms is None or terms.is_restricted
        else "",
    ]
    return "\n" + "".join(f"{line}\n" for line in lines if line)


def readme(facts: CardFacts) -> bytes:
    """Return README.md for whoever receives the bundle, on a disk or on the hub."""
    sections = (
        _introduction(facts),
        *([_looking(facts.views)] if facts.views else []),
        _promise(facts),
        _figures(facts.evaluation.report, facts.tested) if facts.evaluation and facts.tested else _NO_FIGURES,
        *(
            [_conditions(facts.evaluation.report.conditions, facts.policy.type)]
            if facts.evaluation and facts.evaluation.report.conditions
            else []
        ),
        _verifying(),
        _loading(facts),
        _limits(facts.tested, redacted=facts.config.lineage == REDACTED),
    )
    page = "\n".join(sections)
    return f"{front_matter(facts)}\n{page}".encode()


def _introduction(facts: CardFacts) -> str:
    config, point = facts.config, facts.policy.point
    warning = "".join(
        f"**Degenerate: {for_markdown(reason, limit=PARAGRAPH)}. Do not use it for decisions.**\n\n"
        for reason in facts.degenerate
    )
    everywhere = "" if facts.views or facts.head_hidden else ", in every library"
    architecture = for_markdown(facts.backbone["architecture"])
    return f"""\
# {for_markdown(config.model_name)} {for_markdown(config.version)}

{DESCRIPTION}

{warning}The architecture is {architecture}; it answers with the probability of roadwork.
Above 0.5 means roadwork{everywhere}: the temperature {point.temperature:.4g} and the threshold
{point.threshold:.4g} of its policy are folded into the last layer.
{_restrictions(facts)}"""


def _restrictions(facts: CardFacts) -> str:
    """Return the warning for a receiver where the starting weights are not free; else an empty text."""
    licence, terms = for_markdown(facts.backbone["licence"]), terms_of(facts.backbone["licence"])
    if terms is not None and terms.is_free:
        return ""
    words = " and ".join(terms.words) if terms else "whose terms are not known here"
    return f"\n**It started from weights of the licence {licence}, {words}: see `LICENSE`.**\n"


def _looking(views: Views) -> str:
    return f"""\
## It looks {views.count} times

It sees {views.describe()}.
Only `streetvision` and `streetvision_core` do that. timm and transformers open the same weights and see the
whole image alone: the operating point of 0.5 was tuned for the pooled views and not for that, and the
figures below do not hold there. Who serves it with those libraries, a StreetVision miner for instance, needs
a model that was trained with `views: whole`.
"""


def _promise(facts: CardFacts) -> str:
    policy, seen = facts.policy, facts.conditions
    tuned = ""
    if seen is not None and not seen.is_as_is:
        text = (
            f"It was trained, selected and tuned under the conditions {for_markdown(seen.profile.title)}"
            " (`conditions.json`), drawn for every image. What it promises, it promises there, and the images"
            " in `golden/` are as they arrive there."
        )
        tuned = f"{fill(text, 110)}\n\n"
    deferring = (
        "Images that it does not answer it defers to a person. Only `streetvision` and"
        " `streetvision_core` do\nthat; other libraries open the weights, which answer every image.\n"
        if policy.defers
        else ""
    )
    return f"""\
## What it promises

The policy is `{policy.type}`. {for_markdown(policy.promise(), limit=PARAGRAPH)}

{tuned}{deferring}"""


def _figures(report: Report, tested: PolicyReport) -> str:
    metrics, coverage, over = tested.metrics, tested.coverage, tested.coverage.over_groups or "not recorded"
    rows = "\n".join(
        f"| {name} | {tested.number(name)} | {tested.interval(name) or 'not recorded'} |"
        for name in (metric.name for metric in METRICS)
    )
    figures = (
        f"Of the answered images:\n\n| | | 95 % interval over groups |\n|---|---|---|\n{rows}\n\n"
        + fill(report.reading_of(tested), 110)
        if tested.intervals
        else "It answers none of them."
    )
    deferred = f"{fill(report.deferral_of(tested), 110)}\n" if tested.policy.defers else ""
    return f"""\
## Figures

On {report.counts.n} images that took no part in training, selection or calibration
(`evaluation.json`) it answers {coverage.answered}, which is {coverage.share:.1%} (95 % interval over groups:
{over}): {metrics["tp"]} hits, {metrics["fn"]} misses, {metrics["fp"]} false alarms.
{deferred}The look number, which is how often these images have judged a model, stands in
`lineage/evaluation.json`; `streetvision verify .` prints it.

{figures}
"""


def _conditions(levels: LevelsReport, kind: str) -> str:
    heads = "".join(f" {metric.label} |" for metric in BRIEF)
    rows = "\n".join(
        f"| {level.value} | {' | '.join(level.cells().values())} | {level.answered} |"
        for level in levels.policies[kind]
    )
    return f"""\
## Under conditions

{fill(levels.tuned_in_words, 110)}
{fill(levels.reading(kind), 110)}

| level of {for_markdown(levels.profile.partition(":")[0])} |{heads} answered |
|{"---|" * (len(BRIEF) + 2)}
{rows}

Behind each figure stands its 95 % interval over groups.
"""


def _verifying() -> str:
    return """\
## Is it whole?

    streetvision verify --deep .

hashes every file again, refuses whatever the manifest does not list, follows the chain of manifests in
`lineage/` from the policy down to the images, and answers the images in `golden/` again. Of what the Hugging
Face hub adds (`.gitattributes`, `.cache/huggingface`, `.git`) it reads nothing. It detects damage and
mistakes. Who made the bundle it can only tell with what somebody you trust told you: their public key, where
there is a signature (`--key PUBLIC.pem`), or the SHA-256 of `manifest.json` (`--manifest-sha256`).
"""


def _loading(facts: CardFacts) -> str:
    size = for_markdown(facts.preprocessing.get("input_size", ""))
    return f"""\
## Use it

    streetvision predict . street.jpg

    from streetvision_core.bundle import Predictor
    for answer in Predictor.load(".").predict(["street.jpg"]):
        print(answer.probability, answer.decision)

{_loading_elsewhere(facts)}{_loading_onnx(facts)}
Preprocessing is in `config.json` (input {size}).
"""


def _loading_elsewhere(facts: CardFacts) -> str:
    if facts.head_hidden:
        return (
            f"timm and transformers cannot open it: its head has a hidden layer of {facts.head_hidden}, which"
            " they cannot build.\n"
        )
    elsewhere = (
        "looking at the whole image alone, for which 0.5 was not tuned"
        if facts.views
        else "with the same operating point of 0.5"
    )
    return f"""\
Without StreetVision, unverified and {elsewhere}:

    import timm                                                          # {TIMM_FLOOR} or later
    model = timm.create_model("local-dir:.", pretrained=True).eval()     # logits of None, Roadwork

    from transformers import pipeline                                    # {TRANSFORMERS_FLOOR} or later
    pipeline("image-classification", model=".")("street.jpg")
"""


def _loading_onnx(facts: CardFacts) -> str:
    if not facts.config.onnx:
        return ""
    deferring = "" if facts.policy.extras else ", and the decision, deferring included"
    views = ", of all views" if facts.views else ""
    text = (
        f"In ONNX Runtime `{ONNX}` gives logits and probability{views}{deferring}. What goes in stands in its"
        " metadata under `streetvision`, and in `onnx.json` beside the proof that it answers alike."
    )
    return f"\n{fill(text, 110)}\n"


def _limits(tested: PolicyReport | None, *, redacted: bool) -> str:
    slices = tested.slices if tested else ()
    weak = [part for part in slices if not part.too_small]
    lines = [
        f"- {for_markdown(part.attribute)} {for_markdown(part.value)}:"
        f" accuracy {part.text('accuracy')} on {part.answered} of {part.n} images"
        f"{f', {part.reading}' if part.reading else ''}\n"
        for part in weak[:3]
    ]
    worst = (
        "The weakest slices of the test images, with 95 % intervals over groups:\n\n" + "".join(lines) + "\n"
        if lines
        else ""
    )
    hold = (
        "The figures hold for images like those it was tested on; for another camera, country or season\n"
        "measure again."
        if tested
        else "How good it is was not measured. Evaluate it on images that it has not seen, before it decides."
    )
    return f"""\
## Limits

{hold}

{worst}{_REDACTED if redacted else _TOLD}"""
