"""The study as one HTML page: what the paper shows in figures, for any store."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from platonic_store.errors import PlatonicError, worded
from platonic_store.progress import say
from platonic_store.report import page
from platonic_store.report.sections import SECTIONS, controls
from platonic_store.report.study import Section, resolve_study
from platonic_store.storage.snapshot import Snapshot


def write(
    snapshot: Snapshot,
    store: str,
    out: Path,
    *,
    models: list[str] | None,
    space: str | None,
    seed: int,
    reference: str | None = None,
) -> Path:
    """Run the study of one state of a store and write the page, its numbers as parquet beside it.

    A section whose question cannot be answered from this store says why; the others are written.

    Raises: ModelNotFound, LayerNotFound, AnchorsNotFound for models or a space that are not here.
    """
    study = resolve_study(snapshot, store, models, space, seed, reference)
    sections: list[Section] = []
    rows = []
    for module in (*SECTIONS, controls):
        started = time.perf_counter()
        section = _section(module, (sections,) if module is controls else (snapshot, study))
        seconds = time.perf_counter() - started
        say(f"{section.title:.<42} {seconds:6.1f} s{'  not run' if section.skipped_reason else ''}")
        sections.append(section)
        rows.append((section.name, seconds, section.skipped_reason))
    timing = pd.DataFrame(rows, columns=["section", "seconds", "not_run_because"])
    folder = out.with_name(f"{out.stem}_data")
    files = _write_frames(folder, sections, timing)
    out.write_text(page.render(study, sections, timing, folder.name, files), encoding="utf-8")
    return out


def _section(module: Any, arguments: tuple[Any, ...]) -> Section:
    try:
        section: Section = module.section(*arguments)
    except PlatonicError as error:
        section = Section(module.TITLE, skipped_reason=_reason(error))
    return replace(section, name=module.__name__.rpartition(".")[2])


def _reason(error: PlatonicError) -> str:
    return f"{error}: {worded(error.hint)}" if error.hint else str(error)


def _write_frames(
    folder: Path, sections: list[Section], timing: pd.DataFrame
) -> list[tuple[str, int]]:
    """Every section's frames as parquet; returns the files' names and their rows."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = {name: frame for section in sections for name, frame in section.frames.items()}
    frames["sections"] = timing
    for name, frame in frames.items():
        frame.to_parquet(folder / f"{name}.parquet", index=False)
    return [(f"{name}.parquet", len(frame)) for name, frame in frames.items()]
