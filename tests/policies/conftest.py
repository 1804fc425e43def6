"""The chain and the toy of other rooms, which policies are fitted on."""

from tests.bundle.conftest import bundle, chain
from tests.training.conftest import backbone, toy

__all__ = ["backbone", "bundle", "chain", "toy"]
