"""The configuration of the `conditions` step, and its record: the profile of use and the seed of its draws.

`reported` are the conditions whose levels a report sets beside the images as they are: those of the profile,
and where that is `as_is` those of `camera`, so that a report always shows what a model loses at night.

Round trip: `Conditions.from_artifact(published)` equals what was published by `to_artifact`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field

from streetvision_core.data.conditions.profile import Profile, Settings
from streetvision_core.data.conditions.shipped import AS_IS, CAMERA, NATIX_CROPS_2025
from streetvision_core.io import Artifact, json_bytes
from streetvision_core.io.records import Record, read_record

if TYPE_CHECKING:
    from PIL.Image import Image

    from streetvision_core.io import PublishedArtifact

CONDITIONS_NAME = "conditions.json"
SEED = 0  # one that can be turned lets val_test be drawn until it is easy


class AsIs(Settings):
    """Images reach the model as they are."""

    kind: Literal["as_is"] = "as_is"


class Camera(Settings):
    """Night, rain, fog, motion blur, dirt, low resolution and strong JPEG, beside plain daylight."""

    kind: Literal["camera"] = "camera"


class NatixCrops2025(Settings):
    """The images that validators of the StreetVision subnet sent until 2026-04-06."""

    kind: Literal["natix_crops_2025"] = "natix_crops_2025"


class Own(Profile):
    """Levels of one's own."""

    kind: Literal["own"] = "own"


class ConditionsConfig(Settings):
    """The conditions under which the model will be used; every later step takes them."""

    profile: AsIs | Camera | NatixCrops2025 | Own = Field(
        AsIs(),
        discriminator="kind",
        description="as_is, camera (night, rain, fog, motion blur, dirt, low resolution, JPEG),"
        " natix_crops_2025 (a subnet's validators until 2026-04-06) or own: {levels: [...]}",
    )

    def conditions(self) -> Conditions:
        """Return the conditions that are configured."""
        shipped = {"as_is": AS_IS, "camera": CAMERA, "natix_crops_2025": NATIX_CROPS_2025}
        profile = shipped.get(self.profile.kind) or Profile(**self.profile.model_dump(exclude={"kind"}))
        return Conditions(profile=profile, reported=CAMERA if profile.is_as_is else profile, seed=SEED)


class Conditions(Record):
    """`conditions.json`: the profile of use, the one whose levels a report shows, and the seed."""

    schema_version: Literal[1] = 1
    profile: Profile
    reported: Profile
    seed: int = Field(ge=0)

    @property
    def is_as_is(self) -> bool:
        """True if every image reaches the model as it is."""
        return self.profile.is_as_is

    def see(self, image: Image, sha256: str, *, draw: int = 0) -> Image:
        """Return an image as it arrives in use; under `as_is` the very image."""
        from streetvision_core.data.conditions.draw import draw_image

        return draw_image(image, self.profile, sha256, draw=draw, seed=self.seed)

    def see_at(self, level: str, image: Image, sha256: str) -> Image:
        """Return an image as it arrives at one level of the reported profile."""
        from streetvision_core.data.conditions.draw import draw_image

        return draw_image(image, self.reported, sha256, level=level, seed=self.seed)

    def to_artifact(self) -> Artifact:
        """Return `conditions.json`."""
        return Artifact(
            {CONDITIONS_NAME: json_bytes(self.model_dump(mode="json"))},
            metrics={"levels": len(self.profile.levels)},
        )

    @classmethod
    def from_artifact(cls, published: PublishedArtifact) -> Self:
        """Read back what `to_artifact` gave.

        Raises:
            BundleError: it is damaged.
        """
        where = str(published.path(CONDITIONS_NAME))
        return read_record(cls, published.read_bytes(CONDITIONS_NAME), where=where)
