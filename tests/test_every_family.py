"""Models that cannot be imported together, in one store by one command, each in its environment."""

from itertools import permutations

import numpy as np
import pytest
from ase import Atoms

from platonic_store.runtimes import cards, checkpoints
from platonic_store.store import Store
from platonic_store.structures import read

pytestmark = pytest.mark.models

ONE_OF_EACH = [
    "mace-mp-0-small",
    "orb-v3-con-omat",
    "sevennet-0",
    "chgnet-0.3.0",
    "tensornet-matpes-pbe",
    "nequip-oam-l",
    "pet-omat-xs",
    "uma-s-1p1-omat",
    "mattersim-v1-1m",
    "grace-1l-oam-l",
    "control:soap",
    "control:composition",
]


@pytest.fixture(scope="module")
def models() -> list[str]:
    """With random weights, where the trained ones are not at hand."""
    found = []
    for name in ONE_OF_EACH:
        card = cards.resolve(name)
        away = checkpoints.requires_download(card) and not checkpoints.find_local(card)
        found.append(f"{cards.RANDOM}{name}" if away else name)
    return found


def crystals(count: int) -> dict[str, Atoms]:
    """The first prototypes of 2 to 20 sites."""
    (batch,) = read("builtin:aflow-prototypes", batch_size=1000)
    rows = [row for row in batch.structures.to_pylist() if 2 <= row["nsites"] <= 20]
    return {
        row["id"]: Atoms(
            row["numbers"],
            np.reshape(row["positions"], (-1, 3)),
            cell=np.reshape(row["cell"], (3, 3)),
            pbc=row["pbc"],
        )
        for row in rows[:count]
    }


@pytest.fixture(scope="module")
def everyone(models, tmp_path_factory) -> Store:
    store = Store.open(tmp_path_factory.mktemp("everyone") / "all.store")
    _, runs = store.ingest(crystals(60), models)
    assert [run.model for run in runs] == models
    assert {run.structures + run.rejected for run in runs} == {60}
    store.select_anchors(k=40, method="random")
    store.project()
    return store


def test_any_two_models_meet_in_a_query(everyone, models):
    for one, other in permutations(models, 2):
        hits = everyone.similar("Zincblende", model=one, across=other, site=0, k=3)
        assert len(hits) == 3
        assert hits["rank"].tolist() == [1, 2, 3]  # in the order that allows for hubs
    hits = everyone.similar("Zincblende", model="sevennet-0", across="chgnet-0.3.0", k=3)
    assert "Zincblende" in hits.structure_id.tolist(), "two trained models know it again"


def test_sql_joins_them(everyone, models):
    near = "similar_structures('Zincblende', model := '{}', k := 59)"
    one, other = near.format(models[0]), near.format("control:composition")
    frame = everyone.sql(
        "SELECT structure_id, a.distance AS one, b.distance AS other "
        f"FROM {one} AS a JOIN {other} AS b USING (structure_id)"
    )
    assert len(frame) > 50
    assert frame.one.nunique() > frame.other.nunique(), "composition alone cannot tell many apart"
