"""What a reference compares with, kept beside its scores: to draw it anew takes a pass over all."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from platonic_store.arrow import vector_array, vector_matrix
from platonic_store.geometry.typicality import Atoms
from platonic_store.questions.shared.embedded_sets import EmbeddedSet
from platonic_store.storage import lookup
from platonic_store.storage.snapshot import ModelLayer, Snapshot

SHARE = 0.25  # of the model's atoms; where a reference is more of them, it is soon read from these


class Kept(NamedTuple):
    """Keys, composition (`group`) and `vector` of typical structures, and of typical atoms."""

    structures: pa.Table
    atoms: pa.Table


def is_kept(snapshot: Snapshot, side: ModelLayer, atoms: int) -> bool:
    """Whether a reference of so many atoms is kept."""
    return atoms <= SHARE * lookup.vector_table(snapshot, side, "atom").rows


def to_keep(known: EmbeddedSet) -> Kept:
    """What a reference compares with, to be kept."""
    structures = pa.table({"structure_id": pa.array(known.ids, pa.string())})
    atoms = pa.Table.from_pandas(known.sites, preserve_index=False)
    tables = []
    for table, these in ((structures, known.whole), (atoms, known.atoms)):
        table = table.append_column("group", pa.array(these.groups))
        tables.append(table.append_column("vector", vector_array(these.vectors)))
    return Kept(*tables)


def compared(kept: Kept) -> EmbeddedSet:
    """What a reference compares with, as it was kept."""
    structures, atoms = kept
    vectors = [vector_matrix(table["vector"]) for table in kept]
    sites = atoms.drop_columns(["group", "vector"]).to_pandas()
    elements = sites["atomic_number"].to_numpy(dtype=np.int64)
    return EmbeddedSet(
        structures["structure_id"].to_pandas().to_numpy(),
        Atoms(vectors[0], np.zeros(len(structures), np.int64), structures["group"].to_numpy()),
        sites,
        Atoms(vectors[1], elements, atoms["group"].to_numpy()),
    )


def to_bytes(kept: Kept) -> list[bytes]:
    """In half precision where that loses nothing, as of tables that are."""
    contents = []
    for table in kept:
        vectors = vector_matrix(table["vector"])
        half = vectors.astype(np.float16)
        if (half == vectors).all():
            column = pa.FixedSizeListArray.from_arrays(pa.array(half.ravel()), vectors.shape[1])
        else:
            column = vector_array(vectors)
        table = table.drop_columns("vector").append_column("vector", column)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        contents.append(sink.getvalue().to_pybytes())
    return contents


def read(snapshot: Snapshot, reference: str) -> Kept | None:
    """Of a reference by its id; None where it is not kept."""
    contents = [lookup.parameters(snapshot, name) for name in lookup.reference_names(reference)]
    if None in contents:
        return None
    return Kept(*(pa.ipc.open_stream(content).read_all() for content in contents))
