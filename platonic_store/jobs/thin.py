"""A reference store that is thinned: so few of a store's atoms that all others are near one.

An atom is kept unless a kept one of its element is within a radius. The compositions that calibrate
come last, and of these no more is kept than what the others do not cover: so what is measured of
them says what a new composition would see. What was lost is measured and kept with the store, as
are the scale of its p-values and the census of its coordinations, both of all that was there.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import sqlalchemy as sa

from platonic_store import progress
from platonic_store.arrow import vector_array
from platonic_store.errors import InvalidQuery
from platonic_store.geometry.cover import Cover
from platonic_store.geometry.typicality import Atoms
from platonic_store.jobs.score import save_reference
from platonic_store.questions.shared import embedded_sets, references, training_sets
from platonic_store.questions.shared.embedded_sets import EmbeddedSet
from platonic_store.questions.shared.references import Reference
from platonic_store.questions.shared.training_sets import Background
from platonic_store.storage import commits, lookup, records
from platonic_store.storage import tables as t
from platonic_store.storage.bulk import SCHEMAS
from platonic_store.storage.catalog import insert_arrow
from platonic_store.storage.commits import TableAppend
from platonic_store.storage.ids import new_id
from platonic_store.storage.layout import Level
from platonic_store.storage.snapshot import ModelLayer, Snapshot
from platonic_store.storage.sqltext import literals
from platonic_store.storage.writer import Writer

BLOCK = 16_384  # atoms in memory beside those that are kept
CLOSE = 0.03  # to a share that is asked for, relatively
TRIES = 12
_PAGE = 5_000  # structures that are copied at once


class Thinned(NamedTuple):
    """What a thinned store has of a layer: kept of so many distinct atoms, and what it lost.

    largest and p99: cosine distance of a dropped atom to its nearest kept one, the largest and that
    which 99 % do not exceed.
    """

    model: str
    layer: int
    radius: float
    atoms: int
    kept: int
    share: float
    structures: int
    largest: float
    p99: float


class Sites(NamedTuple):
    """The distinct atoms of a vector table, in the order in which they are decided.

    rows: (n,) of the table; structure: (n,) rows of `ids`; element: (n,). ids: (m,) structures,
    in canonical order; hashes: of their contents; groups: (m,) their compositions.
    """

    rows: np.ndarray
    structure: np.ndarray
    site: np.ndarray
    element: np.ndarray
    ids: np.ndarray
    hashes: np.ndarray
    groups: np.ndarray


def thin(
    snapshot: Snapshot,
    uri: str,
    writer: Writer,
    side: ModelLayer,
    *,
    radius: float | None = None,
    keep: float | None = None,
) -> Thinned:
    """Put a cover of what a layer has embedded into another store, and what was lost by it.

    uri: where the snapshot is from, for the record.

    Raises: InvalidQuery if the other store has the layer already, or there are too few
    compositions.
    """
    name = f"{side.model}.{side.layer}.atom"
    if name in writer.vector_tables:
        raise InvalidQuery(
            f"{writer.location.uri} has embeddings by {side} already", "thin into another folder"
        )
    sites = _sites(snapshot, side)
    if radius is None:
        radius = _radius_for(snapshot, side, sites, keep or 1.0)
    kept, lost = _cover(snapshot, side, sites, radius)
    known = _set(snapshot, side, sites, kept)
    reference, background = _calibration(snapshot, side, sites, known, radius)
    found = Thinned(
        *side,
        radius,
        len(sites.rows),
        len(kept),
        len(kept) / len(sites.rows),
        len(known.ids),
        float(lost.max(initial=0)),
        float(np.quantile(lost, 0.99)) if len(lost) else 0.0,
    )
    _write(snapshot, uri, writer, side, known, background, found)
    save_reference(writer, reference)
    return found


def _sites(snapshot: Snapshot, side: ModelLayer) -> Sites:
    """The atoms in the order of their content: those of calibrating compositions last."""
    table = lookup.vector_table(snapshot, side, "atom")
    known = snapshot.frame(
        "SELECT id, content_hash, formula FROM catalog.main.structures ORDER BY id"
    )
    groups = np.array(
        [embedded_sets.composition(one, 0) for one in known["formula"]], dtype=np.int64
    )
    is_last = np.array([embedded_sets.part_of(int(one)) == "calibration" for one in groups])
    rank = np.empty(len(known), dtype=np.int64)
    rank[np.lexsort((known["id"], known["content_hash"], is_last))] = np.arange(len(known))
    index = pd.Index(known["id"])
    parts: list[tuple[np.ndarray, ...]] = []
    start = 0
    for batch in snapshot.keys(table):
        site = batch["site_index"].to_numpy()
        rows = np.flatnonzero(site == batch["orbit"].to_numpy())
        owner = index.get_indexer(pd.Index(batch["structure_id"].take(pa.array(rows)).to_pylist()))
        parts.append((rows + start, owner, site[rows], batch["atomic_number"].to_numpy()[rows]))
        start += len(site)
    rows, owner, site, element = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((site, rank[owner], element))
    ids, hashes = (known[name].to_numpy(dtype=object) for name in ("id", "content_hash"))
    return Sites(rows[order], owner[order], site[order], element[order], ids, hashes, groups)


def _blocks(
    snapshot: Snapshot, side: ModelLayer, sites: Sites, which: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Some of the atoms, and their vectors, in blocks."""
    table = lookup.vector_table(snapshot, side, "atom")
    for start in range(0, len(which), BLOCK):
        part = which[start : start + BLOCK]
        yield part, snapshot.points_at(table, sites.rows[part]).vectors


