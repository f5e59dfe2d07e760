"""Scores of typicality, written into the store."""

import pandas as pd
import pyarrow as pa
import sqlalchemy as sa

from platonic_store import progress
from platonic_store.engines.cluster import Cluster
from platonic_store.engines.parts import calls, cores
from platonic_store.errors import InvalidQuery
from platonic_store.questions.shared import (
    bounded_references,
    embedded_sets,
    kept_references,
    references,
    stored_references,
    training_sets,
)
from platonic_store.questions.shared.references import Reference, Scored, Scores
from platonic_store.runtimes.threads import ahead
from platonic_store.storage import bulk, deletions, lookup
from platonic_store.storage import tables as t
from platonic_store.storage.catalog import insert_arrow
from platonic_store.storage.snapshot import ModelLayer, Snapshot
from platonic_store.storage.writer import Writer

CHUNK = 4_000  # structures scored and committed at once


def score_model(
    writer: Writer,
    side: ModelLayer,
    *,
    among: str | None = None,
    seed: int | None = None,
    renew: bool = False,
    cluster: Cluster | None = None,
) -> Scored:
    """Bring a model's scores up to date; only structures without them are scored.

    cluster: whose nodes compute the scores, in place of this machine.

    They are scored against the stored reference, unless there is none, another is asked for by
    `among` or `seed`, or `renew` asks for one of all that the store holds now.

    Raises: InvalidQuery for a store that was thinned, whose structures lack atoms.
    """
    snapshot = writer.snapshot()
    if training_sets.is_thinned(snapshot, side):
        raise InvalidQuery(
            f"{side} was thinned here: the structures of this store lack atoms",
            "score another store, or ask it for `typicality` with this one as its reference",
        )
    reference = None if renew else stored_references.stored(snapshot, side)
    if reference is not None and (
        among not in (None, reference.among) or seed not in (None, reference.seed)
    ):
        reference = None
    if reference is None:
        reference, these = bounded_references.build_reference(
            snapshot, side, among=among, seed=seed or 0
        )
        reference = references.calibrated(reference, these)
        sites = len(reference.known.sites)
        is_kept = kept_references.is_kept(snapshot, side, sites)
        save_reference(writer, reference, is_kept=is_kept)
    scored = _score_missing(writer, snapshot, reference, side, cluster)
    return Scored(reference.id, *side, scored)


def save_reference(writer: Writer, reference: Reference, *, is_kept: bool = False) -> None:
    """Keep a reference in the place of the model's last one, whose scores go with it.

    is_kept: with what it compares with, which is else read from the embeddings.
    """
    sets = t.reference_sets.c
    model, layer = reference.model, reference.layer
    with writer.writing() as connection:
        last = sa.select(sets.id).where(sets.model == model, sets.layer == layer)
        deletions.delete_references(writer, connection, connection.scalars(last).all())
        connection.execute(
            sa.insert(t.reference_sets).values(
                id=reference.id,
                model=model,
                layer=layer,
                among=reference.among,
                seed=reference.seed,
                settings=references.SETTINGS | {"bounded": reference.is_bounded},
            )
        )
        name = lookup.calibration_name(reference.id)
        writer.keep_parameters(name, reference.scales.to_bytes())
        if is_kept:
            contents = kept_references.to_bytes(kept_references.to_keep(reference.known))
            for one in zip(lookup.reference_names(reference.id), contents, strict=True):
                writer.keep_parameters(*one)
        members = reference.members.assign(reference=reference.id)
        rows = pa.Table.from_pandas(members, preserve_index=False)
        insert_arrow(connection, "reference_structures", rows)


def calibrate_again(writer: Writer, sides: list[ModelLayer]) -> None:
    """Keep what calibrates the stored references, which is computed again where it is gone."""
    snapshot = writer.snapshot()
    with writer.writing():
        for side in sides:
            reference = stored_references.stored(snapshot, side)
            assert reference is not None
            name = lookup.calibration_name(reference.id)
            writer.keep_parameters(name, reference.scales.to_bytes())


def _score_missing(
    writer: Writer,
    snapshot: Snapshot,
    reference: Reference,
    side: ModelLayer,
    cluster: Cluster | None,
) -> int:
    """Score and commit the structures without scores; returns how many those are."""
    done = sa.text("SELECT structure_id FROM structure_scores WHERE reference = :reference")
    with writer.reading() as connection:
        known = set(connection.scalars(done, {"reference": reference.id}))
    table = lookup.vector_table(snapshot, side, "structure")
    embedded = (id_ for part in snapshot.keys(table) for id_ in part["structure_id"].to_pylist())
    todo = sorted(id_ for id_ in embedded if id_ not in known)
    groups = embedded_sets.compositions(snapshot, reference.seed)

    score = calls(references.scores, reference, cluster)

    def scored(ids: list[str]) -> Scores:
        return score(embedded_sets.load_some(snapshot, side, ids, groups))

    parts = (todo[start : start + CHUNK] for start in range(0, len(todo), CHUNK))
    with progress.bar(f"scoring {reference.model}", len(todo), "structures") as advance:
        for ids, found in ahead(scored, parts, cores(cluster)):
            with writer.writing():
                _add(writer, "structure_scores", reference, found.structures)
                _add(writer, "atom_scores", reference, found.atoms)
            writer.publish_if_due()
            advance(len(ids))
    return len(todo)


def _add(writer: Writer, table: str, reference: Reference, scores: pd.DataFrame) -> None:
    schema = bulk.SCHEMAS[table]
    scores = scores.assign(reference=reference.id)
    writer.add_rows(table, pa.Table.from_pandas(scores[schema.names], schema, preserve_index=False))
