"""`annotate` in a process that kills itself: `python annotate_driver.py STORE TARGET BATCHES`."""

import os
import signal
import sys
from itertools import count

from platonic_store.annotation import annotate, targets
from platonic_store.store import Store


def main() -> None:
    path, target, last = sys.argv[1], sys.argv[2], int(sys.argv[3])
    targets.BATCH = 8
    rows, asked = annotate._rows, count(1)

    def dying(*arguments):
        if next(asked) > last:
            os.kill(os.getpid(), signal.SIGKILL)
        return rows(*arguments)

    annotate._rows = dying
    Store.open(path).annotate(target, by_id=True)


if __name__ == "__main__":
    main()
