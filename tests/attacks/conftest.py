"""The chain, the bundle and the predictor of tests/bundle."""

from tests.bundle.conftest import bundle, chain, predictor  # noqa: F401
