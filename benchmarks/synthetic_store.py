"""A store of any size for scale.py: made-up crystals and vectors in a real catalogue and tables.

Crystals are copies of templates, each atom moved some way towards another atom of its element, by
the same share in every model. Templates are made up, or are a store's crystals with their real
embeddings, whose clusters the copies then keep.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from ase.data import chemical_symbols

from platonic_store import progress
from platonic_store.arrow import vector_array
from platonic_store.geometry.pooling import mean_by_structure
from platonic_store.storage import commits, lookup
from platonic_store.storage import tables as t
from platonic_store.storage.bulk import SCHEMAS
from platonic_store.storage.catalog import insert_arrow
from platonic_store.storage.writer import Writer
from platonic_store.store import Store

FEATURES, LATENT, ELEMENTS = 128, 16, 89
ATOMS_A_STRUCTURE = 9.55  # as in Materials Project's crystals of up to 20 atoms
MADE_UP = 7_000  # templates
MOVED = 0.3  # of the way to another atom of the element, at most
NOISE = 0.02  # of a feature's standard deviation
COPIES_A_FORMULA = 3
BLOCK = 20_000  # structures made and committed at once


class Templates(NamedTuple):
    """Crystals with embeddings, atoms one after the other.

    starts: (s + 1,) where each crystal begins; numbers: (n,); first: (n,) the row of the first of
    the sites that symmetry makes equivalent; vectors: (n, D) of each model.
    """

    starts: np.ndarray
    numbers: np.ndarray
    first: np.ndarray
    vectors: list[np.ndarray]


def make(
    path: Path, atoms: int, models: int = 2, like: Path | None = None, *, half: bool = False
) -> Store:
    """A store of about so many atoms by models `synthetic-0`, `synthetic-1`, …

    like: a store whose crystals, and embeddings by its first models, are the templates.
    half: vectors are stored in half precision.
    `energy` is linear in the composition plus a smooth function of the first model's mean.
    """
    rng = np.random.default_rng(0)
    templates = _made_up(rng, models) if like is None else real_templates(like, models)
    store = Store.open(path)
    count = round(atoms / np.diff(templates.starts).mean())
    with store._writing("synthetic structures", create=True) as writer:
        names = _prepare(writer, templates, half)
        with progress.bar("synthetic structures", count, "structures") as advance:
            for start in range(0, count, BLOCK):
                size = min(BLOCK, count - start)
                add_block(writer, rng, templates, names, start, size)
                advance(size)
        writer.publish(maintained=writer.vector_tables)
    return store


def _made_up(rng: np.random.Generator, models: int) -> Templates:
    """An atom's latent place is its element's, one of 40 environments of it, and a little of its
    own; a model turns it into features by a random linear map and a second, bent one. Two of three
    atoms are distinct by symmetry.
    """
    sizes = rng.integers(1, int(2 * ATOMS_A_STRUCTURE), size=MADE_UP)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    structure = np.repeat(np.arange(MADE_UP), sizes)
    site = np.arange(len(structure)) - starts[structure]
    orbit = np.where(site % 3 == 2, site - 1, site)
    first = starts[structure] + orbit
    palette = rng.integers(1, ELEMENTS + 1, size=(MADE_UP, 3))
    numbers = palette[structure, orbit % 3 % 2 + (orbit > 8)]
    elements = 2 * rng.standard_normal((ELEMENTS + 1, LATENT))
    environments = rng.standard_normal((ELEMENTS + 1, 40, LATENT))
    latent = elements[numbers] + environments[numbers, rng.integers(40, size=len(numbers))]
    latent += 0.2 * rng.standard_normal(latent.shape)
    vectors = []
    for _ in range(models):
        straight, bent = rng.standard_normal((2, LATENT, FEATURES))
        vectors.append((latent @ straight + np.tanh(latent @ bent)).astype(np.float32)[first])
    return Templates(starts, numbers, first, vectors)


def real_templates(like: Path, models: int) -> Templates:
    """The crystals of a store, with the embeddings by its first trained models."""
    snapshot = Store.open(like).snapshot()
    sides = [lookup.model_layer(snapshot, name) for name in snapshot.trained_models[:models]]
    points = [snapshot.points(lookup.vector_table(snapshot, side, "atom")) for side in sides]
    names = ["structure_id", "site_index"]
    keys = points[0].keys.to_pandas().assign(row_0=np.arange(len(points[0].vectors)))
    for place, one in enumerate(points[1:], start=1):
        rows = one.keys.select(names).to_pandas()
        keys = keys.merge(rows.assign(**{f"row_{place}": np.arange(len(rows))}), on=names)
    keys = keys.sort_values(names, ignore_index=True)
    owner = np.unique(keys["structure_id"], return_inverse=True)[1]
    starts = np.flatnonzero(np.diff(owner, prepend=-1, append=-1))
    first = starts[owner] + keys["orbit"].to_numpy()
    vectors = [one.vectors[keys[f"row_{i}"]][first] for i, one in enumerate(points)]
    return Templates(starts, keys["atomic_number"].to_numpy(), first, vectors)


def _prepare(writer: Writer, templates: Templates, half: bool) -> list[dict[str, str]]:
    """Catalogue the models; returns the names of their tables by level."""
    tables = []
    with writer.writing() as connection:
        connection.execute(sa.text("ALTER TABLE structures ADD COLUMN energy DOUBLE"))
        for index in range(len(templates.vectors)):
            row = {"name": f"synthetic-{index}", "family": "synthetic", "default_layer": 0}
            connection.execute(
                sa.insert(t.models).values(**row, checkpoint_sha256="0" * 64, card={})
            )
    for index, vectors in enumerate(templates.vectors):
        tables.append(
            {
                level: commits.ensure_vector_table(
                    writer, f"synthetic-{index}", 0, level, vectors.shape[1], half=half
                )
                for level in ("atom", "structure")
            }
        )
    return tables


def add_block(
    writer: Writer,
    rng: np.random.Generator,
    templates: Templates,
    tables: Sequence[dict[str, str]],
    start: int,
    count: int,
) -> None:
    """Commit structures `sSTART` to `sSTART+COUNT`. tables: of each model, their names by level."""
    chosen = rng.integers(len(templates.starts) - 1, size=count)
    sizes = np.diff(templates.starts)[chosen]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    structure = np.repeat(np.arange(count), sizes)
    site = np.arange(starts[-1]) - starts[structure]
    source = templates.starts[chosen][structure] + site
    orbit = templates.first[source] - templates.starts[chosen][structure]
    first = starts[structure] + orbit
    numbers = templates.numbers[source]
    other = _others(rng, templates.numbers, numbers)[first]
    share = (MOVED * rng.random(len(source), dtype=np.float32))[first, None]
    vectors = []
    for known in templates.vectors:
        moved = (1 - share) * known[source] + share * known[other]
        noise = rng.standard_normal(moved.shape, dtype=np.float32)[first]
        vectors.append(moved + NOISE * known.std(0) * noise)
    ids = [f"s{start + i}" for i in range(count)]
    means = [mean_by_structure(rows, structure).astype(np.float32) for rows in vectors]
    _add_structures(writer, rng, ids, chosen, starts, numbers, orbit, means[0])
    keys = {
        "structure_id": pa.array(ids).take(structure),
        "site_index": pa.array(site, pa.int32()),
        "atomic_number": pa.array(numbers, pa.int16()),
        "orbit": pa.array(orbit, pa.int32()),
    }
    appends = []
    for names, rows, mean in zip(tables, vectors, means, strict=True):
        atoms = pa.table(keys | {"vector": vector_array(rows)})
        whole = pa.table({"structure_id": ids, "vector": vector_array(mean)})
        appends += [
            commits.TableAppend(names["atom"], atoms),
            commits.TableAppend(names["structure"], whole),
        ]
    commits.commit_chunk(writer, 0, ids, appends)


def _others(rng: np.random.Generator, known: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """A random row of `known` of the same element for each of some atoms."""
    order = np.argsort(known, kind="stable")
    begins = np.searchsorted(known[order], numbers)
    counts = np.searchsorted(known[order], numbers, side="right") - begins
    return np.asarray(order[begins + (rng.random(len(numbers)) * counts).astype(int)])


def _add_structures(
    writer: Writer,
    rng: np.random.Generator,
    ids: list[str],
    chosen: np.ndarray,
    starts: np.ndarray,
    numbers: np.ndarray,
    orbit: np.ndarray,
    means: np.ndarray,
) -> None:
    sizes = np.diff(starts)
    parts = [slice(*pair) for pair in pairwise(starts)]
    symbols = [sorted({chemical_symbols[z] for z in numbers[part]}) for part in parts]
    copy = rng.integers(10**6, size=len(ids)) // COPIES_A_FORMULA
    rows = pa.table(
        {
            "id": ids,
            "content_hash": ids,
            "formula": [
                f"{''.join(names)}·{template}·{place}"
                for names, template, place in zip(symbols, chosen, copy, strict=True)
            ],
            "elements": symbols,
            "nsites": pa.array(sizes, pa.int32()),
            "distinct_sites": pa.array([len(np.unique(orbit[part])) for part in parts], pa.int32()),
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
    weights = np.random.default_rng(1).standard_normal(ELEMENTS + 6)
    owner = np.repeat(np.arange(len(ids)), sizes)
    energy = mean_by_structure(weights[numbers][:, None], owner)[:, 0] + np.sin(means[:, 0])
    with writer.writing() as connection:
        writer.add_rows("crystals", crystals.cast(SCHEMAS["crystals"]))
        insert_arrow(connection, "structures", rows.append_column("energy", pa.array(energy)))
