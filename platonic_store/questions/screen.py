"""Which candidates are new and credible: a class for each, and an order to compute them in."""

from typing import Annotated, NamedTuple

import numpy as np
import pandas as pd

from platonic_store.errors import InvalidQuery
from platonic_store.questions.committee import judged
from platonic_store.questions.shared.declaration import Column, question
from platonic_store.questions.shared.duplicates import (
    WITHIN,
    Within,
    first_alike,
    match,
    nearest_known,
)
from platonic_store.questions.shared.parameters import Models, ReferenceStore
from platonic_store.questions.shared.screening.known import Known, known
from platonic_store.questions.shared.screening.limits import (
    CLASSES,
    OUTSIDE,
    SPARSE,
    Among,
    Limits,
    Outside,
    Sparse,
    limits_of,
)
from platonic_store.questions.shared.structure_queries import (
    StructuresQuery,
    structure_set,
    trained_sides,
)
from platonic_store.questions.shared.structure_sets import StructureSet
from platonic_store.storage.snapshot import Snapshot

CAVEAT = (
    "a class says where a candidate lies among what is known, not that it is stable, nor that a "
    "model's prediction is right there; `screen_limits` gives each limit's error rate"
)


@question(
    Column("rank", "int64", "In which order to compute, 1 first."),
    Column("candidate", "string", "Its id."),
    Column("class", "string", "frontier, covered, outside, redundant, implausible or rejected."),
    Column("rule", "string", "What made it so, or why it was rejected."),
    Column("formula", "string", "Its reduced formula."),
    Column("duplicate_of", "string", "The known structure that it is a near duplicate of."),
    Column(
        "distance",
        "double",
        "To the nearest known structure of its formula, as `near-duplicates` measures it.",
    ),
    Column("matched", "bool", "Whether StructureMatcher agrees, where `check` asked it."),
    Column("same_as", "string", "An earlier candidate that it is a near duplicate of."),
    Column("p", "double", "Share of held-out structures at least as atypical to all models."),
    Column("p_sparse", "double", "Share of them whose region is known at least as sparsely."),
    Column("region", "string", "How densely it is known: redundant, well covered or sparse."),
    Column("site_index", "int32", "Its least typical atom."),
    Column("element", "string", "That atom's element."),
    Column("nearest_id", "string", "Who holds the typical atom most like it, to the first model."),
    Column("nearest_site", "int32", "The site of that atom."),
    Column("nearest_distance", "double", "1 − cosine to it."),
    Column("disagreement", "double", "1 − mean share of nearest typical atoms in common."),
    Column("p_disagreement", "double", "Share of held-out ones disagreed on at least as much."),
    Column("outside_by", "list<string>", "The models to which it is outside alone."),
    Column("spread", "double", "Of the models' forces, where they are stored.", unit="eV/Å"),
    Column("shortest", "double", "Shortest distance over the sum of covalent radii, at most 1.5."),
    caveat=CAVEAT,
)
def screen(
    snapshot: Snapshot,
    candidates: StructuresQuery,
    *,
    models: Models = None,
    among: Among = None,
    reference: ReferenceStore = None,
    check: Annotated[bool, "Match duplicates with pymatgen's StructureMatcher."] = False,
    within: Within = WITHIN,
    outside: Outside = OUTSIDE,
    sparse: Sparse = SPARSE,
) -> pd.DataFrame:
    """Hold candidates, such as a generator's, against what is known: a class and an order for each.

    The first of these that is so: `implausible`, atoms are nearer than in all but one in 1,000
    known structures; `redundant`, a near duplicate of a known structure or of an earlier candidate;
    `outside`, p is at most `outside`; `frontier`, its region is among the `sparse` least densely
    known; `covered`. One computes the frontier first, the sparsest first; then covered ones, then
    those outside, the most typical first. Candidates of the store are not known. But for duplicates
    none is compared with its own composition, and p are conformal against held-out compositions.
    What cannot be read or embedded comes last, with its reason. With `reference` another store is
    what is known. See docs/questions/screen.md.

    Raises: StructureNotFound, UnreadableSource, ModelNotFound, LayerNotFound, CheckpointMismatch,
    InvalidQuery with too few compositions, what running a model raises, and as `coverage` of a
    reference.
    """
    sides = trained_sides(snapshot, models)
    these = structure_set(snapshot, candidates, sides)
    base = known(snapshot, sides, among, reference)
    limits = limits_of(base, outside, sparse, within)
    return screened(base, these, limits, check)


