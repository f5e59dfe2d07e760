"""Annotation: match a target's records with the store's structures and write what is known."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from platonic_store import progress
from platonic_store.annotation import answers, matching, provenance, store_data
from platonic_store.annotation.matching import AnnotatingStore, Match
from platonic_store.annotation.screening import screen_records
from platonic_store.annotation.targets import PREFIX, Columns, Key, open_target
from platonic_store.errors import InvalidQuery
from platonic_store.storage import lookup
from platonic_store.storage.snapshot import ModelLayer


class AnnotationReport(NamedTuple):
    """How many records a target has, how many have an answer by every model, and how many were
    written: those that did not carry this run's answers yet."""

    target: str
    records: int
    answered: int
    written: int
    run: str


def annotate(
    store: AnnotatingStore,
    target: str | Path,
    *,
    models: Sequence[str] = (),
    out: str | Path | None = None,
    id: str | None = None,
    table: str | None = None,
    by_id: bool = False,
    k: int = 10,
    within: float = 0.005,
    reference: str | None = None,
) -> AnnotationReport:
    """Write into a user's records what the store knows of their structures; see `Store.annotate`.

    Matches, answers and provenance are of one snapshot, taken after all is ingested and scored.
    """
    opened = open_target(target, out=out, id=id, table=table, by_id=by_id)
    layers = matching.model_layers(store, models, ingest=not by_id)
    columns = answers.columns_of(layers, with_reference=reference is not None)
    identities = matching.identify(store, opened)
    for layer in layers if not by_id else []:
        matching.ingest_missing(store, opened, identities, layer)
    for layer in layers:
        _score_missing(store, layer)
    snapshot = store.snapshot()
    data = store_data.gather(snapshot, layers)
    settings: dict[str, Any] = {"k": k, "within": within}
    covered = None
    if reference is not None:
        covered = answers.covered(snapshot, layers, reference)
        settings["reference"] = covered.attrs["reference"]
    run = provenance.describe(snapshot, layers, settings)
    matches = matching.match(identities, data.contents)
    done = opened.done(run["run"])
    left = {match.key: match for match in matches if match.key not in done}
    complete = set(data.ids[store_data.common(data)])
    if left:
        found = answers.compute(data, k=k, within=within, covered=covered)
        ids = complete & {match.id for match in matches if match.id is not None}
        classes = screen_records(snapshot, layers, sorted(ids))
        with progress.bar(f"annotating {opened.name}", len(left), "records") as advance:

            def answer(keys: Sequence[Key]) -> list[dict[str, Any]]:
                advance(len(keys))
                some = [left[key] for key in keys]
                return _rows(found, classes, some, columns, run["run"])

            opened.write(list(left), columns, answer, run)
    answered = sum(match.id in complete for match in matches)
    return AnnotationReport(opened.name, len(matches), answered, len(left), run["run"])


def _score_missing(store: AnnotatingStore, layer: ModelLayer) -> None:
    """Score a model's structures if any has no score; write nothing if none lacks one."""
    snapshot = store.snapshot()
    scored = snapshot.rows(
        "SELECT c.structure_id FROM structure_scores AS c "
        "JOIN catalog.main.reference_sets AS r ON r.id = c.reference "
        "WHERE r.model = ? AND r.layer = ?",
        list(layer),
    )
    embedded = snapshot.points(lookup.vector_table(snapshot, layer, "structure"))
    if set(embedded.column("structure_id")) <= {id for (id,) in scored}:
        return
    try:
        store.score([str(layer)])
    except InvalidQuery as error:
        progress.say(f"{error}; the columns of atypicality stay empty")


def _rows(
    found: answers.Answers,
    classes: dict[str, dict[str, Any]],
    matches: list[Match],
    columns: Columns,
    run: str,
) -> list[dict[str, Any]]:
    """All columns of some records."""
    ids = [match.id for match in matches if match.id is not None]
    known = dict(zip(ids, answers.format_rows(found, ids), strict=True))
    rows = []
    for match in matches:
        id = match.id or ""
        row = dict.fromkeys(columns) | known.get(id, {}) | classes.get(id, {})
        first = row.pop(answers.FIRST, None)
        row |= {f"{PREFIX}id": match.id, f"{PREFIX}run": run}
        # A group's first record is no duplicate; its structure may come in several records.
        row[f"{PREFIX}duplicate_of"] = first if first != match.id or match.again else None
        row[f"{PREFIX}reason"] = match.reason or row[f"{PREFIX}reason"]
        rows.append(row)
    return rows
