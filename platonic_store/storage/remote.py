"""The files of a store in an object store, or on a web server that serves them for reading."""

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any, Final, TypeVar, cast
from uuid import uuid4

from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import HTTPStore, ObjectStore, from_url

from platonic_store.errors import (
    InvalidQuery,
    PlatonicError,
    StoreNotFound,
    StoreNotWritable,
    StoreUnreachable,
)
from platonic_store.storage.disk import refusals
from platonic_store.storage.location import Entry, Location, completed

T = TypeVar("T")

# After so many seconds of failures an operation gives up.
PATIENCE: Final = 30
# A connection on which nothing moves is dropped after `read_timeout`; whole files may take long.
_CLIENT: Final = {"connect_timeout": "5s", "read_timeout": "30s", "timeout": "1day"}
# Options of the HTTP client, which obstore takes apart from those of the store.
_CLIENT_NAMES: Final = re.compile(
    "allow_(http|invalid_certificates)|(connect_|read_)?timeout|http[12]_.*|pool_.*|proxy_.*"
    "|randomize_addresses|root_certificate|user_agent"
)
_STATUS: Final = re.compile(r"status code: (\d{3}[ A-Za-z]*)")
_CODE: Final = re.compile(r"<Code>(\w+)</Code>")
_NO_BUCKET: Final = re.compile("NoSuchBucket|ContainerNotFound|bucket does not exist")
# What Lance says of an object store that failed it, and not of a damaged file.
_OF_LANCE: Final = re.compile(
    r"LanceError.*(Generic \w+ error|error sending request|necessary privileges)", re.DOTALL
)
_NO_CREDENTIALS: Final = re.compile("/latest/api/token|token request|redential")
_CHUNK: Final = 8 << 20
_CREDENTIALS: Final = "check the credentials in the environment"


