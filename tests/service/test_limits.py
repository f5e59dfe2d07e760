"""What one client can take of the service, and that the others do not notice."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx
import pytest

from platonic_store.service import connections

ENDLESS = "SELECT count(*) FROM range(1000000000) a, range(1000) b WHERE a.range != b.range"
HUNGRY = "SELECT list(range) FROM range(100000000)"


def raw(client: httpx.Client) -> socket.socket:
    return socket.create_connection((client.base_url.host, client.base_url.port), timeout=20)


def health_seconds(client: httpx.Client) -> float:
    began = time.monotonic()
    assert httpx.get(f"{client.url}/healthz", timeout=10).status_code == 200
    return time.monotonic() - began


def test_what_takes_too_long_is_interrupted(serve):
    client = serve(sql=True, seconds=0.5)
    late = client.get("/api/sql", params={"q": ENDLESS})
    assert late.status_code == 504
    assert "0.5 s" in late.json()["detail"]
    work = client.app.state.work
    for _ in range(100):
        if not work.busy_threads:
            break
        time.sleep(0.05)
    assert not work.busy_threads
    assert client.get("/api/sql?q=SELECT+1").status_code == 200


def test_what_nobody_waits_for_is_given_up(serve):
    client = serve(sql=True, seconds=30, threads=1)
    work = client.app.state.work
    query = ENDLESS.replace(" ", "%20").replace("!=", "%3C%3E")
    with raw(client) as line:
        line.sendall(f"GET /api/sql?q={query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        while not work.busy_threads:
            time.sleep(0.01)
    assert client.get("/api/sql?q=SELECT+1", timeout=10).status_code == 200


def test_a_condition_is_interrupted_too(serve):
    client = serve(seconds=0.5)
    where = f"({ENDLESS}) > 0"
    assert client.get("/api/similar", params={"query": "Halite", "where": where}).status_code == 504


def test_memory_is_limited(serve):
    client = serve(sql=True, memory="100MB")
    hungry = client.get("/api/sql", params={"q": HUNGRY})
    assert hungry.status_code in (422, 503)
    assert "memory" in hungry.text.lower()
    assert client.get("/api/outliers?k=1").status_code == 200


def test_rows_and_bytes_are_limited(serve):
    client = serve(sql=True, answer_rows=200_000, page_bytes=1 << 20, answer_bytes=8 << 20)
    for path, query, said in [
        ("sql", {"q": "FROM range(1000000000000)"}, "at most 200,000 rows"),
        ("sql", {"q": "SELECT range(20000) FROM range(100)"}, "at most 8,388,608 bytes"),
        ("sql", {"q": "SELECT range(20000) FROM range(10)", "limit": 9}, "a page has at most"),
        ("neighbours", {"level": "atom", "k": 280}, "at most 200,000 rows"),
    ]:
        answer = client.get(f"/api/{path}", params=query)
        assert answer.status_code == 422
        assert said in answer.json()["detail"]


def test_the_queue_ends_and_says_when_to_come_again(serve):
    client = serve(sql=True, seconds=1.5, threads=1, queue=2)
    with ThreadPoolExecutor(6) as pool:
        # Each another question: the same one would be asked once.
        found = list(
            pool.map(
                lambda i: httpx.get(
                    f"{client.url}/api/sql",
                    params={"q": f"{ENDLESS} AND {i} = {i}"},
                    timeout=30,
                ),
                range(6),
            )
        )
    codes = sorted(answer.status_code for answer in found)
    assert codes.count(504) == 2
    assert codes.count(503) == 4
    assert all(int(one.headers["retry-after"]) for one in found if one.status_code == 503)


def test_one_client_leaves_room_for_others(serve):
    client = serve(sql=True, seconds=1.5, threads=1, queue=50, per_client=2)
    with ThreadPoolExecutor(5) as pool:
        ask = lambda i: httpx.get(  # noqa: E731
            f"{client.url}/api/sql", params={"q": f"{ENDLESS} AND {i} = {i}"}, timeout=30
        )
        codes = sorted(answer.status_code for answer in pool.map(ask, range(5)))
    assert codes == [429, 429, 429, 504, 504]


def test_the_same_question_is_asked_once(serve, monkeypatch):
    client = serve(threads=4)
    asked = []

    def counted(snapshot, question, arguments):
        asked.append(question.name)
        time.sleep(0.3)
        return original(snapshot, question, arguments)

    from platonic_store.service import question_routes

    original = question_routes.answer
    monkeypatch.setattr(question_routes, "answer", counted)
    with ThreadPoolExecutor(8) as pool:
        url = f"{client.url}/api/outliers?k=2"
        answers = pool.map(lambda _: httpx.get(url, timeout=60), range(8))
        bodies = {answer.content for answer in answers}
    assert len(bodies) == len(asked) == 1


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_refused(serve, chunked):
    client = serve(body_bytes=100_000)
    piece = b"x" * 50_000
    content = (piece for _ in range(100)) if chunked else piece * 100
    try:
        answer = client.post("/api/uploads", content=content)
    except httpx.TransportError:
        return  # the connection ended while the rest was being sent
    assert answer.status_code == 413


def test_idle_connections_make_room_for_new_ones(serve):
    client = serve(connections=20)
    idle = [raw(client) for _ in range(60)]
    assert health_seconds(client) < 5
    for one in idle:
        one.close()


def test_connections_that_ask_are_not_ended_for_new_ones(serve):
    client = serve(sql=True, connections=3, seconds=2, threads=4)
    busy = [raw(client) for _ in range(3)]
    for i, one in enumerate(busy):
        query = f"{ENDLESS} AND {i} = {i}".replace(" ", "%20").replace("!=", "%3C%3E")
        one.sendall(f"GET /api/sql?q={query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    time.sleep(0.5)
    refused = raw(client)
    assert b"503" in refused.recv(100)
    assert all(b"504" in one.recv(100) for one in busy)
    for one in [*busy, refused]:
        one.close()


def test_who_sends_a_head_slowly_is_left(serve, monkeypatch):
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.3)
    monkeypatch.setattr(connections, "_LOOK_SECONDS", 0.1)
    with raw(serve()) as slow:
        slow.sendall(b"GET / HT")
        assert slow.recv(1) == b""


def test_who_does_not_read_is_left(serve, monkeypatch):
    monkeypatch.setattr(connections, "READ_SECONDS", 0.5)
    monkeypatch.setattr(connections, "_LOOK_SECONDS", 0.1)
    client = serve()
    path = "/api/neighbours?k=80&limit=10000"
    whole = len(client.get(path).content)
    received = 0
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect((client.base_url.host, client.base_url.port))
        for _ in range(8):  # pipelined: more than the system's buffers hold
            slow.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        time.sleep(2)
        with suppress(ConnectionResetError):
            while data := slow.recv(1 << 20):
                received += len(data)
    assert received < 8 * whole


def test_no_http_is_a_problem(serve):
    with raw(serve()) as wrong:
        wrong.sendall(b"\x16\x03\x01\r\n\r\n")
        assert b"application/problem+json" in wrong.recv(1000)


def test_a_health_check_while_all_threads_are_busy(serve):
    client = serve(sql=True, seconds=1.5, threads=2)
    threads = [
        threading.Thread(
            target=lambda i=i: httpx.get(
                f"{client.url}/api/sql", params={"q": f"{ENDLESS} AND {i} = {i}"}, timeout=30
            )
        )
        for i in range(6)
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    assert health_seconds(client) < 5
    for thread in threads:
        thread.join()
