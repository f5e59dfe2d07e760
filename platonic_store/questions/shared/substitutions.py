"""Test cases of analogies found in a store: one element exchanged for another, in two contexts.

SrTiO3 − CaTiO3 + CaZrO3 → SrZrO3. The four corners have one prototype: as many sites, the same
space group, and symmetry-equivalent sites in sets of the same sizes for each role. That is as much
of a prototype as the catalogue knows.
"""

from collections import defaultdict
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from platonic_store.errors import InvalidQuery
from platonic_store.geometry.anchors import random_rows
from platonic_store.geometry.arithmetic import hits_at_1
from platonic_store.questions.shared.pairing import paired_embeddings
from platonic_store.storage import lookup
from platonic_store.storage.snapshot import Snapshot

_CORNERS = ["start", "minus", "plus", "target"]
_RESAMPLES = 500
# Prototype with one role open → element in that role → the other elements → ids.
_Fillings = dict[tuple[Any, ...], dict[int, dict[tuple[Any, ...], list[str]]]]


def cases(snapshot: Snapshot, *, limit: int = 20_000, seed: int = 0) -> pd.DataFrame:
    """Analogies start − minus + plus → target of a store, each with one right answer.

    Every four structures of a prototype that two elements and two contexts span are a case for
    each of their corners. Where a corner has several structures (the same formula and prototype)
    the answer would not be one, and the four are left out.

    limit: at most so many, the same ones for the same content.

    Returns: columns start, minus, plus, target (ids), apart (how many elements the two contexts do
    not share) and polymorphs (how many more structures of the target's formula are candidates).
    """
    structures = snapshot.frame(
        "SELECT id, formula, spacegroup, numbers, orbits FROM catalog.main.structures "
        "JOIN crystals ON structure_id = id ORDER BY id"
    )
    quadruples = _quadruples(_fillings(structures))
    rows = [(*case, apart) for four, apart in quadruples for case in _analogies_of(four)]
    found = pd.DataFrame(rows, columns=[*_CORNERS, "apart"])
    found = found.sort_values(_CORNERS, ignore_index=True)
    if len(found) > limit:
        names = found[_CORNERS].agg(" ".join, axis=1).to_numpy()
        found = found.iloc[np.sort(random_rows(names, limit, seed))].reset_index(drop=True)
    formula = structures.set_index("id")["formula"]
    entries = formula.map(formula.value_counts())
    same = sum((found[c].map(formula) == found["target"].map(formula)) for c in _CORNERS[:3])
    return found.assign(polymorphs=found["target"].map(entries) - 1 - same)


def _fillings(structures: pd.DataFrame) -> _Fillings:
    """The structures of a store by what fills the roles of their prototypes."""
    found: _Fillings = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for id_, spacegroup, numbers, orbits in zip(
        *(structures[name] for name in ("id", "spacegroup", "numbers", "orbits")), strict=True
    ):
        roles = _roles(numbers, orbits)
        for element, sizes in roles.items():
            others = tuple(sorted((size, z) for z, size in roles.items() if z != element))
            pattern = tuple(size for size, _ in others)
            prototype = (spacegroup, len(numbers), sizes, pattern)
            found[prototype][element][others].append(id_)
    return found


def _roles(numbers: np.ndarray, orbits: np.ndarray) -> dict[int, tuple[int, ...]]:
    """Each element's sets of equivalent sites, by their sizes."""
    roles = defaultdict(list)
    for first, size in zip(*np.unique(orbits, return_counts=True), strict=True):
        roles[int(numbers[first])].append(int(size))
    return {z: tuple(sorted(sizes)) for z, sizes in roles.items()}


def _quadruples(fillings: _Fillings) -> list[tuple[tuple[str, ...], int]]:
    """(x in c, y in c, x in d, y in d) for all elements x, y and contexts c, d; each four once."""
    found: dict[frozenset[str], tuple[tuple[str, ...], int]] = {}
    for elements in fillings.values():
        for x, y in combinations(sorted(elements), 2):
            contexts = sorted(elements[x].keys() & elements[y].keys())
            alone = [c for c in contexts if len(elements[x][c]) == len(elements[y][c]) == 1]
            for c, d in combinations(alone, 2):
                four = tuple(elements[z][context][0] for context in (c, d) for z in (x, y))
                apart = len({z for _, z in c} - {z for _, z in d})
                found.setdefault(frozenset(four), (four, apart))
    return list(found.values())


