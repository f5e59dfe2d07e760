"""The log of a store: what its writers committed, recovered and lost, in `log.txt` beside it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler
from pathlib import Path

BYTES = 4 << 20  # then a new file is begun and one old one kept


@contextmanager
def logged(folder: Path) -> Iterator[None]:
    """Within the block the library's log goes into the store's file too."""
    logger = logging.getLogger("platonic_store")
    handler = RotatingFileHandler(
        folder / "log.txt", maxBytes=BYTES, backupCount=1, delay=True, encoding="utf-8"
    )
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s")
    )
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(min(level or logging.INFO, logging.INFO))
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
        handler.close()
