"""The chain and the toy of other rooms, which inference is tried on."""

from tests.bundle.conftest import bundle, chain, predictor, scrc_bundle
from tests.training.conftest import backbone, toy

__all__ = ["backbone", "bundle", "chain", "predictor", "scrc_bundle", "toy"]
