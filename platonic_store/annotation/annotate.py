"""Annotation: match a target's records with the store, ask about them, write what it says."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from platonic_store import progress
from platonic_store.annotation import answers, matching, provenance
from platonic_store.annotation.matching import Match
from platonic_store.annotation.targets import PREFIX, Key, open_target
from platonic_store.errors import InvalidQuery
from platonic_store.storage.snapshot import ModelLayer

if TYPE_CHECKING:
    from platonic_store.store import Store


class AnnotationReport(NamedTuple):
    """What became of a target's records; `written` are those that had not this run's answers."""

    target: str
    records: int
    answered: int
    written: int
    run: str


def annotate(
    store: "Store",
    target: str | Path,
    *,
    models: Sequence[str] = (),
    out: str | Path | None = None,
    id: str | None = None,
    table: str | None = None,
    by_id: bool = False,
    k: int = 10,
    within: float = 0.01,
) -> AnnotationReport:
    """Write into a user's records what the store says of their structures; see `Store.annotate`."""
    opened = open_target(target, out=out, id=id, table=table, by_id=by_id)
    sides = matching.sides_of(store, models, ingest=not by_id)
    columns = answers.columns_of(sides)
    matches = matching.match(store, opened, sides, ingest=not by_id)
    for side in sides:
        _score(store, side)
    with store.snapshot() as snapshot:
        gathered = answers.gather(snapshot, sides)
        said = provenance.describe(snapshot, sides, {"k": k, "within": within})
    done = opened.done(said["run"])
    known = {match.key: match for match in matches if match.key not in done}
    if known:
        found = answers.compute(gathered, k=k, within=within)
        with progress.bar(f"annotating {opened.name}", len(known), "records") as advance:

            def answer(keys: Sequence[Key]) -> list[dict[str, Any]]:
                advance(len(keys))
                return _rows(found, [known[key] for key in keys], columns, said["run"])

            opened.write(list(known), columns, answer, said)
    complete = set(gathered.ids[answers.common(gathered)])
    answered = sum(match.id in complete for match in matches)
    return AnnotationReport(opened.name, len(matches), answered, len(known), said["run"])


def _score(store: "Store", side: ModelLayer) -> None:
    """Judge what a model has not judged; nothing is written where there is nothing to do."""
    with store.snapshot() as snapshot:
        judged = snapshot.rows(
            "SELECT id FROM typicality WHERE model = ? AND layer = ?", list(side)
        )
        embedded = snapshot.points(snapshot.embeddings(*side, "structure"))
    if set(embedded.column("structure_id")) <= {id for (id,) in judged}:
        return
    try:
        store.score([str(side)])
    except InvalidQuery as error:
        progress.say(f"{error}; the columns of atypicality stay empty")


def _rows(
    found: answers.Answers, matches: list[Match], columns: answers.Columns, run: str
) -> list[dict[str, Any]]:
    """All columns of some records."""
    ids = [match.id for match in matches if match.id is not None]
    told = dict(zip(ids, answers.told(found, ids), strict=True))
    rows = []
    for match in matches:
        row = dict.fromkeys(columns) | told.get(match.id or "", {})
        first = row.pop(answers.FIRST, None)
        row |= {f"{PREFIX}id": match.id, f"{PREFIX}run": run}
        # A group's first record is no duplicate; its structure may come in several records.
        row[f"{PREFIX}duplicate_of"] = first if first != match.id or match.again else None
        row[f"{PREFIX}reason"] = match.reason or row[f"{PREFIX}reason"]
        rows.append(row)
    return rows
