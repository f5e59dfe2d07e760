"""Cards, names, layers, interpreters, cores, portions."""

import json
from pathlib import Path

import jsonschema
import pyarrow as pa
import pytest
import yaml

from platonic_store import errors, resources
from platonic_store.runtimes import cards, cores
from platonic_store.runtimes.batching import SCHEMA, rebatch
from platonic_store.runtimes.cores import usable_cores

INGEST = resources.folder("ingest")
CARDS = sorted((INGEST / "families").glob("*/cards/*.yaml"))


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_card_fits_the_schema(path):
    schema = json.loads((INGEST / "schemas/card.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(yaml.safe_load(path.read_text()), schema)
    card = cards.Card.read(path)
    assert card.kind == cards.kind_of(card.name)
    assert card.name.replace(":", "-") == path.stem
    assert card.family == Path(card.folder).name
    assert card.default_layer in [layer.index for layer in card.layers]
    assert json.loads(json.dumps(card.as_dict()))["layers"][0] == {
        "index": 0,
        "dim": card.layers[0].dim,
    }


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_lineage_names_cards_as_they_are_called_here(path):
    card = cards.Card.read(path)
    names = {
        alias.lower(): one.name for one in cards.load_cards().values() for alias in one.aliases
    }
    for ancestor in card.lineage:
        assert ancestor.model != card.name
        assert names.get(ancestor.model.lower(), ancestor.model) == ancestor.model


@pytest.mark.parametrize("path", sorted({card.parents[1] for card in CARDS}), ids=lambda p: p.name)
def test_environment_fits_the_schema(path):
    schema = json.loads((INGEST / "schemas/environment.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(yaml.safe_load((path / "environment.yaml").read_text()), schema)


def test_no_two_cards_share_a_name():
    names = [
        name.lower()
        for card in cards.load_cards().values()
        for name in {card.name.lower(), *(alias.lower() for alias in card.aliases)}
    ]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", ["sevennet-0", "7net-0", "SevenNet-0", "7NET-0_11jul2024"])
def test_names_and_aliases(name):
    assert cards.resolve(name).name == "sevennet-0"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("sevenet-0", "sevennet-0"),
        ("chgnet-0.3", "chgnet-0.3.0"),
        ("sevennet-mf-0", "sevennet-mf-0-pbe or sevennet-mf-0-r2scan"),
    ],
)
def test_a_misspelt_name(name, meant):
    with pytest.raises(errors.ModelNotFound, match="no model") as error:
        cards.resolve(name)
    assert "\n" not in str(error.value)
    assert error.value.hint[0] == f"try {meant}"
    assert str(error.value.hint[1]) == "platonic_store.models.table()"


def test_random_controls():
    card = cards.resolve("control:random:7net-0")
    assert (card.name, card.seed, card.aliases) == ("control:random:sevennet-0", 0, ())
    assert (card.kind, card.head) == ("control", True)
    assert card.layers == cards.resolve("sevennet-0").layers
    assert cards.resolve("control:random:sevennet-0:0").name == card.name
    assert cards.resolve("CONTROL:random:sevennet-0:17").name == "control:random:sevennet-0:17"
    assert cards.resolve("control:random:sevennet-0:17").seed == 17
    unknown = ("", "sevennet-0:x", "sevenn-0", "control:soap", "control:random:sevennet-0")
    for wrong in (f"control:random:{name}" for name in unknown):
        with pytest.raises(errors.ModelNotFound) as error:
            cards.resolve(wrong)
        assert "\n" not in str(error.value)


def test_layers_wanted():
    card = cards.resolve("sevennet-0")
    wanted = {"default": (0, 1), "first": (0,), "last": (4,), "all": (0, 1, 2, 3, 4), "2,0": (0, 2)}
    assert {spec: cards.layers_wanted(card, spec) for spec in wanted} == wanted
    for wrong in ("", "5", "0,9", "-1", "second"):
        with pytest.raises(errors.LayerNotFound, match="sevennet-0 has no layers"):
            cards.layers_wanted(card, wrong)


@pytest.mark.parametrize(
    ("quota", "most"), [("max 100000", 10**6), ("100000 100000", 1), ("50000 100000", 1)]
)
def test_cores_of_a_container(tmp_path, quota, most):
    (tmp_path / "cpu.max").write_text(quota)
    assert 1 <= usable_cores(tmp_path) <= most
    assert usable_cores(tmp_path / "none") >= 1


@pytest.mark.parametrize(("own", "expected"), [(None, "3"), ("2", None)])
def test_blas_takes_the_cores_of_a_container(monkeypatch, own, expected):
    environment = {} if own is None else {"OMP_NUM_THREADS": own}
    monkeypatch.setattr(cores.os, "environ", environment)
    monkeypatch.setattr(cores, "usable_cores", lambda: 3)
    cores.limit_blas()
    assert environment.get("OPENBLAS_NUM_THREADS") == expected


@pytest.mark.parametrize("limit", [1, 5, 12, 1000])
def test_rebatch_keeps_every_structure_in_order(limit):
    sizes = [3, 1, 0, 7, 30, 2, 2, 2, 5, 12, 1]
    rows = [
        {"id": str(i), "numbers": [1] * n, "positions": [0.0] * 3 * n, "cell": [0.0] * 9,
         "pbc": [False] * 3, "band_gap": 1.0}
        for i, n in enumerate(sizes)
    ]  # fmt: skip
    schema = SCHEMA.append(pa.field("band_gap", pa.float64()))
    batches = [
        pa.RecordBatch.from_pylist(part, schema=schema) for part in (rows[:4], rows[4:5], rows[5:])
    ]
    pieces = list(rebatch(batches, lambda: limit))
    assert [name for piece in pieces for name in piece["id"].to_pylist()] == list(
        map(str, range(11))
    )
    for piece in pieces:
        atoms = sum(map(len, piece["numbers"].to_pylist()))
        assert atoms <= limit or sum(map(bool, piece["numbers"].to_pylist())) == 1
        assert piece.schema == SCHEMA
