"""ASE databases: numbers and names as key-value pairs, all of it under `data["platonic"]`."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from platonic_store.annotation.provenance import now
from platonic_store.annotation.targets import PREFIX, Answer, Columns, Key, Record, batches, files
from platonic_store.errors import Call, InvalidTarget, disk_refusal

DATA = "platonic"


class Target:
    """An ASE database (SQLite): in place each batch is a transaction, a copy is made whole."""

    def __init__(self, path: Path, out: Path, id: str | None, by_id: bool):
        self.name, self.path, self.out = path.name, path, out
        self.id, self.by_id = id, by_id

    def records(self) -> Iterator[Record]:
        return files.structure_records(self.path, "asedb", self.id, self.by_id)

    def done(self, run: str) -> set[Key]:
        if self.out != self.path:
            return set()
        rows = enumerate(_connect(self.path).select(include_data=False))
        return {number for number, row in rows if row.get(f"{PREFIX}run") == run}

    def write(
        self, keys: Sequence[Key], columns: Columns, answer: Answer, provenance: dict[str, Any]
    ) -> None:
        if self.out == self.path:
            _update(self.path, keys, answer, provenance)
            return
        with files.replacing(self.out) as partial:
            shutil.copyfile(self.path, partial)
            _update(partial, keys, answer, provenance)


def _update(path: Path, keys: Sequence[Key], answer: Answer, provenance: dict[str, Any]) -> None:
    database = _connect(path)
    ids = [row.id for row in database.select(include_data=False)]
    try:
        if database.metadata.get("platonic_store", {}).get("run") != provenance["run"]:
            note = {"platonic_store": {**provenance, "at": now()}}
            database.metadata = {**database.metadata, **note}
        for part in batches(keys):
            with database:
                for key, answers in zip(part, answer(part), strict=True):
                    _annotate(database, ids[key], answers)
    except Exception as error:
        refused = disk_refusal(error) or ("readonly" in str(error) and "it is read-only")
        if not refused:
            raise
        raise InvalidTarget(
            f"cannot write {path}: {refused}", Call("annotate", "TARGET", out="COPY")
        ) from None


def _annotate(database: Any, id: int, answers: dict[str, Any]) -> None:
    row = database.get(id=id)
    known = {name: value for name, value in answers.items() if value is not None}
    pairs = {name: value for name, value in known.items() if _is_pair(value)}
    gone = [name for name in row.key_value_pairs if name.startswith(PREFIX) and name not in pairs]
    nested = {name.removeprefix(PREFIX): value for name, value in known.items()}
    database.update(id, delete_keys=gone, data={DATA: nested}, **pairs)


def _is_pair(value: Any) -> bool:
    """ASE takes no text for a value that reads as a number or a truth value."""
    from ase.db.core import str_represents

    if isinstance(value, str):
        return not any(str_represents(value, kind) for kind in (bool, int, float))
    return not isinstance(value, list)


def _connect(path: Path) -> Any:
    from ase.db import connect

    return connect(path, type="db")