def _analogies_of(four: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The four analogies of a parallelogram, one for each corner that is looked for."""
    a, b, c, d = four
    return [(b, a, c, d), (a, b, d, c), (d, c, a, b), (c, d, b, a)]


def score(
    snapshot: Snapshot,
    posed: pd.DataFrame,
    model: str | None = None,
    across: str | None = None,
    *,
    space: str | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """How many of the cases a model (`MODEL` or `MODEL@LAYER`) answers: one row.

    Candidates are all structures of the store but the case's own three terms. Columns: hit, the
    share of cases whose nearest candidate is the target's id, between low and high in 95 of 100
    bootstrap resamples of the targets; formula, the share where it has the target's formula;
    nearest, the share answered by the nearest neighbour of `start` alone; polymorph, hit among the
    polymorph_cases whose target has rivals of its own formula, which composition cannot tell apart;
    cases.

    across: the model whose structures answer, through the shared space. Targets that hold an
        anchor are then left out, since an anchor finds itself.

    Raises: ModelNotFound, LayerNotFound, AnchorsNotFound, InvalidQuery if no case is left.
    """
    asker = lookup.model_layer(snapshot, model)
    answerer = lookup.model_layer(snapshot, across) if across else asker
    if across or space:
        space = lookup.space(snapshot, space, [asker.model, answerer.model])
        asker = lookup.side_in(snapshot, space, model)
        answerer = lookup.side_in(snapshot, space, across) if across else asker
        posed = posed[~posed["target"].isin(_anchored(snapshot, space))]
    rows = paired_embeddings(snapshot, [asker, answerer], "structure", space=space)
    ids = rows.keys["structure_id"].to_numpy()
    asked, answers = rows.vectors
    hubs = rows.hubs[1] if across else None
    found = _score(snapshot, posed, ids, asked, answers, seed, hubs)
    return found.assign(model=str(asker), across=str(answerer) if across else None)


def score_of_composition(snapshot: Snapshot, posed: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """`score` for the elements' shares alone, without any model."""
    structures = snapshot.frame("SELECT structure_id, numbers FROM crystals ORDER BY structure_id")
    shares = composition(structures["numbers"])
    ids = structures["structure_id"].to_numpy()
    found = _score(snapshot, posed, ids, shares, shares, seed)
    return found.assign(model="composition alone", across=None)


def composition(numbers: pd.Series) -> np.ndarray:
    """(n, 119) the share of each atomic number in each structure."""
    return np.stack([np.bincount(one, minlength=119) / len(one) for one in numbers])


def _anchored(snapshot: Snapshot, space: str) -> list[str]:
    """The structures that hold an anchor of a space."""
    return snapshot.frame(
        "SELECT DISTINCT a.structure_id FROM catalog.main.anchors AS a "
        "JOIN catalog.main.spaces AS s USING (anchor_set) WHERE s.id = ?",
        [space],
    )["structure_id"].tolist()


def _score(
    snapshot: Snapshot,
    posed: pd.DataFrame,
    ids: np.ndarray,
    asked: np.ndarray,
    answers: np.ndarray,
    seed: int,
    hubs: np.ndarray | None = None,
) -> pd.DataFrame:
    """`asked` and `answers` are (n, D), a row for each of the ids; `hubs` (n,) the answers'."""
    posed = posed[posed[_CORNERS].isin(ids).all(axis=1)]
    if posed.empty:
        raise InvalidQuery(
            "no element is exchanged in two contexts among these structures: ingest more of a kind"
        )
    row = pd.Series(np.arange(len(ids)), index=ids)
    start, minus, plus, target = (row[posed[corner]].to_numpy() for corner in _CORNERS)
    barred = np.stack([start, minus, plus], axis=1)
    asked = asked.astype(np.float64)
    queries = asked[start] - asked[minus] + asked[plus]
    hits, nearest = hits_at_1(queries, answers, target, barred, hubs)
    alone, _ = hits_at_1(asked[start], answers, target, barred, hubs)
    known = snapshot.frame("SELECT id, formula FROM catalog.main.structures").set_index("id")
    formula = known["formula"][ids].to_numpy()
    low, high = _interval(hits, target, seed)
    rivalled = posed["polymorphs"].to_numpy() > 0
    return pd.DataFrame(
        {
            "model": None,
            "across": None,
            "hit": hits.mean(),
            "low": low,
            "high": high,
            "formula": (formula[nearest] == formula[target]).mean(),
            "nearest": alone.mean(),
            "polymorph": hits[rivalled].mean() if rivalled.any() else np.nan,
            "polymorph_cases": int(rivalled.sum()),
            "cases": len(posed),
        },
        index=[0],
    )


def _interval(hits: np.ndarray, groups: np.ndarray, seed: int) -> tuple[float, float]:
    """95 % of the mean's resamples, whole groups at a time."""
    _, group = np.unique(groups, return_inverse=True)
    sums, counts = np.bincount(group, hits), np.bincount(group)
    draws = np.random.default_rng(seed).multinomial(
        len(counts), np.full(len(counts), 1 / len(counts)), _RESAMPLES
    )
    low, high = np.quantile(draws @ sums / (draws @ counts), [0.025, 0.975])
    return float(low), float(high)
