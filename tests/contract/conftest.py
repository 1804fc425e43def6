"""The chain and the bundle of tests/bundle."""

from tests.bundle.conftest import bundle, chain  # noqa: F401
