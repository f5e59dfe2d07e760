"""Who may ask what: hosts, tokens, other sites' pages, errors, and what every answer has."""

import logging
import socket

import pytest

TOKEN = "a-token-of-some-length"


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/api/similar?query=nix", 404, "no structure 'nix'"),
        ("/api/similar?query=upload:0", 404, "upload:0"),
        ("/api/similar?query=/etc/passwd", 404, "no structure '/etc/passwd'"),
        ("/api/similar?query=%00", 422, "query"),
        ("/api/similar?query=Halite&site=99", 422, "no site 99"),
        ("/api/similar?query=Halite&model=nix", 422, "no embeddings by nix"),
        ("/api/similar?query=Halite&model=sevennet-0@7", 422, "layers [0, 1]"),
        ("/api/similar?query=Halite&space=nix", 422, "no shared space nix"),
        ("/api/similar?query=Halite&where=nix", 422, "nix"),
        ("/api/similar?query=Halite&where=1%3D1)+OR+(1%3D1", 422, ""),
        ("/api/similar?query=Halite&k=0", 422, "k: Input should be greater"),
        ("/api/similar?query=Halite&k=99999999999", 422, "k: Input should be less"),
        ("/api/similar?query=Halite&level=cell", 422, "'structure' or 'atom'"),
        ("/api/similar?query=Halite&nix=1", 422, "nix: Extra inputs"),
        ("/api/similar?query=" + "x" * 3000, 422, "at most 2000"),
        ("/api/coverage?query=Halite&reference=/etc", 422, "no reference that the owner"),
        ("/api/coverage?query=Halite&reference=http://127.0.0.1:9/x", 422, "opened or served"),
        ("/api/typicality?query=Halite&reference=s3://a/b", 422, "there are: prototypes.store"),
        ("/api/coverage?query=Halite", 422, "reference: Field required"),
        ("/api/similar", 422, "query: Field required"),
        ("/api/similar.xls?query=Halite", 422, "no format 'xls'"),
        ("/api/similar?query=Halite&cursor=nix", 422, "cursor"),
        ("/api/neighbours?cursor=OTk5LjA", 404, "snapshot 999"),
        ("/api/align?seed=-1", 422, "seed"),
        ("/api/disagreement", 422, "score"),
        ("/api/nix", 404, "/api/nix"),
        ("/api/uploads/nix", 404, "nix"),
        ("/api/sql?q=SELECT+*+FROM+read_text('/etc/passwd')", 422, "disabled"),
        ("/api/sql?q=DROP+VIEW+structure", 422, ""),
        ("/api/sql?q=@nix", 422, "no query @nix"),
        ("/api/sql?q=@hubs&set=nix", 422, "NAME=VALUE"),
    ],
)
def test_errors_are_problems_with_hints(client, path, status, said):
    answer = client.get(path)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert said in problem["detail"] + problem["hint"]
    assert "Traceback" not in answer.text


def test_an_unexpected_error_has_an_id_that_is_in_the_log(serve, monkeypatch, caplog):
    client = serve()

    async def broken(*_):
        raise RuntimeError("a secret of the machine")

    monkeypatch.setattr(client.app.state.work, "newest", broken)
    with caplog.at_level(logging.ERROR):
        answer = client.get("/api/outliers")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    (record,) = [one for one in caplog.records if one.name == "platonic_store.service.problems"]
    assert answer.json()["id"] in record.getMessage()
    assert "a secret of the machine" in str(record.exc_info)


@pytest.mark.parametrize(
    "path", ["/api", "/docs", "/healthz", "/nix", "/", "/api/outliers.csv?k=1"]
)
def test_every_answer_has_a_policy_that_names_no_other_host(client, path):
    headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy or "default-src 'self'" in policy
    loads = [one for one in policy.split(";") if "frame-ancestors" not in one]  # who shows it
    assert "http" not in " ".join(loads)
    assert headers["x-content-type-options"] == "nosniff"


def test_head_is_get_without_a_body(client):
    whole, head = client.get("/api/outliers?k=1"), client.head("/api/outliers?k=1")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(whole.content))
    assert head.headers["etag"] == whole.headers["etag"]


def test_the_documentation_loads_nothing_from_elsewhere(client):
    page = client.get("/docs").text
    assert "http://" not in page
    assert "https://" not in page
    for path in ("/docs/docs.js", "/docs/docs.css"):
        assert path in page
        assert client.get(path).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost@evil", ""])
def test_another_sites_name_does_not_lead_here(client, host):
    answer = client.get("/api", headers={"Host": host})
    assert answer.status_code == 400
    assert "--allow-host" in answer.json()["hint"]


def test_a_name_that_is_allowed_leads_here(serve):
    client = serve(hosts=("crystals.example",))
    for host in ("crystals.example", "CRYSTALS.example:443", "localhost:1", "127.0.0.1"):
        assert client.get("/healthz", headers={"Host": host}).status_code == 200


def test_a_token_by_header_and_by_a_cookie(serve):
    client = serve(token=TOKEN)
    refused = client.get("/api/store")
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    assert client.get("/healthz").status_code == 200
    assert client.get("/api", headers={"Authorization": "Bearer nix"}).status_code == 401
    assert client.get("/api", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert client.get("/api?token=nix").status_code == 401
    opened = client.get(f"/api/outliers?token={TOKEN}&k=1")
    assert (opened.status_code, opened.headers["location"]) == (303, "/api/outliers?k=1")
    assert "HttpOnly" in opened.headers["set-cookie"]
    assert TOKEN not in opened.headers["set-cookie"]
    assert client.get("/api/outliers?k=1").status_code == 200  # by the cookie


def test_a_redirect_never_leaves_the_service(serve):
    client = serve(token=TOKEN)
    place = (client.base_url.host, client.base_url.port)
    with socket.create_connection(place) as line:
        line.sendall(
            f"GET //evil.example/x?token={TOKEN} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        )
        assert b"location: /evil.example/x\r\n" in line.recv(2000)


def test_the_log_has_the_requests_and_no_token(serve, caplog):
    client = serve(token=TOKEN)
    with caplog.at_level(logging.INFO, logger="platonic_store.access"):
        client.get(f"/api?token={TOKEN}")
        client.get("/api%0aforged")
    lines = [one.getMessage() for one in caplog.records if one.name == "platonic_store.access"]
    assert any('"GET /api?token=' in line for line in lines)
    assert not any(TOKEN in line or "\n" in line for line in lines)


def test_other_sites_pages_read_and_send_nothing_unless_named(serve):
    client = serve(cors=("https://notebook.example",))
    for origin, allowed in (("https://notebook.example", True), ("https://evil.example", False)):
        read = client.get("/api", headers={"Origin": origin})
        assert ("access-control-allow-origin" in read.headers) == allowed
        sent = client.post("/api/uploads", content="x", headers={"Origin": origin})
        assert sent.status_code == (422 if allowed else 403)
    own = {"Origin": str(client.base_url).rstrip("/")}
    assert client.post("/api/uploads", content="x", headers=own).status_code == 422


def test_metrics_count_requests_by_route(serve):
    client = serve()
    client.get("/api/outliers?k=1")
    client.get("/nix")
    text = client.get("/metrics").text
    assert 'platonic_requests_total{method="GET",route="/api/outliers",status="200"} 1.0' in text
    assert 'route="/nix"' not in text
    assert "platonic_snapshot " in text
