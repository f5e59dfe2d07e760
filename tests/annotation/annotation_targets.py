"""The same records as every kind of target: crystals under their ids, with a note of the user's."""

import csv
import gzip
import json
from pathlib import Path

import ase.db
import pandas as pd
import sqlalchemy as sa
from ase import Atoms
from ase.io import write
from pymatgen.io.ase import AseAtomsAdaptor

MODELS = ["sevennet-0", "chgnet-0.3.0"]
DATABASES = ["sqlite", "duckdb", "postgresql"]
KINDS = ["csv", "csv.gz", "parquet", "extxyz", "db", "json", *DATABASES]


def rows_of(crystals: dict[str, Atoms]) -> list[dict[str, str]]:
    """As a table has them: two notes that a reader of numbers would spoil, and no structures."""
    return [
        {"material_id": id, "note": "007" if number % 2 else 'so "far"\nso good, 1.50'}
        for number, id in enumerate(crystals)
    ]


def _csv(path: Path, crystals: dict[str, Atoms]) -> None:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", newline="") as file:
        writer = csv.DictWriter(file, ["note", "material_id"], lineterminator="\r\n")
        writer.writeheader()
        writer.writerows(rows_of(crystals))


def _parquet(path: Path, crystals: dict[str, Atoms]) -> None:
    pd.DataFrame(rows_of(crystals)).to_parquet(path, row_group_size=16, compression="zstd")


def _extxyz(path: Path, crystals: dict[str, Atoms]) -> None:
    frames = [atoms.copy() for atoms in crystals.values()]
    for frame, row in zip(frames, rows_of(crystals), strict=True):
        frame.info = {**row, "note": row["note"].replace("\n", " ")}
    write(path, frames)


def _asedb(path: Path, crystals: dict[str, Atoms]) -> None:
    with ase.db.connect(path) as database:
        for id, atoms in crystals.items():
            database.write(atoms, material_id=id, note="mine", data={"own": [1, 2]})


def _json(path: Path, crystals: dict[str, Atoms]) -> None:
    structures = {
        id: AseAtomsAdaptor.get_structure(atoms).as_dict() for id, atoms in crystals.items()
    }
    path.write_text(json.dumps(structures))


_FILES = {
    **{"csv": _csv, "csv.gz": _csv, "parquet": _parquet},
    **{"extxyz": _extxyz, "db": _asedb, "json": _json},
}


def file(path: Path, crystals: dict[str, Atoms]) -> str:
    """A file of the kind that its name says."""
    _FILES[path.name.partition(".")[2]](path, crystals)
    return str(path)


def table(url: str, crystals: dict[str, Atoms]) -> str:
    """A table of names that must be quoted, and no structures."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text('DROP TABLE IF EXISTS "My crystals"'))
        connection.execute(sa.text("DROP TABLE IF EXISTS platonic_runs"))
        connection.execute(
            sa.text(
                'CREATE TABLE "My crystals" (row_number INTEGER PRIMARY KEY, '
                'material_id VARCHAR(80) NOT NULL, "a note" VARCHAR(80))'
            )
        )
        connection.execute(
            sa.text('INSERT INTO "My crystals" VALUES (:row, :material_id, :note)'),
            [row | {"row": number} for number, row in enumerate(rows_of(crystals))],
        )
    return f"{url}#My crystals"
