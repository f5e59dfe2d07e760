"""Every declared question, asked over HTTP."""

import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from platonic_store import questions

ARGUMENTS = {
    "align": {"atoms": 60},
    "analogy": {"expression": "Halite - Na + K", "k": 4},
    "bias": {"by": ["element", "group"], "structures": 60},
    "collapsed_pairs": {"k": 5},
    "committee": {"k": 3},
    "compare_sets": {"a": "nelements = 2", "b": "nelements = 3", "resamples": 3},
    "coverage": {"query": "Halite", "reference": "prototypes.store", "level": "atom"},
    "disagreement": None,  # of stored scores, which this store lacks
    "embedding": {"query": "Halite", "site": 1},
    "moved": {"model": "chgnet-0.3.0", "parent": "sevennet-0", "atoms": 60},
    "near_duplicates": {"within": 0.01},
    "neighbours": {"k": 2},
    "outliers": {"k": 3},
    "screen": {"candidates": "nelements = 4"},
    "screen_limits": {"sparse": 0.1},
    "similar": {"query": "Halite", "site": 1, "where": "nelements < 4", "k": 7},
    "stitch": {"from_model": "sevennet-0", "to_model": "chgnet-0.3.0", "property": "volume"},
    "stitch_head": None,  # of a layer that this store lacks
    "transport": {"a": "sevennet-0", "b": "chgnet-0.3.0", "atoms": 60},
    "transport_distance": {"a": "Halite", "b": "Fluorite"},
    "typicality": {"query": "Halite", "level": "atom"},
}


def frame_of(answer) -> pd.DataFrame:
    return pq.read_table(io.BytesIO(answer.content)).to_pandas()


def asked(store, name: str, arguments: dict) -> pd.DataFrame:
    """The answer in Python, as a table."""
    question = questions.get(name)
    found = getattr(store, name)(**arguments)
    if question.is_value:
        value = found.tolist() if isinstance(found, np.ndarray) else found
        return pd.DataFrame({question.columns[0].name: [value]})
    return found


def plain(column: pd.Series) -> list:
    """Values that can be compared: lists, and None for what is missing."""
    lists = [one.tolist() if isinstance(one, np.ndarray) else one for one in column]
    return [None if np.ndim(one) == 0 and pd.isna(one) else one for one in lists]


def test_every_question_is_asked():
    assert set(ARGUMENTS) == set(questions.names())


@pytest.mark.parametrize("name", [name for name in ARGUMENTS if ARGUMENTS[name]])
def test_the_rows_are_those_of_python(client, prototypes, name):
    arguments = ARGUMENTS[name]
    answer = client.get(f"/api/{name}.parquet", params={**arguments, "limit": 10_000})
    assert answer.status_code == 200, answer.text
    expected = asked(prototypes, name, arguments)
    found = frame_of(answer)
    assert list(found) == list(expected)
    for column in expected:
        assert plain(found[column]) == plain(expected[column])


def test_json_says_what_its_columns_mean(client, prototypes):
    body = client.get("/api/typicality", params={"query": "Halite"}).json()
    assert body["question"] == "typicality"
    assert body["snapshot"] == prototypes.snapshot().id
    assert "typicality is not confidence" in body["caveat"]
    assert body["next"] is None
    (row,) = body["rows"]
    assert list(row) == [column["name"] for column in body["columns"]]
    by_name = {column["name"]: column for column in body["columns"]}
    assert by_name["p"] == {
        "name": "p",
        "type": "double",
        "meaning": "Share of the calibration that is at least as atypical.",
        "unit": "",
    }
    described = client.get("/api/similar", params={"query": "Halite"}).json()["columns"]
    assert {
        "name": "volume",
        "type": "double",
        "meaning": "Of its cell.",
        "unit": "Å³",
    } in described


def test_every_format_has_the_same_rows(client):
    query = {"query": "Halite", "k": 5}
    as_json = client.get("/api/similar", params=query).json()["rows"]
    answers = {
        suffix: client.get(f"/api/similar.{suffix}", params=query)
        for suffix in ("csv", "arrow", "parquet")
    }
    as_csv = pd.read_csv(io.BytesIO(answers["csv"].content))
    stream = pa.ipc.open_stream(answers["arrow"].content)
    as_arrow = stream.read_all()
    assert as_arrow.schema.metadata[b"question"] == b"similar"
    assert as_arrow.schema.field("distance").metadata[b"meaning"].startswith("1 − cosine".encode())
    assert as_arrow.num_rows == len(as_json) == 5
    for name in ("rank", "structure_id", "distance", "spacegroup"):
        values = [row[name] for row in as_json]
        assert as_csv[name].tolist() == values
        assert as_arrow[name].to_pylist() == values
        assert frame_of(answers["parquet"])[name].tolist() == values
    for suffix, kind in [
        ("csv", "text/csv; charset=utf-8"),
        ("arrow", "application/vnd.apache.arrow.stream"),
        ("parquet", "application/vnd.apache.parquet"),
    ]:
        assert answers[suffix].headers["content-type"] == kind


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "application/json"),
        ("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", "application/json"),
        ("text/csv", "text/csv; charset=utf-8"),
        ("application/json;q=0.1, text/*", "text/csv; charset=utf-8"),
        ("application/vnd.apache.arrow.stream, */*;q=0.1", "application/vnd.apache.arrow.stream"),
        ("application/vnd.apache.parquet", "application/vnd.apache.parquet"),
        ("image/png", "application/problem+json"),
    ],
)
def test_accept_chooses_the_format(client, accept, kind):
    answer = client.get("/api/outliers?k=1", headers={"Accept": accept})
    assert answer.headers["content-type"] == kind
    assert answer.status_code == (406 if "problem" in kind else 200)


