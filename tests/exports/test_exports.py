"""Exports, read by the tools that they are for."""

import gzip
import json
import warnings

import chemiscope
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from platonic_store.errors import InvalidQuery, MapNotFound
from platonic_store.storage import layer_sets
from platonic_store.store import Store

A, B = "sevennet-0@0+1", "chgnet-0.3.0@1+2"


@pytest.fixture(scope="module")
def document(prototypes, tmp_path_factory):
    path = prototypes.export(
        tmp_path_factory.mktemp("exports") / "chemiscope.json.gz", models=[A, B]
    )
    with warnings.catch_warnings():  # of its widget, which asks in what it runs
        warnings.simplefilter("ignore")
        chemiscope.show_input(str(path))
    with gzip.open(path, "rt") as file:
        return json.load(file)


def test_chemiscope_takes_structures_environments_and_properties(document, prototypes):
    settings = document["settings"]
    with warnings.catch_warnings():
        # That a missing number hides a point.
        warnings.filterwarnings("ignore", "Property .* has NaNs")
        made = chemiscope.create_input(
            structures=document["structures"],
            properties=document["properties"],
            environments=[
                (one["structure"], one["center"], one["cutoff"]) for one in document["environments"]
            ],
            settings=settings,
            metadata=document["meta"],
        )
    assert made["structures"] == document["structures"]
    assert made["environments"] == document["environments"]
    assert made["properties"].keys() == document["properties"].keys()
    for axis in ("x", "y"):
        assert settings["map"][axis]["property"] in made["properties"]


def test_chemiscope_shows_where_two_models_see_the_same_atoms(document, prototypes):
    properties = document["properties"]
    ids = properties["structure_id"]["values"]
    crystals = prototypes.sql("FROM crystals").set_index("structure_id")
    for shown, id_ in zip(document["structures"][::20], ids[::20], strict=True):
        assert shown["size"] == len(crystals.loc[id_, "numbers"])
        np.testing.assert_allclose(shown["cell"], crystals.loc[id_, "cell"], atol=1e-5)
    for model in (A, B):
        name, layers = model.split("@")
        atoms = prototypes.sql(
            f"FROM atom_map WHERE model = '{name}' AND layer = {layer_sets.read(layers)} "
            "ORDER BY ALL"
        ).set_index(["structure_id", "site_index"])
        keys = [(ids[one["structure"]], one["center"]) for one in document["environments"]]
        for axis in ("x", "y"):
            shown = properties[f"atom {model} {axis}"]["values"]
            np.testing.assert_allclose(shown, atoms.loc[keys, axis], atol=1e-5)
        assert len(properties[f"{model} x"]["values"]) == len(ids)


@pytest.mark.parametrize("level", ["structure", "atom"])
def test_embedding_atlas_gets_positions_and_neighbours(prototypes, tmp_path, level):
    ending = {"structure": "atlas.parquet", "atom": "atlas-atoms.parquet"}[level]
    path = prototypes.export(tmp_path / f"aflow-{ending}", models=["sevennet-0", "chgnet-0.3.0"])
    # As its server does, which hands the frame to DuckDB.
    frame = pd.read_parquet(path)
    assert frame[["x", "y", f"{A} x", f"{B} y"]].notna().all(axis=None)
    assert (frame["x"].abs() < 2).all()
    neighbours = parquet.read_schema(path).field("neighbors").type
    assert [field.name for field in neighbours] == ["ids", "distances"]
    assert [field.type.value_type for field in neighbours] == [pa.int64(), pa.float64()]
    for row in (0, 7, len(frame) - 1):
        near = frame["neighbors"][row]
        keys = {"site": int(frame["site_index"][row])} if level == "atom" else {}
        hits = prototypes.similar(frame["structure_id"][row], model=A, k=10, **keys)
        np.testing.assert_allclose(near["distances"], hits["distance"], atol=1e-9)
        assert row not in near["ids"]
        assert set(near["ids"]) <= set(range(len(frame)))
    first = frame["structure_id"][frame["neighbors"][0]["ids"][0]]
    keys = {"site": 0} if level == "atom" else {}
    near = prototypes.similar(frame["structure_id"][0], model=A, k=1, **keys)
    if level == "structure":
        assert first == near["structure_id"][0]


def test_a_name_says_the_format_and_the_map_must_be_there(prototypes, stores, tmp_path):
    with pytest.raises(InvalidQuery, match=r"store\.txt says no format"):
        prototypes.export(tmp_path / "store.txt")
    with pytest.raises(MapNotFound):
        Store.open(stores / "embedded.store").export(tmp_path / "atlas.parquet")
    assert not [*tmp_path.iterdir()]
