"""The indices of a large vector table: made, measured, and kept up to date.

Vectors are indexed by inverted lists of scalar-quantised rows (IVF_SQ), a quarter of the table's
size. How many lists a search probes follows from a measurement: the fewest of `PROBES` by which
`QUERIES` rows of the table find the ten nearest to them, themselves left out, with a recall of
`RECALL`. Where more lists bring no more, the index orders rows too roughly: then twice, four or
eight times as many of what it finds are measured exactly, as long as that brings more. What was
measured is kept in the table's configuration. Ids of structures are indexed by a B-tree.
"""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from platonic_store.arrow import vector_matrix
from platonic_store.geometry.neighbours import row_lengths
from platonic_store.runtimes import memory
from platonic_store.storage.bulk import to_merge
from platonic_store.storage.layout import Level
from platonic_store.storage.nearest_rows import nearest_rows
from platonic_store.storage.vector_lists import AHEAD_BYTES, made_lists

if TYPE_CHECKING:
    from lance import LanceDataset

# Below this an exact scan takes milliseconds; above it the plain DuckDB client wants an index.
INDEX_FROM_ROWS = 100_000
PARTITION_ROWS = 4096
MOST_LISTS = 1_024  # to make lists takes the square of their number
PROBES = (2, 4, 8, 16, 32, 64, 128, 256, 512)
RECALL = 0.998  # more than is promised: rows that come later are no part of the measurement
GOOD = 0.99
GAIN = 0.001  # of recall, for which four times as many lists are probed
REFINE = (1, 2, 4, 8)  # times as many candidates, if the index orders them too roughly
QUERIES = 100
NEAREST = 10
GROWN = 4  # times as many rows as when its lists were made: they are made anew
MEASURED = 1.25  # times as many as when it was measured: it is measured again
_KEY = "platonic.search"


class Measured(NamedTuple):
    """How a table is searched: lists probed, the recall@10 measured so, with how many rows.

    refine: times as many candidates as usual are measured exactly.
    """

    probes: int
    recall: float
    rows: int
    lists_of: int
    refine: int = 1

    @property
    def is_good(self) -> bool:
        """Whether it was measured that the index finds what a scan would."""
        return self.recall >= GOOD


UNMEASURED = Measured(64, float("nan"), 0, 0)


def measured(table: "LanceDataset") -> Measured:
    """What was measured when a table was last indexed."""
    text = table.config().get(_KEY)
    return Measured(**json.loads(text)) if text else UNMEASURED


def keep_indexed(table: "LanceDataset") -> None:
    """Index a large table, or bring its indices up to date; measure what has changed."""
    renew: Callable[[], None] = table.checkout_latest  # Lance gives it no types
    rows = table.count_rows()
    known = {tuple(index.field_names): index for index in table.describe_indices()}
    if rows < INDEX_FROM_ROWS:
        return
    before = measured(table)
    is_made = ("vector",) not in known or 0 < GROWN * before.lists_of < rows
    if is_made:
        memory.give_back()
        with made_lists(table, _lists(rows)) as lists:
            memory.give_back()
            table.create_index("vector", "IVF_SQ", metric="cosine", replace=True, **lists)
    if ("structure_id",) not in known:
        table.create_scalar_index("structure_id", "BTREE")
    renew()
    _add_new_rows(table, rows)
    renew()
    # Version 0.2 probed the most lists where recall was good and became no higher.
    is_stale = rows > MEASURED * before.rows or before.probes >= PROBES[-1]
    is_stale |= not before.is_good and before.refine < REFINE[-1]
    if is_made or is_stale:
        found = measure(table)._replace(lists_of=rows if is_made else before.lists_of or rows)
        table.update_config({_KEY: json.dumps(found._asdict())})


