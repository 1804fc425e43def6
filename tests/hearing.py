"""The log of the core, for tests of the lines that a person reads."""

import logging
from contextlib import contextmanager


@contextmanager
def heard(tell):
    """Call `tell` with each line that the core logs during the block, from INFO up."""
    logger, handler = logging.getLogger("streetvision_core"), logging.Handler()
    handler.emit = lambda record: tell(record.getMessage())
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
