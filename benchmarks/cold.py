"""For snapshots.py: the first `similar` of a process, and the same for others: `cold.py URI ID…`

Prints JSON: the seconds of each call, of which the first opens the store.
"""

import json
import sys
import time
from itertools import pairwise

from platonic_store import Store


def main(uri: str, ids: list[str]) -> None:
    times = [time.perf_counter()]
    store = Store.open(uri)
    for id_ in ids:
        store.similar(id_)
        times.append(time.perf_counter())
    print(json.dumps([after - before for before, after in pairwise(times)]))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
