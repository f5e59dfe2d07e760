"""Extended XYZ: keys are added to each frame's comment line, all else stays to the byte."""

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from platonic_store.annotation.targets import PREFIX, Answer, Columns, Key, Record, batches, files

_OURS = re.compile(rf'\s{PREFIX}\w+=(?:"(?:[^"\\]|\\.)*"|[^\s"]+)')


class Target:
    """Frames, each a record, plain or gzipped."""

    def __init__(self, path: Path, out: Path, id: str | None, by_id: bool):
        self.name, self.path, self.out = path.name, path, out
        self.id, self.by_id = id, by_id

    def records(self) -> Iterator[Record]:
        return files.structure_records(self.path, "extxyz", self.id, self.by_id)

    def done(self, run: str) -> frozenset[Key]:
        return frozenset()

    def write(
        self, keys: Sequence[Key], columns: Columns, answer: Answer, provenance: dict[str, Any]
    ) -> None:
        with (
            files.replacing(self.out) as partial,
            files.text_from(self.path) as source,
            files.text_to(partial, self.out) as file,
        ):
            for part in batches(zip(keys, _frames(source), strict=True)):
                found = answer([key for key, _ in part])
                for (_, (count, comment, atoms)), answers in zip(part, found, strict=True):
                    file.writelines([count, _with(comment, answers), *atoms])
        files.write_provenance(self.out, provenance)


def _frames(file: TextIO) -> Iterator[tuple[str, str, list[str]]]:
    while line := file.readline():
        if line.strip():
            yield line, file.readline(), list(islice(file, int(line)))


def _with(comment: str, answers: dict[str, Any]) -> str:
    """The comment line with these answers, in place of any that it had."""
    from ase.io.extxyz import key_val_dict_to_str

    bare = comment.rstrip("\r\n")
    end = comment[len(bare) :]
    ours = {name: value for name, value in answers.items() if value is not None}
    return f"{_OURS.sub('', bare)} {key_val_dict_to_str(ours)}{end}"
