"""The upkeep of a store: compaction, clean-up, and checks of what it holds."""

from typing import Any

from platonic_store.jobs.repair import repair
from platonic_store.storage.damage import damaged
from platonic_store.storage.verification import verify
from platonic_store.storage.writer import Writer


def examine(writer: Writer, *, deep: bool, repairs: bool) -> dict[str, Any]:
    """Compact, remove what no snapshot needs, and check that all parts agree."""
    hurt = damaged(writer.location, writer.snapshot().manifest) if deep or repairs else []
    mended = []
    if hurt and repairs:
        mended = repair(writer, hurt)
        hurt = damaged(writer.location, writer.snapshot().manifest)
    problems = [f"{file.path} is damaged" for file in hurt] + verify(writer.snapshot())
    if not problems:
        writer.publish(maintained=writer.vector_tables)
    removed = writer.clean_up(thoroughly=True)
    return {"problems": problems, "mended": mended, "removed": removed}
