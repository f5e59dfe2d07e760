"""Structures that are no crystals of a textbook: every question answers, or refuses in one line."""

import warnings

import numpy as np
import pytest
import store_fakes
from ase import Atoms
from ase.build import bulk, fcc111, graphene, molecule, nanotube
from ase.collections import g2

from platonic_store.errors import PlatonicError
from platonic_store.store import Store


def odd() -> dict[str, Atoms]:
    left = bulk("NaCl", "rocksalt", a=5.64)
    left.set_cell(np.array(left.cell)[[1, 0, 2]], scale_atoms=False)
    far = bulk("NaCl", "rocksalt", a=5.64)
    far.positions += [100, -50, 1000]
    return {name: molecule(name) for name in g2.names[::3]} | {
        "lone": Atoms("H"),
        "helium": Atoms("He", cell=[4, 4, 4], pbc=True),
        "apart": Atoms("Fe2", positions=[[0, 0, 0], [0, 0, 30]], cell=[60, 60, 60], pbc=True),
        "near": Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.4]], cell=[5, 5, 5], pbc=True),
        "slab": fcc111("Al", (2, 2, 3), vacuum=8),
        "sheet": graphene(vacuum=8),
        "wire": nanotube(4, 0, length=1, vacuum=6),
        "left-handed": left,
        "far": far,
        "iron": bulk("Fe"),
        "iron again": bulk("Fe") * (2, 2, 2),
    }


@pytest.fixture(
    params=[
        pytest.param(store_fakes.MODELS, id="fakes"),
        pytest.param(["sevennet-0", "chgnet-0.3.0"], id="real", marks=pytest.mark.models),
    ]
)
def store(request, tmp_path) -> Store:
    if request.param is store_fakes.MODELS:
        request.getfixturevalue("fakes")
    made = Store.open(tmp_path / "odd.store")
    made.ingest(odd(), request.param, outputs="energy,forces")
    made.score()
    made.select_anchors(k=30)
    made.project()
    made.map()
    return made


QUESTIONS = {
    "align": [()],
    "analogy": [("iron - Fe + Al",), ("iron - slab + wire",)],
    "bias": [()],
    "collapsed_pairs": [()],
    "committee": [()],
    "compare_sets": [("nsites < 4",)],
    "disagreement": [()],
    "embedding": [("lone",), ("far",)],
    "near_duplicates": [()],
    "neighbours": [()],
    "outliers": [()],
    "screen_limits": [()],
    "similar": [(name,) for name in odd()],
    "transport_distance": [("lone", "slab"), ("sheet", "iron")],
    "typicality": [(), ("apart",)],
}


def test_every_question_answers_or_refuses(store, tmp_path):
    # CHGNet needs a neighbour for every atom.
    assert {*store.sql("FROM quarantine")["structure_id"]} <= {"lone", "S", "apart"}
    models = [*store.sql("FROM model")["name"]]
    answered, refused = set(), []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, calls in {**QUESTIONS, "moved": [models], "transport": [models]}.items():
            for arguments in calls:
                try:
                    getattr(store, name)(*arguments)
                except PlatonicError as error:
                    refused.append(str(error))
                else:
                    answered.add(name)
        page = store.report(tmp_path / "report.html")
        for ending in ("chemiscope.json", "atlas.parquet", "optimade.jsonl", "explorer.html"):
            assert store.export(tmp_path / f"odd.{ending}").stat().st_size > 500
    assert page.stat().st_size > 10_000
    assert not [reason for reason in refused if "\n" in reason]
    assert answered >= {"align", "near_duplicates", "neighbours", "similar", "typicality"}
    assert store.near_duplicates()[["structure_id", "other"]].to_numpy().tolist()
    found = store.similar("far", k=1)
    assert found["structure_id"].tolist() == ["left-handed"], "the same salt"