def _elements(sites: Sites) -> Iterator[np.ndarray]:
    """The atoms of each element."""
    starts = np.flatnonzero(np.r_[True, sites.element[1:] != sites.element[:-1]])
    yield from np.split(np.arange(len(sites.rows)), starts[1:])


def _cover(
    snapshot: Snapshot, side: ModelLayer, sites: Sites, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """Which atoms are kept, and the distance of each other one to its nearest kept atom."""
    kept: list[np.ndarray] = []
    lost: list[np.ndarray] = []
    with progress.bar(f"thinning {side}", 2 * len(sites.rows), "atoms") as advance:
        for atoms in _elements(sites):
            cover, mine = _covered(snapshot, side, sites, atoms, radius, advance)
            for part, vectors in _blocks(snapshot, side, sites, atoms[~mine]):
                lost.append(cover.distances(vectors))
                advance(len(part))
            advance(int(mine.sum()))
            kept.append(atoms[mine])
    return np.concatenate(kept), np.concatenate([*lost, np.empty(0, np.float32)])


def _covered(
    snapshot: Snapshot,
    side: ModelLayer,
    sites: Sites,
    atoms: np.ndarray,
    radius: float,
    advance: Callable[[float], None],
) -> tuple[Cover, np.ndarray]:
    """The cover of one element's atoms, and which of them it kept."""
    cover, mine = Cover(radius), []
    for part, vectors in _blocks(snapshot, side, sites, atoms):
        mine.append(cover.add(vectors))
        advance(len(part))
    return cover, np.concatenate(mine)


def _radius_for(snapshot: Snapshot, side: ModelLayer, sites: Sites, share: float) -> float:
    """The radius that keeps about a share of the atoms: by bisection, a pass over them a try."""
    low, high = -5.0, 0.3  # powers of ten
    wanted = share * len(sites.rows)
    radius = 10 ** ((low + high) / 2)
    with progress.counting(f"choosing a radius for {side}", "tries") as advance:
        for _ in range(TRIES):
            radius = 10 ** ((low + high) / 2)
            size = sum(
                int(_covered(snapshot, side, sites, atoms, radius, lambda _: None)[1].sum())
                for atoms in _elements(sites)
            )
            advance(1)
            if abs(size - wanted) <= CLOSE * wanted:
                break
            low, high = (np.log10(radius), high) if size > wanted else (low, np.log10(radius))
    return float(radius)


def _set(snapshot: Snapshot, side: ModelLayer, sites: Sites, which: np.ndarray) -> EmbeddedSet:
    """Some atoms with their structures, in canonical order."""
    which = which[np.lexsort((sites.site[which], sites.structure[which]))]
    vectors = np.concatenate([vectors for _, vectors in _blocks(snapshot, side, sites, which)])
    structures = np.unique(sites.structure[which])
    ids = sites.ids[structures]
    frame = pd.DataFrame(
        {
            "structure_id": sites.ids[sites.structure[which]],
            "site_index": sites.site[which],
            "atomic_number": sites.element[which],
        }
    )
    elements = sites.element[which].astype(np.int64)
    whole = snapshot.points(lookup.vector_table(snapshot, side, "structure"))
    order = pd.Index(whole.column("structure_id")).get_indexer(pd.Index(ids))
    nothing = np.zeros(len(ids), dtype=np.int64)
    return EmbeddedSet(
        ids,
        Atoms(whole.vectors[order], nothing, sites.groups[structures]),
        frame,
        Atoms(vectors, elements, sites.groups[sites.structure[which]]),
    )


def _calibration(
    snapshot: Snapshot, side: ModelLayer, sites: Sites, known: EmbeddedSet, radius: float
) -> tuple[Reference, Background]:
    """What calibrates: of typicality and of coverage, by atoms that the cover did not choose."""
    embedded = np.unique(sites.structure)
    chosen = training_sets.calibration_ids(sites.ids[embedded], sites.groups[embedded])
    is_chosen = np.isin(sites.ids.astype(str), chosen.astype(str))
    calibrating = _set(snapshot, side, sites, np.flatnonzero(is_chosen[sites.structure]))
    background = Background(
        training_sets.measure_scale(calibrating, known), training_sets.census(snapshot)
    )
    is_typical = [embedded_sets.part_of(int(one)) == "typical" for one in known.whole.groups]
    typical = known.ids[np.array(is_typical, dtype=bool)]
    members = pd.concat(
        pd.DataFrame({"structure_id": ids, "part": part})
        for part, ids in (("typical", typical), ("calibration", calibrating.ids))
    )
    reference = references.assembled(
        side,
        embedded_sets.subset(known, typical),
        members.sort_values("structure_id").reset_index(drop=True),
        dict(zip(sites.ids, sites.hashes, strict=True)),
        {"radius": radius},
    )
    reference = references.calibrated(reference, calibrating)
    # Those that calibrate are not in the store, unless an atom of theirs was kept.
    is_here = reference.members["structure_id"].isin(known.ids)
    return replace(reference, members=reference.members[is_here]), background


def _write(
    snapshot: Snapshot,
    uri: str,
    writer: Writer,
    side: ModelLayer,
    these: EmbeddedSet,
    background: Background,
    found: Thinned,
) -> None:
    """Structures first, which say nothing by themselves; then the embeddings and their cover."""
    source = records.begin_source(writer, f"{uri}@{snapshot.id}, thinned")
    ids: list[str] = these.ids.tolist()
    for start in range(0, len(ids), _PAGE):
        _copy_structures(snapshot, writer, ids[start : start + _PAGE])
    records.add_members(writer, source, ids)
    run = _copy_model(snapshot, writer, side, source, found)
    dim = lookup.vector_table(snapshot, side, "atom").dim
    levels: tuple[Level, ...] = ("atom", "structure")
    names = {level: commits.ensure_vector_table(writer, *side, level, dim) for level in levels}
    keys = pa.Table.from_pandas(these.sites, preserve_index=False)
    keys = keys.append_column("orbit", keys["site_index"])
    atoms = keys.append_column("vector", vector_array(these.atoms.vectors))
    whole = pa.table(
        {
            "structure_id": pa.array(these.ids, pa.string()),
            "vector": vector_array(these.whole.vectors),
        }
    )
    appends = [TableAppend(names["atom"], atoms), TableAppend(names["structure"], whole)]

    def record(connection: sa.Connection) -> None:
        connection.execute(
            sa.insert(t.covers).values(
                **side._asdict(),
                radius=found.radius,
                loss=found._asdict(),
            )
        )
        writer.keep_parameters(lookup.cover_name(side), background.to_bytes())

    commits.commit_chunk(writer, run, ids, appends, record)
    writer.publish(maintained=names.values())


def _copy_structures(snapshot: Snapshot, writer: Writer, ids: list[str]) -> None:
    """Structures with their atoms, without their properties; those that are there stay."""
    with writer.writing() as connection:
        here = sa.select(t.structures.c.id).where(t.structures.c.id.in_(ids))
        known = set(connection.scalars(here))
        new = [id_ for id_ in ids if id_ not in known]
        if not new:
            return
        some = literals(new)
        structures = snapshot.execute(
            f"SELECT {', '.join(t.structures.c.keys())} FROM catalog.main.structures "
            f"WHERE id IN ({some}) ORDER BY id"
        )
        insert_arrow(connection, "structures", structures.to_arrow_table())
        crystals = snapshot.execute(f"FROM crystals WHERE structure_id IN ({some})")
        writer.add_rows("crystals", crystals.to_arrow_table().cast(SCHEMAS["crystals"]))
    writer.publish_if_due()


def _copy_model(
    snapshot: Snapshot, writer: Writer, side: ModelLayer, source: int, found: Thinned
) -> int:
    """The model and its last run with the layer; returns the run's new id."""
    known = snapshot.execute("FROM catalog.main.models WHERE name = ?", [side.model])
    model = known.to_arrow_table()
    run = snapshot.execute(
        "SELECT * REPLACE (? AS id, ? AS source_id, [?]::INTEGER[] AS layers, ? AS structures, "
        "? AS sites) FROM catalog.main.runs WHERE model = ? AND list_contains(layers, ?) "
        "ORDER BY started_at DESC LIMIT 1",
        [id_ := new_id(), source, side.layer, found.structures, found.kept, *side],
    ).to_arrow_table()
    with writer.writing() as connection:
        insert_arrow(connection, "models", model, conflict="ON CONFLICT DO NOTHING")
        insert_arrow(connection, "runs", run)
    return id_