def screened(base: Known, these: StructureSet, limits: Limits, check: bool = False) -> pd.DataFrame:
    """The answer of `screen`: candidates in their order, rejected ones last."""
    measured = base.measure(these)
    alike = _alike(base, these, limits.within, check)
    p, p_sparse = limits.p(measured), limits.p_sparse(measured)
    frame = measured.frame.assign(
        candidate=these.names,
        formula=these.formulas,
        distance=np.where(np.isfinite(alike.distance), alike.distance, np.nan),
        duplicate_of=alike.duplicate_of,
        matched=alike.matched,
        same_as=alike.same_as,
        p=p,
        p_sparse=p_sparse,
        p_disagreement=limits.p_disagreement(measured),
        spread=_spread(these),
        outside_by=pd.Series(limits.outside_by(measured), dtype=object),
    )
    is_alike = frame["duplicate_of"].notna() | frame["same_as"].notna()
    frame["region"] = np.select(
        [is_alike, p_sparse <= limits.sparse], ["redundant", "sparse"], "well covered"
    )
    frame["class"] = limits.classes(frame)
    frame["rule"] = [limits.rule(row) for _, row in frame.iterrows()]
    # Within the frontier and what is covered the sparsest first, elsewhere the most typical.
    credible = frame["class"].isin(["frontier", "covered"])
    place = frame["class"].map(CLASSES.index)
    order = np.lexsort((these.ids.astype(str), np.where(credible, p_sparse, -p), place))
    frame = frame.drop(columns="structure_id").iloc[order]
    rejected = pd.DataFrame(these.rejected, columns=["candidate", "rule"])
    whole = pd.concat([frame, rejected.assign(**{"class": "rejected"})], ignore_index=True)
    typed: pd.DataFrame = screen.typed(whole.assign(rank=np.arange(1, len(whole) + 1)))
    return typed


def _spread(these: StructureSet) -> np.ndarray:
    """(n,) the committee's spread, NaN where two models' forces are not stored."""
    if not these.is_stored:
        return np.full(len(these.ids), np.nan)
    try:
        found = judged(these.snapshot).set_index("structure_id")["spread"]
    except InvalidQuery:
        return np.full(len(these.ids), np.nan)
    return found.reindex(these.ids).to_numpy(dtype=np.float64)


class _Alike(NamedTuple):
    """Of n candidates, what they are near duplicates of; None for none."""

    duplicate_of: np.ndarray
    distance: np.ndarray
    same_as: np.ndarray
    matched: np.ndarray


def _alike(base: Known, these: StructureSet, within: float, check: bool) -> _Alike:
    """Near duplicates among the known and among the candidates themselves."""
    others = base.others(these)
    seen, formulas = base.element_means(these), these.formulas
    nearest = nearest_known(
        seen.vectors, formulas, base.element_means(others).vectors, others.formulas
    )
    is_near = nearest.distance <= seen.within(within)
    duplicate_of = _or_none(is_near, others.ids[nearest.row[is_near]])
    first = first_alike(seen.vectors, formulas, seen.within(within))
    is_again = first < np.arange(len(first))
    same_as = _or_none(is_again, these.names[first[is_again]])
    matched = np.full(len(first), None, dtype=object)
    if check:
        near = others.select(nearest.row[is_near])
        matched[is_near] = match(these.select(np.flatnonzero(is_near)).crystals, near.crystals)
        rest = np.flatnonzero(~is_near & is_again)
        matched[rest] = match(these.select(rest).crystals, these.select(first[rest]).crystals)
        is_other = np.array([one is False for one in matched])
        duplicate_of[is_other & is_near] = None
        same_as[is_other & ~is_near] = None
    return _Alike(duplicate_of, nearest.distance * seen.scale, same_as, matched)


def _or_none(mask: np.ndarray, names: np.ndarray) -> np.ndarray:
    found = np.full(len(mask), None, dtype=object)
    found[mask] = names
    return found