class Remote(Location):
    """An object store, or with http(s):// a folder on a web server, which cannot be listed."""

    def __init__(self, uri: str, options: Mapping[str, str]):
        self.uri = uri
        self.writable = not uri.startswith("http")
        # By default Lance asks again three times, which is two seconds.
        patience = {"client_retry_timeout": str(PATIENCE), "client_max_retries": "10"}
        self.lance_options = {**patience, **options}
        self._options = dict(options)
        self._store = self._open(options)

    def __reduce__(self) -> tuple[type, tuple[str, dict[str, str]]]:
        # Elsewhere what was not given comes from the environment there.
        return type(self), (self.uri, self._options)

    def _open(self, options: Mapping[str, str]) -> ObjectStore:
        client: dict[str, Any] = dict(_CLIENT)
        config = {}
        for name, value in options.items():
            plain = name.lower().removeprefix("aws_")
            if _CLIENT_NAMES.fullmatch(plain):
                client[plain] = value
            else:
                config[name] = value
        # obstore forgets the variable where it is given any option of the client.
        is_http = self.uri.startswith("http:") or os.environ.get("AWS_ALLOW_HTTP")
        client.setdefault("allow_http", is_http or "false")
        shared: Any = {
            "client_options": client,
            "retry_config": {
                "backoff": {"max_backoff": timedelta(seconds=5)},
                "retry_timeout": timedelta(seconds=PATIENCE),
            },
        }
        try:
            if not self.writable:
                return HTTPStore.from_url(self.uri, **shared)
            return from_url(self.uri, config=cast(Any, config), **shared)
        except (BaseError, ValueError) as error:
            reason = str(error).splitlines()[0]
            for value in filter(None, options.values()):
                reason = reason.replace(value, "…")
            raise InvalidQuery(f"cannot use {self.uri}: {reason}") from None

    def read(self, key: str) -> bytes:
        return self._ask(key, lambda: bytes(self._store.get(key).bytes()))

    def create(self, key: str, data: bytes) -> bool:
        def attempt() -> bool:
            try:
                self._store.put(key, data, mode="create")
            except AlreadyExistsError:
                return self._is(key, data)
            return True

        return self._change(key, attempt)

    def _is(self, key: str, data: bytes) -> bool:
        """Whether a file that is in the way of `create` holds these bytes."""
        try:
            return bytes(self._store.get(key).bytes()) == data
        except FileNotFoundError:
            # S3 refuses the second of two at the same moment before the first one is done.
            raise ConnectionError(f"{key} is being written") from None

    def write(self, key: str, data: bytes) -> None:
        self._change(key, lambda: self._store.put(key, data))

    def upload(self, key: str, path: Path) -> None:
        path.stat()  # so that FileNotFoundError below is the bucket's
        self._change(key, lambda: self._store.put(key, path, chunk_size=_CHUNK, max_concurrency=3))

    def download(self, key: str, path: Path) -> None:
        with refusals(path), completed(path) as partial:
            self._ask(key, lambda: self._fetch(key, partial))

    def _fetch(self, key: str, path: Path) -> None:
        with path.open("wb") as file:
            for chunk in self._store.get(key).stream(min_chunk_size=_CHUNK):
                file.write(chunk)

    def names(self, prefix: str) -> list[Entry]:
        if not self.writable:
            raise self._read_only("listed")
        found = self._ask(
            prefix,
            lambda: [item for page in self._store.list(prefix, chunk_size=1000) for item in page],
        )
        return sorted(Entry(item["path"], item["size"], item["last_modified"]) for item in found)

    def exists(self, key: str) -> bool:
        try:
            self._ask(key, lambda: self._store.head(key))
        except FileNotFoundError:
            return False
        return True

    def delete(self, keys: Iterable[str]) -> None:
        if keys := list(keys):
            self._change(keys[0], lambda: self._delete(keys))

    def _delete(self, keys: list[str]) -> None:
        try:
            self._store.delete(keys)
        except FileNotFoundError:  # of some stores, where one of them does not exist
            for key in keys:
                with suppress(FileNotFoundError):
                    self._store.delete(key)

    def require_conditional_create(self) -> None:
        probe = f"partial/{uuid4().hex}"
        try:
            is_overwritten = self.create(probe, b"first") and self.create(probe, b"second")
        finally:
            self.delete([probe])
        if is_overwritten:
            raise StoreNotWritable(
                f"{self.uri} ignores If-None-Match: two writers would overwrite each other",
                "keep the store on a disk or in an object store with conditional PUT",
            )

    @contextmanager
    def explained(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:
            if isinstance(error, PlatonicError) or not _OF_LANCE.search(str(error)):
                raise
            raise self._explained(error) from None

    def lance_uri(self, name: str) -> str:
        if not self.writable:
            raise self._read_only("opened by Lance")
        return super().lance_uri(name)

    def _read_only(self, done: str) -> StoreNotWritable:
        return StoreNotWritable(f"{self.uri} is a web server: it cannot be {done}")

    def _change(self, key: str, call: Callable[[], T]) -> T:
        """`_ask`, for what changes the store."""
        if not self.writable:
            raise self._read_only("written")
        try:
            return self._ask(key, call)
        except FileNotFoundError:
            raise self._no_bucket() from None

    def _ask(self, key: str, call: Callable[[], T]) -> T:
        """The result of `call`, made again where no answer came and obstore did not ask again.

        Raises: FileNotFoundError, StoreNotFound, StoreNotWritable, StoreUnreachable.
        """
        last = time.monotonic() + PATIENCE
        for attempt in count(1):
            try:
                return call()
            except FileNotFoundError as error:
                if _NO_BUCKET.search(str(error)):
                    raise self._no_bucket() from None
                raise FileNotFoundError(f"no {key} in {self.uri}") from None
            except (BaseError, ConnectionError) as error:
                if _is_final(error) or (attempt > 1 and time.monotonic() > last):
                    raise self._explained(error) from None
            time.sleep(0.5)
        raise AssertionError("unreachable")

    def _no_bucket(self) -> StoreNotFound:
        return StoreNotFound(f"there is no bucket or container for {self.uri}")

    def _explained(self, error: Exception) -> PlatonicError:
        """An error in one line, of which the URL and the rest are left out: credentials may be
        in them."""
        text = str(error)
        if _NO_BUCKET.search(text):
            return self._no_bucket()
        found = [pattern.search(text) for pattern in (_STATUS, _CODE)]
        reason = " ".join(match[1] for match in found if match)
        is_denied = isinstance(error, PermissionDeniedError | UnauthenticatedError)
        if is_denied or reason.startswith(("401", "403")):
            return StoreUnreachable(f"{self.uri} refuses: {reason}", _CREDENTIALS)
        if _NO_CREDENTIALS.search(text):
            return StoreUnreachable(f"there are no credentials for {self.uri}", _CREDENTIALS)
        if reason.startswith("501"):
            return StoreNotWritable(f"{self.uri} cannot do what a writer needs: {reason}")
        return StoreUnreachable(f"{self.uri} does not answer" + (reason and f": {reason}"))


def _is_final(error: Exception) -> bool:
    """Whether the store answered, or obstore has asked again itself."""
    text = str(error)
    return bool(_STATUS.search(text) or re.search(r"after \d+ retries", text))
