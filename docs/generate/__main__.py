"""Write the pages that are made from the code: `python docs/generate`, or `make docs`.

With `--check`, exit with 1 and name the pages that are not what the code says today.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import commands
import cookbook
import models

import platonic_store.questions

DOCS = Path(__file__).parent.parent
PAGES: dict[str, Callable[[], str]] = {
    "commands.md": commands.page,
    "cookbook.md": cookbook.page,
    "models.md": models.page,
}
if hasattr(platonic_store.questions, "names"):
    import questions

    PAGES["reference/questions.md"] = questions.page


def main(*arguments: str) -> int:
    """Write the pages, or only compare them."""
    stale = [name for name, page in PAGES.items() if (DOCS / name).read_text() != page()]
    if "--check" in arguments:
        for name in stale:
            print(f"docs/{name} is out of date: run `make docs`", file=sys.stderr)
        return bool(stale)
    for name in stale:
        (DOCS / name).write_text(PAGES[name]())
        print(f"docs/{name} written")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
