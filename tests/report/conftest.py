"""The chain and the predictor of tests/bundle, which reports are made of."""

from tests.bundle.conftest import bundle, chain, predictor, scrc_bundle

__all__ = ["bundle", "chain", "predictor", "scrc_bundle"]
