"""An S3 server for the tests (moto's), and before it a proxy that breaks what it is told to."""

import http.client
import re
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from urllib.parse import unquote

import pytest

KEY, SECRET = "AKIAOFTHETESTS", "secret-of-the-tests"
_buckets = count(1)


@dataclass
class Fault:
    """What happens to the next `times` requests of a method whose path and query hold `key`."""

    method: str
    key: str
    act: Callable[["_Handler"], None]
    times: int = 1


class Proxy(ThreadingHTTPServer):
    """Passes requests on to a server, apart from those for which a fault is set.

    seen: every request as (method, path and query). ignored: headers that the server never gets.
    """

    daemon_threads = True

    def __init__(self, target: tuple[str, int]):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = target
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.seen: list[tuple[str, str]] = []
        self.ignored: set[str] = set()
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        # S3 decides upon a condition and writes at once; moto decides, and then writes.
        self.conditional = threading.Lock()

    def answer(self, status: int, method: str, key: str, times: int = 1, body: bytes = b"") -> None:
        """Answer with an error, and do nothing."""
        self._add(method, key, times, lambda request: request.reply(status, [], body))

    def delay(self, seconds: float, method: str, key: str, times: int = 1) -> None:
        """Wait before passing the request on."""

        def act(request: "_Handler") -> None:
            time.sleep(seconds)
            request.reply(*request.forward())

        self._add(method, key, times, act)

    def cut(self, method: str, key: str, times: int = 1) -> None:
        """Send half of the answer's body, and hang up."""
        self._add(method, key, times, lambda request: request.reply(*request.forward(), half=True))

    def lose(self, method: str, key: str, times: int = 1) -> None:
        """Have the request done, and hang up instead of answering."""

        def act(request: "_Handler") -> None:
            request.forward()
            request.hang_up()

        self._add(method, key, times, act)

    def before(self, action: Callable[[], object], method: str, key: str, passed: int = 0) -> None:
        """Do something, as another writer or a `kill -9` would, before passing a request on.

        passed: how many such requests are passed on before.
        """

        def act(request: "_Handler") -> None:
            action()
            request.reply(*request.forward())

        self._add(method, key, passed, lambda request: request.reply(*request.forward()))
        self._add(method, key, 1, act)

    def _add(self, method: str, key: str, times: int, act: Callable[["_Handler"], None]) -> None:
        with self._lock:
            self._faults.append(Fault(method, key, act, times))

    def forget(self) -> None:
        """Undo all faults."""
        with self._lock:
            self._faults.clear()

    def pending(self) -> int:
        """How many of the faults have not happened yet."""
        with self._lock:
            return sum(fault.times for fault in self._faults)

    def fault(self, method: str, path: str) -> Fault | None:
        with self._lock:
            self.seen.append((method, path))
            for fault in self._faults:
                if fault.times and fault.method == method and fault.key in unquote(path):
                    fault.times -= 1
                    return fault
        return None

    def handle_error(self, request, client_address) -> None:
        """A client that hangs up is no failure of the proxy."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer waits 40 ms
    server: Proxy

    def _pass_on(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.server.fault(self.command, self.path)
        if fault:
            fault.act(self)
        else:
            self.reply(*self.forward())

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on

    def forward(self) -> tuple[int, list[tuple[str, str]], bytes]:
        headers = {k: v for k, v in self.headers.items() if k.lower() not in self.server.ignored}
        is_conditional = self.command == "PUT" and "If-None-Match" in self.headers
        connection = http.client.HTTPConnection(*self.server.target)
        try:
            with self.server.conditional if is_conditional else nullcontext():
                connection.request(self.command, self.path, self.body, headers)
                answer = connection.getresponse()
                return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def reply(self, status, headers, body: bytes, half: bool = False) -> None:
        self.send_response_only(status)
        hop = ("connection", "transfer-encoding", "content-length")
        for name, value in headers:
            if name.lower() not in hop or (self.command, name.lower()) == ("HEAD", hop[2]):
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if half else body)
        if half:
            self.hang_up()

    def hang_up(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(2)

    def log_message(self, format, *args) -> None:
        pass


@contextmanager
def serving(server: ThreadingHTTPServer):
    """The server, answering from a thread of its own."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class Bucket:
    """An empty bucket behind a proxy of its own.

    uri: of a store in it. options: storage options that go through the proxy. environment: the
    same as variables.
    """

    name: str
    proxy: Proxy
    uri: str = field(init=False)

    def __post_init__(self) -> None:
        self.uri = f"s3://{self.name}/folder/test.store"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.proxy.url,
            "AWS_ALLOW_HTTP": "true",
        }

    @property
    def options(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.environment.items()}


@pytest.fixture(scope="session")
def moto_address():
    from moto.server import ThreadedMotoServer  # seconds, for those tests alone

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()
    server.stop()


@pytest.fixture
def bucket(moto_address):
    with serving(Proxy(moto_address)) as proxy:
        made = Bucket(f"bucket-{next(_buckets)}", proxy)
        connection = http.client.HTTPConnection(*moto_address)
        connection.request("PUT", f"/{made.name}")
        assert connection.getresponse().status == 200
        connection.close()
        yield made


class _Web(SimpleHTTPRequestHandler):
    """Serves files, and like web servers parts of them."""

    def do_GET(self) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if not wanted or not path.is_file():
            return super().do_GET()
        data = path.read_bytes()
        first, last = int(wanted[1]), min(int(wanted[2]), len(data) - 1)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.send_header("Content-Length", str(last + 1 - first))
        self.end_headers()
        self.wfile.write(data[first : last + 1])

    def log_message(self, format, *args) -> None:
        pass


@pytest.fixture
def web(tmp_path):
    """A web server of a folder: the folder, and the proxy before it (`proxy.url`)."""
    folder = tmp_path / "web"
    folder.mkdir()

    def handler(*args):
        return _Web(*args, directory=folder)

    with (
        serving(ThreadingHTTPServer(("127.0.0.1", 0), handler)) as server,
        serving(Proxy(server.server_address)) as proxy,
    ):
        yield folder, proxy
