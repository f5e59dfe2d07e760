"""How far two structures are as sets of atoms, matched at the least cost."""

from platonic_store.geometry.sets import set_distance
from platonic_store.questions.shared.declaration import Column, value_question
from platonic_store.questions.shared.inputs import atom_set
from platonic_store.questions.shared.parameters import Across, Model, Space, StructureQuery
from platonic_store.questions.shared.tables import between
from platonic_store.storage.snapshot import Snapshot


@value_question(Column("transport_distance", "double", "Mean 1 − cosine of the matched atoms."))
def transport_distance(
    snapshot: Snapshot,
    a: StructureQuery,
    b: StructureQuery,
    *,
    model: Model = None,
    across: Across = None,
    space: Space = None,
) -> float:
    """The mean 1 − cosine of two structures' atoms, matched at the least cost.

    With `across`, b is as that model embeds it, and both are compared in the shared space.

    Raises: as `similar`.
    """
    asking, answering, space = between(snapshot, model, across, space)
    one = atom_set(snapshot, a, asking, space)
    return set_distance(*one, *atom_set(snapshot, b, answering, space))
