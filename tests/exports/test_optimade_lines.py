"""The file of OPTIMADE JSON Lines, read back with optimade-python-tools' models."""

import gzip
import json

import pytest
from optimade.models import BaseInfoResource, EntryInfoResource, StructureResource
from optimade.models.optimade_json import Provider

from platonic_store.errors import ModelNotFound
from platonic_store.structures import read

pytestmark = pytest.mark.filterwarnings("ignore:Accessing the 'model_fields':DeprecationWarning")


def lines(path):
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        return [json.loads(line) for line in file]


@pytest.mark.parametrize("name", ["optimade.jsonl", "mine.optimade.jsonl.gz"])
def test_the_file_is_as_the_specification_says(prototypes, tmp_path, name):
    assert prototypes.export(tmp_path / name) == tmp_path / name
    header, meta, info, structures, *entries = lines(tmp_path / name)
    assert header == {"x-optimade": {"api_version": "1.2.0"}}
    assert Provider(**meta["meta"]["provider"]).prefix == "platonic"
    assert meta["meta"]["data_returned"] == len(entries) == 288
    BaseInfoResource(**info)
    properties = EntryInfoResource(**structures).properties
    for entry in entries:
        StructureResource(**entry)
        assert set(entry["attributes"]) | {"id", "type"} == set(properties)
    assert {one["id"] for one in entries} == set(
        prototypes.sql("SELECT structure_id FROM structure")["structure_id"]
    )


def test_the_structures_can_be_ingested_again(prototypes, tmp_path):
    prototypes.export(tmp_path / "optimade.jsonl")
    _, _, _, _, *entries = lines(tmp_path / "optimade.jsonl")
    (tmp_path / "structures.json").write_text(json.dumps({"data": entries}))
    found = {}
    for batch in read(tmp_path / "structures.json"):
        assert batch.rejected == []
        for id_, content in zip(
            batch.structures["id"], batch.structures["content_hash"], strict=True
        ):
            found[id_.as_py()] = content.as_py()
    known = prototypes.sql("SELECT structure_id, content_hash FROM structure")
    assert found == dict(known.itertuples(index=False))


def test_of_models_that_are_named(prototypes, tmp_path):
    with pytest.raises(ModelNotFound, match="gpt"):
        prototypes.export(tmp_path / "optimade.jsonl", models=["gpt"])
