"""Structures as sets of atoms, for transport."""

from weakref import WeakKeyDictionary

from platonic_store.geometry.sets import Sets, sets_of
from platonic_store.storage.layout import Points

_known: WeakKeyDictionary[Points, Sets] = WeakKeyDictionary()


def atom_sets(points: Points) -> Sets:
    """The structures of a table of atoms as sets, ordered by their ids; kept as long as `points`.

    The same vectors of symmetry-equivalent atoms come once, with the mass of all of them.
    """
    import pyarrow.compute as pc

    if points not in _known:
        ids = points.keys["structure_id"].combine_chunks().dictionary_encode()
        rank = pc.rank(ids.dictionary).to_numpy() - 1
        structure = rank[ids.indices.to_numpy()]
        _known[points] = sets_of(structure, points.column("site_index"), points.column("orbit"))
    return _known[points]
