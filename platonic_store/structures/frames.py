"""Training frames as MPtrj and MatPES publish them: JSON of many gigabytes, an item at a time.

Of what comes with a structure numbers and text become properties. Arrays (forces, stress, moments,
charges) are left out: a catalogue of a million frames could not carry them.
"""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from platonic_store.structures import objects, optimade
from platonic_store.structures.files import open_text
from platonic_store.structures.records import Crystal, Rejected, one_line, pick_id

_READ = 1 << 20
_LINE = 1 << 24  # characters; MPtrj is one line


def records(path: Path, stem: str | None = None) -> Iterator[Crystal | Rejected]:
    """The frames of a file in their order.

    MPtrj: {mp-id: {frame-id: {"structure": …, "energy_per_atom": …}}}, named by the frame's id.
    MatPES: a list, or a line each, of {"matpes_id": …, "structure": …}. Lines may be OPTIMADE
    resources too. Raises EOFError where the file ends within an item.
    """
    with open_text(path) as file:
        pairs = _lines(file) if _are_lines(path) else items(file)
        for number, (id, frame) in enumerate(_frames(pairs), 1):
            try:
                yield _crystal(frame, id)
            except Exception as error:
                yield Rejected(f"frame {number}" + (f" ({id})" if id else ""), id, one_line(error))


def is_frames(path: Path) -> bool:
    """Whether a JSON file is one of these, by its first item."""
    if _are_lines(path):
        return True
    with open_text(path) as file:
        try:
            key, first = next(items(file), (None, None))
        except (ValueError, EOFError):
            return False
    if not isinstance(first, dict):
        return False
    if key is None:
        return "matpes_id" in first
    return bool(first) and all(_is_frame(one) for one in first.values())


def items(file: TextIO) -> Iterator[tuple[str | None, Any]]:
    """The items of a JSON list, or of an object with their keys; one in memory at a time.

    Raises: ValueError for what is neither, EOFError for a file that ends too early.
    """
    text = _Text(file)
    opening = text.take("[{")
    while text.peek() not in "]}":
        key = None
        if opening == "{":
            key = text.value()
            text.take(":")
        yield key, text.value()
        if text.peek() == ",":
            text.take(",")
    text.take("]}")


class _Text:
    """The characters of a file from where they are wanted."""

    def __init__(self, file: TextIO):
        self._file, self._text, self._at = file, "", 0

    def peek(self) -> str:
        """The next character that is no space. Raises: EOFError."""
        while True:
            while self._at < len(self._text) and self._text[self._at].isspace():
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            self._more(_READ)

    def take(self, expected: str) -> str:
        """The next character. Raises: ValueError for another one."""
        found = self.peek()
        if found not in expected:
            raise ValueError(f"{found!r} where one of {' '.join(expected)} should be")
        self._at += 1
        return found

    def value(self) -> Any:
        """The next value, as much of the file as it takes."""
        self.peek()
        size = _READ
        while True:
            try:
                found, end = json.JSONDecoder().raw_decode(self._text, self._at)
            except json.JSONDecodeError:
                self._more(size)
                size *= 2
                continue
            self._at = end
            return found

    def _more(self, size: int) -> None:
        new = self._file.read(size)
        if not new:
            raise EOFError("the file ends within its JSON")
        self._text, self._at = self._text[self._at :] + new, 0


def _are_lines(path: Path) -> bool:
    """Whether a file has a JSON object on each of its first two lines."""
    with open_text(path) as file:
        lines = [line for line in islice(iter(lambda: file.readline(_LINE), ""), 2) if line.strip()]
    try:
        return len(lines) == 2 and all(isinstance(json.loads(line), dict) for line in lines)
    except ValueError:
        return False


def _lines(file: TextIO) -> Iterator[tuple[str | None, Any]]:
    yield from ((None, json.loads(line)) for line in file if line.strip())


def _frames(pairs: Iterator[tuple[str | None, Any]]) -> Iterator[tuple[str | None, Any]]:
    """Each frame with its id: those of MPtrj are within their material."""
    for key, item in pairs:
        if key is None or _is_frame(item):
            yield key, item
        else:
            yield from ((id, {**frame, "mp_id": key}) for id, frame in item.items())


def _is_frame(item: Any) -> bool:
    return isinstance(item, dict) and isinstance(item.get("structure"), dict)


def _crystal(frame: Any, id: str | None) -> Crystal:
    if isinstance(frame, dict) and optimade.is_optimade(frame):
        (found,) = optimade.crystals(frame)
        if isinstance(found, Rejected):
            raise ValueError(found.reason)
        return found
    if not _is_frame(frame):
        raise ValueError("no 'structure' in it")
    structure = objects.structure_from_dict(frame["structure"])
    rest = {name: value for name, value in frame.items() if _is_plain(value) and name[0] != "@"}
    found = objects.from_pymatgen(structure, id or pick_id(rest, "matpes_id"))
    return found._replace(properties=rest)


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float | bool)
