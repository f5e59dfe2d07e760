"""Opening text, gzipped or not."""

import gzip
from pathlib import Path
from typing import TextIO


def opened(path: Path) -> TextIO:
    """A text stream (UTF-8, undecodable bytes replaced, line ends as they are)."""
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", errors="replace", newline="")
    return path.open("rt", encoding="utf-8", errors="replace", newline="")
