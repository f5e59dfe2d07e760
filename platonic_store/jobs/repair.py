"""Repair: what is damaged in a store and can be computed again is deleted and computed again."""

import sqlalchemy as sa

from platonic_store.errors import StoreDamaged
from platonic_store.jobs import ingest
from platonic_store.jobs.map import map_store
from platonic_store.jobs.project import fit_again, project_again
from platonic_store.jobs.score import calibrate_again, score_model
from platonic_store.jobs.turns import Asked
from platonic_store.runtimes.preparation import prepare
from platonic_store.storage import records
from platonic_store.storage import tables as t
from platonic_store.storage.manifest import StoredFile
from platonic_store.storage.snapshot import ModelLayer, Snapshot, VectorTable
from platonic_store.storage.writer import Writer

_SCORES = ("structure_scores", "atom_scores")
_PREDICTIONS = ("structure_predictions", "atom_predictions")
_MAP = ("structure_map", "atom_map", "layout_points")
_PARAMETERS = "parameters"
# Folders of a Lance table without whose files its rows cannot be told.
_ESSENTIAL = ("_versions", "_deletions")


def repair(writer: Writer, damaged: list[StoredFile]) -> list[str]:
    """Embed, predict, project and score again what damaged files held.

    Returns what was done, a line each.

    Raises: what `ingest` raises where a model cannot run here.
    """
    snapshot = writer.snapshot()
    paths = {file.path for file in damaged}
    hurt = [table for table in snapshot.tables if _damage(table, paths)]
    lost = _lost_structures(writer, snapshot, hurt, paths)
    references = snapshot.rows("SELECT model, layer FROM catalog.main.reference_sets ORDER BY ALL")
    spaces = _spaces(snapshot, hurt, set(lost))
    tables = (*_PREDICTIONS, *_SCORES, *_MAP, _PARAMETERS)
    hurt_rows = {name for name in tables if _rows_of(name, paths)}
    is_scored_anew, is_fitted_anew = hurt_rows & {*_SCORES}, _PARAMETERS in hurt_rows
    is_mapped_anew = hurt_rows & {*_MAP}
    if is_fitted_anew:
        _require_whole(snapshot)
    if is_fitted_anew and snapshot.row_files["layout_points"]:
        is_mapped_anew = {*_MAP}  # the layouts' parameters are gone
    hurt_predictions = hurt_rows & {*_PREDICTIONS}
    unpredicted = _lost_predictions(snapshot, hurt_predictions)
    with writer.writing() as connection:
        for model, ids in lost.items():
            _forget_embeddings(writer, connection, snapshot, model, ids, paths)
        for space, side in spaces:
            _forget_coordinates(writer, connection, snapshot, space, side)
        for table in hurt:
            if any("/_indices/" in path for path in _damage(table, paths)):
                writer.drop_index(table.name)
        scores = _SCORES if is_scored_anew else ()
        for name in (*hurt_predictions, *scores, *is_mapped_anew):
            writer.clear_rows(name)
        if is_fitted_anew:
            writer.clear_rows(_PARAMETERS)
            connection.execute(sa.delete(t.layouts))
    # Files of rows are named by their content: the same ones would be taken for being there.
    # A version that Lance cannot read would be its newest.
    lost_rows = {path for name in hurt_rows for path in _rows_of(name, paths)}
    writer.location.delete(path for path in paths if path in lost_rows or "/_versions/" in path)
    writer.publish(maintained=[table.name for table in hurt if table.name in writer.vector_tables])
    done = [_embed_again(writer, snapshot, model, ids) for model, ids in lost.items()]
    for model, ids in unpredicted.items():
        _embed_again(writer, snapshot, model, ids, "energy,forces")
        done.append(f"{len(ids)} structures predicted again by {model}")
    if is_fitted_anew:
        done.append(f"{fit_again(writer)} projections fitted again")
        calibrate_again(writer, [ModelLayer(*row) for row in references])
    for space, side in spaces:
        atoms = project_again(writer, space, side)
        done.append(f"{atoms} atoms of {side} projected again into {space}")
    if is_scored_anew:
        for side in (ModelLayer(*row) for row in references):
            scored = score_model(writer, side)
            done.append(f"{scored.new_structures} structures scored again by {side}")
    if is_mapped_anew:
        mapped = sum(one.new_points for one in map_store(writer))
        done.append(f"{mapped} points placed on the map again")
    return done


def _require_whole(snapshot: Snapshot) -> None:
    """Raises: StoreDamaged for a store that was thinned: what it was made from is not here."""
    for model, layer in snapshot.rows("SELECT model, layer FROM catalog.main.covers"):
        raise StoreDamaged(
            f"what {ModelLayer(model, layer)} was thinned from cannot be computed again here",
            "thin the store that this one was made from again",
        )


def _rows_of(table: str, paths: set[str]) -> set[str]:
    """Those of the paths that are files of a table of bulk rows."""
    return {path for path in paths if path.startswith(f"rows/{table}/")}


