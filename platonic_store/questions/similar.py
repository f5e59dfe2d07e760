"""The structures, or atoms, most alike to one: within a model or across models."""

from typing import Annotated, Literal

import pandas as pd
from annotated_types import Ge

from platonic_store.errors import InvalidQuery
from platonic_store.questions.shared.declaration import Column, SqlFunction, question
from platonic_store.questions.shared.inputs import atom_set, query_vector
from platonic_store.questions.shared.nearest import nearest, nearest_by_transport
from platonic_store.questions.shared.parameters import (
    Across,
    K,
    Model,
    Space,
    StructureQuery,
    Where,
)
from platonic_store.questions.shared.tables import between
from platonic_store.storage import lookup
from platonic_store.storage.snapshot import Snapshot


@question(
    Column("rank", "int64", "1 is the most alike."),
    Column("structure_id", "string", "The structure that is alike, or that holds the atom."),
    Column("site_index", "int32", "The atom's site, from 0.", kind="atom"),
    Column("element", "string", "The atom's element.", kind="atom"),
    Column("multiplicity", "int64", "Symmetry-equivalent sites it stands for.", kind="atom"),
    Column("distance", "double", "1 − cosine, or by transport its mean over matched atoms."),
    describes=True,
    sql=[
        SqlFunction("similar_structures", ("query",), "structure"),
        SqlFunction("similar_atoms", ("query", "site"), "atom"),
    ],
)
def similar(
    snapshot: Snapshot,
    query: StructureQuery,
    *,
    model: Model = None,
    across: Across = None,
    space: Space = None,
    site: Annotated[int | None, "Search atoms like this site of the query, from 0.", Ge(0)] = None,
    level: Annotated[Literal["structure", "atom"] | None, "What a vector is of."] = None,
    k: K = 10,
    where: Where = None,
    distance: Annotated[
        Literal["cosine", "transport"],
        "Of structures: cosine of their means, or transport of their atoms.",
    ] = "cosine",
) -> pd.DataFrame:
    """The k structures (or, with a site, atoms) most alike to one.

    With `across`, the query's own structure is among the candidates: to find it is the test of the
    shared space. `where` is applied first: k answers come where k exist. Atoms stand for all their
    symmetry-equivalent sites. `distance` "transport" is the mean 1 − cosine of two structures'
    atoms when each is matched at the least cost.

    A query is an id, a file, a pymatgen `Structure`, ASE `Atoms` or a vector (dim,), numpy.

    Raises: StructureNotFound, NotEmbedded, ModelNotFound, LayerNotFound, AnchorsNotFound,
    InvalidQuery, UnreadableSource.
    """
    level = level or ("structure" if site is None else "atom")
    asking, answering, space = between(snapshot, model, across, space)
    if distance == "transport":
        if level == "atom":
            raise InvalidQuery("transport is between structures, not atoms", "leave out the site")
        atoms = atom_set(snapshot, query, asking, space)
        own = query if answering.model == asking.model and isinstance(query, str) else None
        table = lookup.vector_table(snapshot, answering, "atom", space)
        return nearest_by_transport(snapshot, table, atoms, own, k, where)
    vector = query_vector(snapshot, query, asking, space=space, level=level, site=site)
    if answering.model != asking.model:
        vector = vector._replace(structure_id=None)
    found = nearest(
        snapshot, lookup.vector_table(snapshot, answering, level, space), vector, k, where
    )
    return found if level == "structure" else with_sites(snapshot, found)


def with_sites(snapshot: Snapshot, atoms: pd.DataFrame) -> pd.DataFrame:
    """Atoms with their element and multiplicity."""
    # Not from the view `site`: that would unfold every atom of these structures and count them.
    sites = snapshot.frame(
        """
        SELECT
            structure_id, site_index, element_symbol(numbers[site_index + 1]) AS element,
            len(list_filter(orbits, lambda o: o = orbits[site_index + 1])) AS multiplicity
        FROM (SELECT unnest(?) AS structure_id, unnest(?) AS site_index)
        JOIN catalog.main.structures ON id = structure_id
        """,
        [atoms["structure_id"].tolist(), atoms["site_index"].tolist()],
    )
    keys = ["structure_id", "site_index"]
    return atoms.merge(sites, on=keys, how="left", validate="many_to_one")
