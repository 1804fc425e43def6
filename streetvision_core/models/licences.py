"""Licences of starting weights, and what they permit for the weights that are trained from them.

The table holds licences whose terms are plain: whether derived weights may be handed on, whether they may be
used commercially, and whether a copy of the text must go along. Where there is another identifier, or none, a
person has to read the terms.

timm states the licence of weights from the hub; whoever gives a local file states its licence in the
configuration, and is recorded as having done so. The text goes from there into the bundle, as
`LICENSE-weights.txt`. `export_obstacle` is the one rule of when a bundle may be made of such weights.

None of this is legal advice, and a licence can change: what was recorded is what was stated at the time.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from streetvision_core.errors import BundleError, ConfigError
from streetvision_core.models.config import NO_LICENCE, BackboneConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streetvision_core.io import PublishedArtifact

TEXT_NAME = "LICENSE-weights.txt"
UNKNOWN = "unknown"
# What timm writes where it does not know.
_UNSTATED = ("", "other", UNKNOWN)


@dataclass(frozen=True)
class Terms:
    """The terms of a licence for weights that are derived from others.

    `hand_on` is yes, same (only under this very licence) or no; `copy` whether its text must go along.
    `text_file` lies beside this module and holds that text, where it is the same for everybody.
    """

    hand_on: Literal["yes", "same", "no"] = "yes"
    commercial: bool = True
    copy: bool = False
    text_file: str = ""

    @property
    def text(self) -> str:
        """The text of the licence, empty where it names its authors."""
        return Path(__file__).with_name(self.text_file).read_text("utf-8") if self.text_file else ""

    @property
    def is_free(self) -> bool:
        """True if the derived weights may be handed on for any use, under terms of one's own."""
        return self.hand_on == "yes" and self.commercial

    @property
    def is_restricted(self) -> bool:
        """True if a person must accept the terms; keeping the same licence needs no such consent."""
        return self.hand_on == "no" or not self.commercial

    @property
    def words(self) -> tuple[str, ...]:
        """The restrictions that a receiver of the weights should know, a phrase each; none for free ones."""
        handing_on = {
            "yes": (),
            "same": ("may be handed on only under the same licence",),
            "no": ("may not be handed on",),
        }
        return (*handing_on[self.hand_on], *(() if self.commercial else ("for non-commercial use only",)))


# The notices of MIT and BSD name the authors, whom timm does not; license_file brings them along.
_TERMS = MappingProxyType(
    {
        NO_LICENCE: Terms(),
        "apache-2.0": Terms(copy=True, text_file="apache-2.0.txt"),
        "mit": Terms(),
        "bsd-2-clause": Terms(),
        "bsd-3-clause": Terms(),
        "cc0-1.0": Terms(),
        "cc-by-4.0": Terms(),
        "cc-by-sa-4.0": Terms("same"),
        "cc-by-nc-4.0": Terms(commercial=False),
        "cc-by-nc-sa-4.0": Terms("same", commercial=False),
        "cc-by-nd-4.0": Terms("no"),
        "cc-by-nc-nd-4.0": Terms("no", commercial=False),
        "dinov3-license": Terms("same", copy=True),
        "fair-noncommercial-research-license": Terms("same", commercial=False, copy=True),
    }
)


@dataclass(frozen=True)
class Licence:
    """The licence of weights, who says so, and its text if anybody has it.

    `stated_by` is timm, the package that the weights come in, the configuration, or nobody.
    """

    name: str = UNKNOWN
    stated_by: Literal["timm", "package", "configuration", "nobody"] = "nobody"
    text: str = ""


def terms_of(licence: str) -> Terms | None:
    """Return the terms of a licence by its identifier; None for one that the table does not hold."""
    return _TERMS.get(licence.lower())


def licence_of_hub(described: Mapping[str, Any], config: BackboneConfig) -> Licence:
    """Return the licence of weights that timm describes; the configuration speaks where timm does not.

    Raises:
        ConfigError: the two contradict each other, or the configured text cannot be read.
    """
    stated = str(described.get("license") or "").lower()
    if stated in _UNSTATED:
        return licence_of_file(config)
    if config.license and not _same(config.license, stated):
        expected = f"the licence that timm states for {config.architecture}, {stated}"
        action = "Leave it empty. If timm is wrong, give the weights as a local file and state their licence."
        raise ConfigError(expected, repr(config.license), "license of the backbone", action)
    return Licence(stated, "timm", _text(stated, config))


def licence_of_package(name: str) -> Licence:
    """Return the licence that a package states for its weights, with the text that everybody knows."""
    return Licence(name, "package", _TERMS[name].text)


def licence_of_file(config: BackboneConfig) -> Licence:
    """Return the licence that the configuration states, or an unknown one.

    Raises:
        ConfigError: the configured text cannot be read.
    """
    name = config.license.lower() or UNKNOWN
    return Licence(name, "configuration" if config.license else "nobody", _text(name, config))


def read_text(published: PublishedArtifact) -> str:
    """Return the text of the licence in a published backbone; empty if there is none.

    Raises:
        IntegrityError: the file is gone, or is not what was published.
    """
    listed = TEXT_NAME in published.manifest.output_artifacts
    return published.read_bytes(TEXT_NAME).decode() if listed else ""


def export_obstacle(licence: str, *, text: str, chosen: str = "") -> BundleError | None:
    """Tell why no bundle may be made of weights that started from weights of this licence.

    Args:
        licence: The identifier, "none" for random weights and "unknown" where nobody states one.
        text: The text of the licence, empty if there is none.
        chosen: The licence that the bundle is to say for its own weights, empty for the same one. To name the
            very licence of the starting weights is to accept its terms.

    Returns:
        The error to raise, None where nothing stands in the way.
    """
    where = "licence of the starting weights"
    terms = terms_of(licence)
    if (terms is None or terms.is_restricted) and not _same(chosen, licence):
        words = " and ".join(terms.words) if terms else "whose terms StreetVision does not know"
        unstated = licence in _UNSTATED
        state = " If you know their licence, state it as license of the backbone." * unstated
        return BundleError(
            "weights that may be handed on for any use",
            f"{licence}: nobody states their licence" if unstated else f"{licence}: {words}",
            where,
            f"Start from other weights; or, if you may act by those terms, set license: {licence} of"
            f" the bundle.{state}",
        )
    if terms and terms.copy and not text:
        return BundleError(
            f"the text of {licence}, a copy of which must go along with the weights",
            "none",
            where,
            "Save it from where the weights come from, and give its path as license_file of the backbone.",
        )
    if chosen and not _same(chosen, licence) and (terms is None or not terms.is_free):
        expected = f"the weights of the bundle under the licence of those they started from, {licence}"
        return BundleError(expected, f"license: {chosen}", where, "Leave license of the bundle empty.")
    return None


def _text(name: str, config: BackboneConfig) -> str:
    terms = terms_of(name)
    if not config.license_file:
        return terms.text if terms else ""
    path = Path(config.license_file).expanduser()
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        text, found = "", getattr(error, "strerror", None) or "bytes that are no UTF-8"
    else:
        found = "an empty file"
    if not text.strip():
        raise ConfigError(
            "the text of the licence, in UTF-8", found, path, "Correct license_file of the backbone."
        )
    return text


def _same(licence: str, other: str) -> bool:
    return licence.lower() == other.lower()
