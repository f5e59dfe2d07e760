"""Opening text and JSON files, gzipped or not."""

import gzip
import json
from pathlib import Path
from typing import Any, TextIO


def open_text(path: Path) -> TextIO:
    """A text stream (UTF-8, undecodable bytes replaced, line ends as they are)."""
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", errors="replace", newline="")
    return path.open("rt", encoding="utf-8", errors="replace", newline="")


def read_json(path: Path) -> Any:
    """The parsed document.

    Raises: EOFError for a truncated gzip, ValueError for what is not JSON.
    """
    content = path.read_bytes()
    return json.loads(gzip.decompress(content) if path.suffix.lower() == ".gz" else content)