def _add_new_rows(table: "LanceDataset", rows: int) -> None:
    """Bring what no index knows into a segment of its own, merged with the newest ones like files:
    what is appended to a large table does not write its index again.
    """
    for index in table.describe_indices():
        known = index.num_rows_indexed
        if known < rows:
            sizes = [segment.size_bytes or 0 for segment in index.segments]
            new = sum(sizes) * (rows - known) // max(known, 1)
            table.optimize.optimize_indices(
                index_names=[index.name],
                num_indices_to_merge=max(to_merge([*sizes, new]) - 1, 0),
            )


def measure(table: "LanceDataset") -> Measured:
    """The fewest candidates and probes that find enough, and the recall that they reach."""
    level: Level = "atom" if "orbit" in table.schema.names else "structure"
    queries = queries_of(table, level)
    limits = exact_distances(table, level, queries)[:, -1] + 2e-6  # in single precision
    tried: list[Measured] = []
    for refine in REFINE:
        tried.append(_measure(table, level, queries, limits, refine))
        gain = tried[-1].recall - tried[-2].recall if len(tried) > 1 else 1
        if tried[-1].recall >= RECALL or gain < GAIN:
            break
    least = min(RECALL, max(one.recall for one in tried) - GAIN)
    return next(one for one in tried if one.recall >= least)


def _measure(
    table: "LanceDataset", level: Level, queries: np.ndarray, limits: np.ndarray, refine: int
) -> Measured:
    rows, tried = table.count_rows(), dict[int, float]()
    for probes in PROBES:
        hits = 0.0
        for query, limit in zip(queries, limits, strict=True):
            found = nearest_rows(table, level, query, NEAREST + 1, probes, refine=refine)
            near = 0 if found is None else int((np.asarray(found["_distance"]) <= limit).sum())
            hits += max(near - 1, 0) / NEAREST
        tried[probes] = hits / len(queries)
        if is_enough(list(tried.values())) or probes >= _lists(rows):
            break
    probes = fewest(tried)
    return Measured(probes, round(tried[probes], 4), rows, 0, refine)


def is_enough(recalls: list[float]) -> bool:
    """Whether more probes need not be tried: recall is high, or four times as many bring no more.

    What is lost then is lost by the quantisation, which no list brings back.
    """
    last = recalls[-1]
    return last >= RECALL or (len(recalls) > 2 and last - recalls[-3] < GAIN)


def fewest(recalls: dict[int, float]) -> int:
    """The fewest probes that reach `RECALL`, or else the best."""
    least = min(RECALL, max(recalls.values()))
    return min(probes for probes, recall in recalls.items() if recall >= least)


def _lists(rows: int) -> int:
    return max(1, min(rows // PARTITION_ROWS, MOST_LISTS))


def queries_of(table: "LanceDataset", level: Level) -> np.ndarray:
    """(q, dim) vectors of random rows that speak for themselves: by them recall is measured."""
    places = np.random.default_rng(0).choice(table.count_rows(), 4 * QUERIES, replace=False)
    keys = ["site_index", "orbit"] if level == "atom" else []
    found = table.take(np.sort(places).tolist(), columns=["vector", *keys])
    speaks = np.ones(len(found), dtype=bool)
    if level == "atom":
        speaks = np.asarray(found["site_index"]) == np.asarray(found["orbit"])
    return vector_matrix(found["vector"])[speaks][:QUERIES]


def exact_distances(table: "LanceDataset", level: Level, queries: np.ndarray) -> np.ndarray:
    """(q, NEAREST + 1) the least distances of rows that speak for themselves, in one pass."""
    condition = "site_index = orbit" if level == "atom" else None
    unit = queries / np.maximum(row_lengths(queries), 1e-30)[:, None]
    best = np.full((len(queries), NEAREST + 1), 2, dtype=np.float32)
    batches = table.to_batches(columns=["vector"], filter=condition, io_buffer_size=AHEAD_BYTES)
    for batch in batches:
        rows = vector_matrix(batch["vector"])
        far = 1 - unit @ (rows / np.maximum(row_lengths(rows), 1e-30)[:, None]).T
        best = np.partition(np.hstack([best, far]), NEAREST, axis=1)[:, : NEAREST + 1]
    return np.sort(best, axis=1)