def _damage(table: VectorTable, paths: set[str]) -> set[str]:
    """Those of the paths that are files of a table."""
    return {path for path in paths if path.startswith(f"vectors/{table.name}.lance/")}


def _is_unreadable(table: VectorTable, paths: set[str]) -> bool:
    return any(f"/{folder}/" in path for path in _damage(table, paths) for folder in _ESSENTIAL)


def _lost_structures(
    writer: Writer, snapshot: Snapshot, hurt: list[VectorTable], paths: set[str]
) -> dict[str, set[str]]:
    """By model the structures with rows in damaged files of its embeddings."""
    lost: dict[str, set[str]] = {}
    for table in hurt:
        if table.space is not None:
            continue
        ids = {
            id
            for (id,) in snapshot.rows(
                "SELECT c.structure_id FROM catalog.main.chunk_structures AS c "
                "JOIN catalog.main.table_appends AS a USING (chunk_id) WHERE a.table_name = ?",
                [table.name],
            )
        }
        if not _is_unreadable(table, paths):
            names = {path.rpartition("/")[2] for path in paths}
            ids -= writer.readable_structures(table.name, names)
        if ids:
            lost.setdefault(table.model, set()).update(ids)
    return lost


def _lost_predictions(snapshot: Snapshot, hurt: set[str]) -> dict[str, set[str]]:
    """By model the structures of which energies or forces are lost.

    Where both are, all that the models have embedded which predicted something here.
    """
    if not hurt:
        return {}
    sql = (
        "SELECT r.model, c.structure_id FROM catalog.main.chunk_structures AS c "
        "JOIN catalog.main.chunks AS k ON k.id = c.chunk_id "
        "JOIN catalog.main.runs AS r ON r.id = k.run_id "
        "WHERE r.model IN (SELECT model FROM catalog.main.runs WHERE outputs IS NOT NULL)"
    )
    for whole in {*_PREDICTIONS} - hurt:
        sql = f"SELECT DISTINCT model, structure_id FROM {whole}"
    lost: dict[str, set[str]] = {}
    for model, id_ in snapshot.rows(sql):
        lost.setdefault(model, set()).add(id_)
    return lost


def _spaces(
    snapshot: Snapshot, hurt: list[VectorTable], models: set[str]
) -> list[tuple[str, ModelLayer]]:
    """The projections to be computed again: of damaged tables, and of models that embed again."""
    return sorted(
        {
            (table.space, ModelLayer(table.model, table.layer))
            for table in snapshot.tables
            if table.space is not None and (table in hurt or table.model in models)
        }
    )


def _forget_embeddings(
    writer: Writer,
    connection: sa.Connection,
    snapshot: Snapshot,
    model: str,
    ids: set[str],
    paths: set[str],
) -> None:
    """Delete a model's embeddings of some structures, of all layers, and whatever is unreadable."""
    own = [table for table in snapshot.tables if table.model == model and table.space is None]
    chunks = sa.select(t.chunks.c.id).join(t.runs, t.runs.c.id == t.chunks.c.run_id)
    chunks = chunks.where(t.runs.c.model == model)
    members = t.chunk_structures.c
    connection.execute(
        sa.delete(t.chunk_structures).where(
            members.chunk_id.in_(chunks), members.structure_id.in_(ids)
        )
    )
    names = {path.rpartition("/")[2] for path in paths}
    for table in own:
        if _is_unreadable(table, paths):
            _drop(writer, connection, table)
            continue
        writer.delete_damaged(table.name, names, ids)
        rows = sa.func.coalesce(
            sa.func.sum(t.structures.c.nsites if table.level == "atom" else 1), 0
        )
        left = (
            sa.select(rows)
            .join_from(t.chunk_structures, t.structures, t.structures.c.id == members.structure_id)
            .where(members.chunk_id == t.table_appends.c.chunk_id)
            .scalar_subquery()
        )
        connection.execute(
            sa.update(t.table_appends)
            .where(t.table_appends.c.table_name == table.name)
            .values(rows=left)
        )
    connection.execute(sa.delete(t.table_appends).where(t.table_appends.c.rows <= 0))


def _forget_coordinates(
    writer: Writer, connection: sa.Connection, snapshot: Snapshot, space: str, side: ModelLayer
) -> None:
    for table in snapshot.tables:
        if (table.space, table.model, table.layer) == (space, *side):
            _drop(writer, connection, table)


def _drop(writer: Writer, connection: sa.Connection, table: VectorTable) -> None:
    writer.drop_table(table.name)
    for column in (t.table_appends.c.table_name, t.vector_tables.c.name):
        connection.execute(sa.delete(column.table).where(column == table.name))


def _embed_again(
    writer: Writer, snapshot: Snapshot, model: str, ids: set[str], outputs: str = ""
) -> str:
    layers = {table.layer for table in snapshot.tables if table.model == model and not table.space}
    source = records.begin_source(writer, "repair")
    records.add_members(writer, source, sorted(ids))
    (ready,) = prepare([model])
    asked = Asked(",".join(map(str, sorted(layers))), outputs)
    report = ingest.embed(writer, ready, source, asked)
    return f"{report.structures} structures embedded again by {model}"
