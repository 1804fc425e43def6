"""For every test: property tests take their time, because the first example pays for heavy imports."""

from hypothesis import settings

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
