"""For snapshots.py: what queries of a store cost in one process, by any version: `warm.py STORE`.

Prints JSON: {query: milliseconds of each call}, the first call of each left out.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from platonic_store import Store

CALLS = 13
Query = Callable[[Store, str, str, str], object]

QUERIES: dict[str, Query] = {
    "similar, structures": lambda store, id_, *_: store.similar(id_),
    "similar, atoms": lambda store, id_, *_: store.similar(id_, site=0),
    "similar, across": lambda store, id_, other, _: store.similar(id_, across=other),
    "similar, by the SQL function": lambda store, id_, *_: store.sql(
        f"FROM similar_structures('{id_}')"
    ),
    "plain SQL": lambda store, id_, _, key: store.sql(
        f"SELECT formula, nsites FROM structure WHERE {key} = '{id_}'"
    ),
    "typicality": lambda store, id_, *_: store.typicality(id_),
}


def milliseconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - start)


def main(path: Path) -> None:
    store = Store.open(path)
    rows = store.sql(f"FROM structure ORDER BY hash(formula), formula LIMIT {CALLS}")
    key = rows.columns[0]  # whose name has changed
    other = store.sql("SELECT name FROM model ORDER BY added_at")["name"].tolist()[-1]
    spent: dict[str, list[float]] = {name: [] for name in QUERIES}
    for id_ in rows[key]:  # all in turn, so that what else the machine does meets them alike
        for name, query in QUERIES.items():
            spent[name].append(milliseconds(lambda: query(store, id_, other, key)))  # noqa: B023
    print(json.dumps({name: times[1:] for name, times in spent.items()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
