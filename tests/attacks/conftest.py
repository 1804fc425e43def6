"""The chain, the bundle and the predictor of tests/bundle, and the golden store."""

from tests.bundle.conftest import bundle, chain, predictor  # noqa: F401
from tests.golden.conftest import golden_705fcbb  # noqa: F401
