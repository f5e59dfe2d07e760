"""The nearest neighbours of every structure, or of every atom, in one go."""

import logging
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from tempfile import SpooledTemporaryFile, gettempdir
from typing import IO, Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

from platonic_store import progress
from platonic_store.errors import InvalidQuery
from platonic_store.geometry.cells import EXACT_PAIRS, cells_of, measured, nearest_around
from platonic_store.geometry.neighbours import nearest
from platonic_store.questions.shared.declaration import Column, question_in_parts
from platonic_store.questions.shared.distinct_rows import DistinctRows, distinct_rows
from platonic_store.questions.shared.indexed import is_among, level_of
from platonic_store.questions.shared.parameters import Across, K, Level, Model, Space, Where
from platonic_store.questions.shared.tables import between
from platonic_store.runtimes.threads import ahead
from platonic_store.storage import lookup
from platonic_store.storage.disk import refusals
from platonic_store.storage.snapshot import Snapshot
from platonic_store.storage.watch import check, check_rows

_log = logging.getLogger(__name__)

BLOCK = 4_096  # queries compared at once
PART = 1 << 19  # answers that come at once
IN_MEMORY = 1 << 26  # bytes of answers; more are in a temporary file until all are found

Found: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray]


class Search(NamedTuple):
    """Parts of the queries, and what finds the nearest of one: its rows, indices and distances.

    recall: what was measured, None where it is exact.
    """

    parts: Iterable[Any]
    find: Callable[[Any], Found]
    recall: float | None = None


@question_in_parts(
    Column("structure_id", "string", "Whose neighbour it is."),
    Column("site_index", "int32", "Of which of its atoms.", kind="atom"),
    Column("rank", "int64", "1 is the nearest."),
    Column("neighbour", "string", "The structure that is near, or that holds the atom."),
    Column("neighbour_site", "int32", "The atom's site in it.", kind="atom"),
    Column("distance", "double", "1 − cosine; across models in the order of distance + hub / 2."),
)
def neighbours(
    snapshot: Snapshot,
    *,
    model: Model = None,
    across: Across = None,
    space: Space = None,
    k: K = 5,
    level: Level = "structure",
    where: Where = None,
) -> Iterator[pa.Table]:
    """The k nearest of every structure (or atom, one for each set of equivalent sites).

    `where` is a condition on the neighbours; all have some. Within a model nothing is its own
    neighbour. Exact up to 50,000 rows; beyond, rows are compared with those of the cells around
    theirs, so many that recall is 0.99, as measured in the same call on a sample and said with the
    answer. Of millions of atoms let the answer be written to a Parquet file: see
    docs/questions/neighbours.md.

    Raises: ModelNotFound, LayerNotFound, AnchorsNotFound, InvalidQuery for a condition that is not
    understood or that nothing meets, StoreNotWritable where many answers fill the temporary folder.
    """
    asking, answering, space = between(snapshot, model, across, space)
    table = lookup.vector_table(snapshot, answering, level, space)
    source = lookup.vector_table(snapshot, asking, level, space)
    candidates = distinct_rows(snapshot, table)
    queries = candidates if source == table else distinct_rows(snapshot, source)
    own = None if across else np.arange(len(queries.vectors))
    if where is not None:
        meeting = lookup.matching(snapshot, where, level_of(snapshot, level, where))
        rows = np.flatnonzero(is_among(candidates.keys(), meeting))
        candidates = candidates.take(rows)
        if own is not None:
            own = np.full(len(queries.vectors), -1)
            own[rows] = np.arange(len(rows))
    if not len(candidates.vectors):
        raise InvalidQuery(f"{table.name} has no rows" + (f" where {where}" if where else ""))
    k = min(k, len(candidates.vectors))
    check_rows(len(queries.vectors) * k)
    search = _search(queries, candidates, k, own, candidates.hubs if across else None)
    order = queries.order()
    temporary = f"temporary files in {gettempdir()}"
    with refusals(temporary), SpooledTemporaryFile(IN_MEMORY) as file:
        record = np.dtype([("found", "i4", (k,)), ("distance", "f8", (k,))])
        _keep(file, search, own, order, record)
        file.seek(0)
        step = max(1, PART // k)
        for start in range(0, len(order), step):
            rows = order[start : start + step]
            answers = np.frombuffer(file.read(len(rows) * record.itemsize), record)
            yield _table(queries, candidates, rows, answers, search.recall)


def _search(
    queries: DistinctRows,
    candidates: DistinctRows,
    k: int,
    own: np.ndarray | None,
    hubs: np.ndarray | None,
) -> Search:
    """Of the k nearest others, or one more: exactly, or of very many by cells."""
    given = queries.vectors, candidates.vectors
    starts = range(0, len(queries.vectors), BLOCK)
    if len(queries.vectors) * len(candidates.vectors) <= EXACT_PAIRS:
        blocks = (np.arange(start, min(start + BLOCK, len(given[0]))) for start in starts)
        return Search(blocks, lambda rows: (rows, *nearest(given[0][rows], given[1], k + 1, hubs)))
    cells = cells_of(*given)
    around, recall = measured(*given, k, cells, hubs, own)
    _log.info("recall@%d of neighbours is %.4f, by %d cells", k, recall, around)
    find = partial(nearest_around, *given, k + 1, cells, around, hubs=hubs)
    return Search(cells.parts(BLOCK), find, recall)


def _keep(
    file: IO[bytes], search: Search, own: np.ndarray | None, order: np.ndarray, record: np.dtype
) -> None:
    """Write the answers to all queries in the order of these, a record each."""
    size, place = record.itemsize, np.empty_like(order)
    place[order] = np.arange(len(order))
    with progress.bar("nearest neighbours", len(order), "rows") as advance:
        for _, (rows, index, distance) in ahead(search.find, search.parts):
            check()
            answers = _others(index, distance, None if own is None else own[rows], record)
            content = memoryview(answers.tobytes())
            for number, one in enumerate(place[rows].tolist()):
                file.seek(one * size)
                file.write(content[number * size : (number + 1) * size])
            advance(len(rows))


def _others(
    index: np.ndarray, distance: np.ndarray, own: np.ndarray | None, record: np.dtype
) -> np.ndarray:
    """Of each row's nearest the first k that are not itself; found is -1 where there are fewer."""
    (k,) = record["found"].shape
    is_other = np.ones(index.shape, bool) if own is None else index != own[:, None]
    first = np.argsort(~is_other, axis=1, kind="stable")[:, :k]
    found = np.where(is_other, index, -1)
    answers = np.zeros(len(index), record)
    answers["found"] = -1
    answers["found"][:, : first.shape[1]] = np.take_along_axis(found, first, axis=1)
    answers["distance"][:, : first.shape[1]] = np.take_along_axis(distance, first, axis=1)
    return answers


def _table(
    queries: DistinctRows,
    candidates: DistinctRows,
    rows: np.ndarray,
    answers: np.ndarray,
    recall: float | None,
) -> pa.Table:
    who, which = np.nonzero(answers["found"] >= 0)
    asked, near = queries.keys(rows[who]), candidates.keys(answers["found"][who, which])
    near = near.rename_columns(["neighbour", "neighbour_site"][: near.num_columns])
    columns = dict(zip(asked.column_names, asked.columns, strict=True))
    columns["rank"] = pa.array(which + 1)
    columns |= dict(zip(near.column_names, near.columns, strict=True))
    columns["distance"] = pa.array(answers["distance"][who, which])
    return pa.table(columns, metadata=recall and {"recall": f"{recall:.4f}"})
