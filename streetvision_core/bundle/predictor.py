"""The predictor of a bundle: `inference.Predictor`, loaded from a folder that is verified first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from streetvision_core.bundle.load import load_bundle
from streetvision_core.inference import predictor

if TYPE_CHECKING:
    import os


class Predictor(predictor.Predictor):
    """A classifier with its policy folded in, as a bundle ships it."""

    @classmethod
    def load(
        cls,
        bundle_path: str | os.PathLike[str],
        output_dir: str | os.PathLike[str] | None = None,
        *,
        manifest_sha256: str | None = None,
        key: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Load a bundle as `load_bundle` does; every byte is verified before anything is loaded.

        Raises:
            BundleError: the folder is no bundle, or is not to be trusted.
        """
        bundle = load_bundle(bundle_path, output_dir, manifest_sha256=manifest_sha256, key=key)
        return cls(bundle.model, config=bundle.config, policy=bundle.policy)
