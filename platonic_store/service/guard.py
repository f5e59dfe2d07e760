"""What every request passes first (host, token, size), and what every answer has."""

import asyncio
import hashlib
import hmac
import ipaddress
import logging
import socket
import time
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from platonic_store.errors import PlatonicError, TooLarge
from platonic_store.service import problems
from platonic_store.service.settings import LOOPBACK, Settings
from platonic_store.service.watching import Measures
from platonic_store.service.work import client

COOKIE: Final = "platonic_store"
OPEN_PATHS: Final = ("/healthz",)
# A page that needs more has a header of its own.
SECURITY: Final = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_SEND_BYTES: Final = 64 << 10

logger = logging.getLogger("platonic_store.access")


class Guard:
    """The outermost application."""

    def __init__(self, app: ASGIApp, settings: Settings, measures: Measures):
        self._app, self._settings, self._measures = app, settings, measures
        self._hosts = _hosts(settings)
        self._cookie = ""
        if settings.token:
            self._cookie = hashlib.sha256(f"platonic-store {settings.token}".encode()).hexdigest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        began = time.monotonic()
        client.set(scope["client"][0] if scope.get("client") else "")
        body = _Body(receive, scope, self._settings.body_bytes)
        answer = _Answer(send, body)
        try:
            refusal = self._refusal(scope)
            if refusal is not None:
                await refusal(scope, receive, answer.send)
            else:
                # Whatever answers to GET answers to HEAD; uvicorn sends no body.
                asked = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
                await self._app(asked, body.receive, answer.send)
                scope = asked  # which knows its route
        except Exception as error:
            if answer.status:
                raise  # too late to say so: the connection ends
            known = isinstance(error, PlatonicError)
            response = problems.of(error) if known else problems.unexpected(error)  # type: ignore[arg-type]
            await response(scope, receive, answer.send)
        finally:
            seconds = time.monotonic() - began
            self._measures.answered(scope, answer.status, seconds)
            logger.info(
                '%s "%s %s" %d %d %.1f ms',
                client.get() or "-",
                scope["method"],
                _loggable(scope),
                answer.status,
                answer.nbytes,
                1000 * seconds,
            )

    def _refusal(self, scope: Scope) -> Response | None:
        """Why a request is not answered, or where it is sent."""
        headers = Headers(scope=scope)
        if not self._is_host(headers.get("host", "")):
            return problems.problem(
                400,
                f"the host {headers.get('host', '')[:100]!r} is not one of this service",
                hint="start it with `--allow-host NAME` for a name of its own",
            )
        if scope["method"] not in ("GET", "HEAD", "OPTIONS") and self._is_foreign(headers):
            return problems.problem(403, "a page of another site may not send anything here")
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > self._settings.body_bytes:
            return problems.of(_too_large(self._settings.body_bytes))
        return self._unauthorised(scope, headers)

    def _unauthorised(self, scope: Scope, headers: Headers) -> Response | None:
        token = self._settings.token
        if not token or scope["path"] in OPEN_PATHS or scope["method"] == "OPTIONS":
            return None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _same(given.strip(), token):
            return None
        if _same(_cookie(headers), self._cookie):
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if scope["method"] == "GET" and any(k == "token" and _same(v, token) for k, v in query):
            rest = urlencode([(key, value) for key, value in query if key != "token"])
            # Never `//host`, which would be another site.
            place = "/" + scope["raw_path"].decode("latin-1").lstrip("/")
            cookie = f"{COOKIE}={self._cookie}; Path=/; HttpOnly; SameSite=Lax; Max-Age=31536000"
            where = f"{place}?{rest}" if rest else place
            return Response(status_code=303, headers={"Location": where, "Set-Cookie": cookie})
        return problems.problem(
            401,
            "this service answers those who have its token",
            hint="send `Authorization: Bearer TOKEN`, or open the page once with `?token=TOKEN`",
            headers={"WWW-Authenticate": "Bearer"},
        )

    def _is_host(self, header: str) -> bool:
        """Whether a request was meant for this service: no other site's name leads here."""
        try:
            name = (urlsplit(f"//{header}").hostname or "").rstrip(".")
        except ValueError:
            return False
        if name in self._hosts:
            return True
        return not self._settings.is_local and _is_address(name)

    def _is_foreign(self, headers: Headers) -> bool:
        origin = headers.get("origin")
        if origin is None or origin in self._settings.cors:
            return headers.get("sec-fetch-site") in ("cross-site", "same-site") and origin is None
        return urlsplit(origin).netloc != headers.get("host")


class _Answer:
    """The way out: headers that every answer has, and large bodies in pieces."""

    def __init__(self, send: Send, request: "_Body"):
        self._send, self._request = send, request
        self.status = self.nbytes = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(raw=message["headers"])
            for name, value in SECURITY.items():
                headers.setdefault(name, value)
            if not self._request.is_read:
                headers["Connection"] = "close"  # or the rest would be read to be thrown away
            await self._send({**message, "headers": headers.raw})
            return
        body = memoryview(message.get("body", b""))
        self.nbytes += len(body)
        while len(body) > _SEND_BYTES:
            piece, body = body[:_SEND_BYTES], body[_SEND_BYTES:]
            await self._send({**message, "body": bytes(piece), "more_body": True})
            await asyncio.sleep(0)  # others' turn
        await self._send({**message, "body": bytes(body)})


class _Body:
    """The way in, which ends at a number of bytes."""

    def __init__(self, receive: Receive, scope: Scope, most: int):
        self._receive, self._most, self._nbytes = receive, most, 0
        headers = Headers(scope=scope)
        self.is_read = headers.get("content-length", "0") == "0"
        self.is_read = self.is_read and "transfer-encoding" not in headers

    async def receive(self) -> Message:
        message = await self._receive()
        self.is_read = self.is_read or not message.get("more_body", False)
        self._nbytes += len(message.get("body", b""))
        if self._nbytes > self._most:
            raise _too_large(self._most)
        return message


def _too_large(most: int) -> TooLarge:
    return TooLarge(f"a request has at most {most:,} bytes", "send one structure")


def _hosts(settings: Settings) -> set[str]:
    own = {*LOOPBACK, settings.host, *settings.hosts}
    if not settings.is_local:
        own |= {socket.gethostname(), socket.getfqdn()}
    return {name.lower() for name in own}


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _same(given: str, known: str) -> bool:
    return hmac.compare_digest(given.encode(), known.encode())


def _cookie(headers: Headers) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


def _loggable(scope: Scope) -> str:
    """The address without the token, and without what would forge a line of the log."""
    query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    shown = urlencode([(key, "…" if key == "token" else value) for key, value in query])
    path = scope["path"].encode("unicode_escape").decode("ascii")
    return f"{path}?{shown}" if shown else path
