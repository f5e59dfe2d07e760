"""A store of any size for scale.py: made-up crystals and vectors in a real catalogue and tables."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from ase.data import chemical_symbols

from platonic_store.arrow import vector_array
from platonic_store.geometry.pooling import mean_by_structure
from platonic_store.storage import commits
from platonic_store.storage import tables as t
from platonic_store.storage.bulk import SCHEMAS
from platonic_store.storage.catalog import insert_arrow
from platonic_store.storage.writer import Writer
from platonic_store.store import Store

FEATURES, LATENT, ELEMENTS = 128, 16, 89
ATOMS_A_STRUCTURE = 9.55  # as in Materials Project's crystals of up to 20 atoms


def make(path: Path, atoms: int, models: int = 2) -> Store:
    """A store of about so many atoms; the models see the same latent atoms, each in its own way.

    An atom's latent place is its element's, one of 40 environments of that element, and a little
    of its own; a model turns it into 128 features by a random linear map, adds a second, bent one,
    and noise. Two of three atoms are distinct by symmetry. `energy` is linear in the composition
    plus a smooth function of the latent mean.
    """
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, int(2 * ATOMS_A_STRUCTURE), size=round(atoms / ATOMS_A_STRUCTURE))
    structure = np.repeat(np.arange(len(sizes)), sizes)
    site = np.arange(len(structure)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    orbit = np.where(site % 3 == 2, site - 1, site)
    palette = rng.integers(1, ELEMENTS + 1, size=(len(sizes), 3))
    numbers = palette[structure, orbit % 3 % 2 + (orbit > 8)]
    latent = _latent(rng, numbers, structure, orbit)
    store = Store.open(path)
    with store._writing("synthetic structures", create=True) as writer:
        _add_structures(writer, rng, sizes, structure, numbers, orbit, latent)
        for index in range(models):
            _embed(writer, rng, f"synthetic-{index}", structure, site, orbit, numbers, latent)
        writer.publish()
        writer.publish(maintained=writer.vector_tables)
    return store


def _latent(
    rng: np.random.Generator, numbers: np.ndarray, structure: np.ndarray, orbit: np.ndarray
) -> np.ndarray:
    """(n, LATENT): equivalent sites lie in one place."""
    elements = 2 * rng.standard_normal((ELEMENTS + 1, LATENT))
    environments = rng.standard_normal((ELEMENTS + 1, 40, LATENT))
    _, first, same = np.unique(structure * 64 + orbit, return_index=True, return_inverse=True)
    z = numbers[first]
    rows = elements[z] + environments[z, rng.integers(40, size=len(z))]
    latent: np.ndarray = rows + 0.2 * rng.standard_normal(rows.shape)
    return latent[same]


def _add_structures(
    writer: Writer,
    rng: np.random.Generator,
    sizes: np.ndarray,
    structure: np.ndarray,
    numbers: np.ndarray,
    orbit: np.ndarray,
    latent: np.ndarray,
) -> None:
    starts = np.concatenate([[0], np.cumsum(sizes)])
    parts = [slice(*pair) for pair in pairwise(starts)]
    ids = [f"s{i}" for i in range(len(sizes))]
    symbols = [sorted({chemical_symbols[z] for z in numbers[part]}) for part in parts]
    distinct = np.unique(structure * 64 + orbit) // 64
    rows = pa.table(
        {
            "id": ids,
            "content_hash": ids,
            "formula": ["".join(names) for names in symbols],
            "elements": symbols,
            "nsites": pa.array(sizes, pa.int32()),
            "distinct_sites": pa.array(np.bincount(distinct), pa.int32()),
            "volume": sizes * 12.0,
            "spacegroup": pa.array(rng.integers(1, 231, len(ids)), pa.int16()),
        }
    )
    crystals = pa.table(
        {
            "structure_id": ids,
            "numbers": [numbers[part] for part in parts],
            "positions": [rng.uniform(0, 9, 3 * size) for size in sizes],
            "cell": [np.eye(3).ravel() * 9] * len(ids),
            "pbc": [[True] * 3] * len(ids),
            "orbits": [orbit[part] for part in parts],
        }
    )
    weights = rng.standard_normal(ELEMENTS + 1)
    energy = mean_by_structure((weights[numbers] + np.sin(latent[:, 0]))[:, None], structure)[:, 0]
    with writer.writing() as connection:
        writer.add_rows("crystals", crystals.cast(SCHEMAS["crystals"]))
        insert_arrow(connection, "structures", rows)
        connection.execute(sa.text("ALTER TABLE properties ADD COLUMN energy DOUBLE"))
        insert_arrow(connection, "properties", pa.table({"structure_id": ids, "energy": energy}))


def _embed(
    writer: Writer,
    rng: np.random.Generator,
    model: str,
    structure: np.ndarray,
    site: np.ndarray,
    orbit: np.ndarray,
    numbers: np.ndarray,
    latent: np.ndarray,
) -> None:
    with writer.writing() as connection:
        connection.execute(
            sa.insert(t.models).values(
                name=model, family="synthetic", checkpoint_sha256="0" * 64, default_layer=0, card={}
            )
        )
    straight, bent = rng.standard_normal((2, LATENT, FEATURES))
    vectors = latent @ straight + np.tanh(latent @ bent)
    _, first, same = np.unique(structure * 64 + orbit, return_index=True, return_inverse=True)
    vectors = (vectors + 0.1 * rng.standard_normal((len(first), FEATURES))[same]).astype(np.float32)
    ids = np.char.add("s", structure.astype(str))
    tables = {
        level: commits.ensure_vector_table(writer, model, 0, level, FEATURES)
        for level in ("atom", "structure")
    }
    rows = pa.table(
        {
            "structure_id": ids,
            "site_index": site,
            "atomic_number": numbers,
            "orbit": orbit,
            "vector": vector_array(vectors),
        }
    )
    whole = [f"s{i}" for i in range(structure[-1] + 1)]
    means = pa.table(
        {"structure_id": whole, "vector": vector_array(mean_by_structure(vectors, structure))}
    )
    appends = [
        commits.TableAppend(tables["atom"], rows),
        commits.TableAppend(tables["structure"], means),
    ]
    commits.commit_chunk(writer, 0, whole, appends)
