"""The structures, or atoms, most alike to one: within a model or across models."""

from collections import Counter
from typing import Annotated, Literal

import pandas as pd
from annotated_types import Ge
from ase.data import chemical_symbols

from platonic_store.errors import InvalidQuery
from platonic_store.questions.shared.declaration import Column, SqlFunction, question
from platonic_store.questions.shared.inputs import atom_set, pooled_query, query_vector
from platonic_store.questions.shared.nearest import nearest, nearest_by_transport
from platonic_store.questions.shared.parameters import (
    Across,
    K,
    Model,
    Space,
    StructureQuery,
    Where,
)
from platonic_store.questions.shared.pooled import nearest_pooled
from platonic_store.questions.shared.tables import between
from platonic_store.storage import lookup
from platonic_store.storage.snapshot import Snapshot, VectorTable

SITE = ("structure_id", "site_index", "element", "multiplicity")


@question(
    Column("rank", "int64", "1 is the most alike."),
    Column("structure_id", "string", "The structure that is alike, or that holds the atom."),
    Column("site_index", "int32", "The atom's site, from 0.", kind="atom"),
    Column("element", "string", "The atom's element.", kind="atom"),
    Column("multiplicity", "int64", "Symmetry-equivalent sites it stands for.", kind="atom"),
    Column(
        "distance",
        "double",
        "1 − cosine, or by transport its mean over matched atoms; across models rows are in the "
        "order of distance + hub / 2 (docs/recipes.md).",
    ),
    describes=True,
    caveat="alike is what a model sees, and no statement of a property; across models the order is "
    "that of distance + hub / 2, see docs/recipes.md",
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
    pooling: Annotated[
        Literal["mean", "cumulants", "cumulants-2", "by-element", "by-site"],
        "Of structures: how a vector is made of the atoms; see Structure vectors.",
    ] = "mean",
) -> pd.DataFrame:
    """The k structures (or, with a site, atoms) most alike to one.

    With `across`, the query's own structure is among the candidates: to find it is the test of the
    shared space. `where` is applied first: k answers come where k exist. Atoms stand for all their
    symmetry-equivalent sites. `distance` "transport" is the mean 1 − cosine of two structures'
    atoms when each is matched at the least cost. `pooling` "cumulants" finds the same prototype in
    other chemistries more often, "by-element" the same crystal.

    A query is an id, a file, a pymatgen `Structure`, ASE `Atoms` or a vector (dim,), numpy.

    Raises: StructureNotFound, NotEmbedded, ModelNotFound, LayerNotFound, AnchorsNotFound,
    InvalidQuery, UnreadableSource.
    """
    level = level or ("structure" if site is None else "atom")
    asking, answering, space = between(snapshot, model, across, space)
    if distance == "transport":
        if level == "atom":
            raise InvalidQuery("transport is between structures, not atoms", "leave out the site")
        if pooling != "mean":
            raise InvalidQuery("transport compares atoms, it pools none", "leave out the pooling")
        atoms = atom_set(snapshot, query, asking, space)
        own = query if answering.model == asking.model and isinstance(query, str) else None
        table = lookup.vector_table(snapshot, answering, "atom", space)
        return nearest_by_transport(snapshot, table, atoms, own, k, where)
    if pooling != "mean":
        if level == "atom":
            raise InvalidQuery("pooling is of structures, not atoms", "leave out the site")
        one = pooled_query(snapshot, query, asking, space, pooling)
        if answering.model != asking.model:
            one = one._replace(structure_id=None)
        atom_table = lookup.vector_table(snapshot, answering, "atom", space)
        return nearest_pooled(snapshot, atom_table, one, pooling, k, where)
    vector = query_vector(snapshot, query, asking, space=space, level=level, site=site)
    if answering.model != asking.model:
        vector = vector._replace(structure_id=None)
    table = lookup.vector_table(snapshot, answering, level, space)
    across_models = answering.model != asking.model
    found = nearest(snapshot, table, vector, k, where, across=across_models)
    return found if level == "structure" else with_sites(snapshot, table, found)


def with_sites(snapshot: Snapshot, table: VectorTable, atoms: pd.DataFrame) -> pd.DataFrame:
    """Atoms, each the first of its equivalent sites, with their element and multiplicity."""
    known = {name: atoms[name].array for name in atoms}
    known["element"] = [chemical_symbols[number] for number in atoms["atomic_number"]]
    if "multiplicity" not in known:
        keys = snapshot.keys_of_structures(table, atoms["structure_id"].unique().tolist())
        sites = zip(keys["structure_id"].to_pylist(), keys["orbit"].to_pylist(), strict=True)
        counts = Counter(sites)
        places = zip(atoms["structure_id"], atoms["site_index"], strict=True)
        known["multiplicity"] = [counts[place] for place in places]
    return pd.DataFrame({name: known[name] for name in ("rank", *SITE, "distance")})