def test_an_answer_that_is_known_is_not_sent_again(client):
    first = client.get("/api/similar?query=Halite&k=3")
    tag = first.headers["etag"]
    again = client.get("/api/similar?query=Halite&k=3", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == tag
    for other in ("/api/similar?query=Halite&k=4", "/api/similar.csv?query=Halite&k=3"):
        assert client.get(other, headers={"If-None-Match": tag}).status_code == 200


def test_pages_follow_one_another(client, prototypes):
    whole = prototypes.neighbours(k=3)
    rows, url, pages = [], "/api/neighbours?k=3&limit=500", 0
    while url:
        body = client.get(url).json()
        rows += body["rows"]
        url, pages = body["next"], pages + 1
    assert pages == -(-len(whole) // 500)
    assert pd.DataFrame(rows)[list(whole)].equals(whole.reset_index(drop=True))
    link = client.get("/api/neighbours.csv?k=3&limit=500").headers["link"]
    assert link.startswith("</api/neighbours.csv?")
    assert link.endswith('>; rel="next"')


def test_pages_stay_in_their_snapshot_while_the_store_changes(serve, own_prototypes):
    client = serve(own_prototypes)
    first = client.get("/api/neighbours?k=1&limit=100")
    anchors = set(own_prototypes.sql("FROM anchor")["structure_id"])
    gone = next(
        id_
        for id_ in own_prototypes.sql("FROM structure")["structure_id"]
        if id_ not in anchors and not any(row["neighbour"] == id_ for row in first.json()["rows"])
    )
    own_prototypes.delete([gone])
    rest, url = first.json()["rows"], first.json()["next"]
    while url:
        body = client.get(url).json()
        assert body["snapshot"] == first.json()["snapshot"]
        rest, url = rest + body["rows"], body["next"]
    assert gone in {row["structure_id"] for row in rest}
    for _ in range(100):
        newer = client.get("/api/neighbours?k=1&limit=1000")
        if newer.headers["platonic-snapshot"] != first.headers["platonic-snapshot"]:
            break
    assert newer.json()["snapshot"] == own_prototypes.snapshot().id
    assert gone not in {row["structure_id"] for row in newer.json()["rows"]}
    assert newer.headers["etag"] != first.headers["etag"]


def test_the_index_and_the_store(client, prototypes):
    index = client.get("/api").json()["questions"]
    assert [one["name"] for one in index] == questions.names()
    similar = next(one for one in index if one["name"] == "similar")
    k = next(one for one in similar["parameters"] if one["name"] == "k")
    assert (k["default"], k["at_least"], k["type"]) == (10, 1, "int")
    about = client.get("/api/store").json()
    assert about["snapshot"] == prototypes.snapshot().id
    assert about["structures"] == 288
    weights = prototypes.sql("SELECT name, checkpoint_sha256 FROM model")
    found = {one["name"]: one["weights_sha256"] for one in about["models"]}
    assert found == dict(weights.itertuples(index=False))
    assert {"name": "structure_id", "type": "VARCHAR"} in about["columns"]
    assert {one["recipe"] for one in about["spaces"]} == {"aligned", "cosine"}


def test_sql_and_the_cookbook(client, serve, prototypes):
    query = "SELECT count(*) AS n FROM structure WHERE spacegroup = 225"
    assert client.get("/api/sql", params={"q": query}).json()["rows"] == [
        {"n": int(prototypes.sql(query)["n"][0])}
    ]
    without = serve()
    refused = without.get("/api/sql", params={"q": query})
    assert refused.status_code == 403
    assert "--sql" in refused.json()["hint"]
    named = without.get("/api/sql", params={"q": "@hubs", "set": ["model=chgnet-0.3.0"]})
    expected = prototypes.sql("@hubs", variables={"model": "chgnet-0.3.0"})
    assert [row["structure_id"] for row in named.json()["rows"]] == expected.structure_id.tolist()


def test_values_that_json_lacks_are_null(client):
    query = (
        "SELECT 'nan'::DOUBLE AS a, 'inf'::DOUBLE AS b, [1.5, 'nan'::DOUBLE] AS c, 2::HUGEINT AS d"
    )
    (row,) = client.get("/api/sql", params={"q": query}).json()["rows"]
    assert row == {"a": None, "b": None, "c": [1.5, None], "d": 2}
