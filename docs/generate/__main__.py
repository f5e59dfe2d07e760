"""Write what is made from the code: `python docs/generate`, or `make docs`.

With `--check`, exit with 1 and name the files that are not what the code says today.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import commands
import cookbook
import models
import questions as questions_page

from platonic_store import questions
from platonic_store.questions.shared import methods

ROOT = Path(__file__).parent.parent.parent
FILES: dict[str, Callable[[], str]] = {
    "platonic_store/methods.pyi": lambda: methods.source(questions.names()),
    "docs/commands.md": commands.page,
    "docs/cookbook.md": cookbook.page,
    "docs/models.md": models.page,
    "docs/reference/questions.md": questions_page.page,
}


def main(*arguments: str) -> int:
    """Write the files, or only compare them."""
    stale = [name for name, made in FILES.items() if (ROOT / name).read_text() != made()]
    if "--check" in arguments:
        for name in stale:
            print(f"{name} is out of date: run `make docs`", file=sys.stderr)
        return bool(stale)
    for name in stale:
        (ROOT / name).write_text(FILES[name]())
        print(f"{name} written")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
