"""A `Store` whose questions a service answers: `Store.open("http://host:8480")`.

The same methods give the same frames. Structures that are not in the store are sent to the service,
which embeds them. It is read-only, and hands out no files, vectors or snapshots.
"""

import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, ParamSpec, TypeVar, cast

import pyarrow as pa

from platonic_store import errors
from platonic_store.errors import (
    InvalidQuery,
    PlatonicError,
    StoreNotWritable,
    StoreUnreachable,
    StructureNotFound,
    UnreadableSource,
)
from platonic_store.questions.shared.declaration import Parameter, Question
from platonic_store.store import Store

if TYPE_CHECKING:
    import requests

    from platonic_store.explorer.notebook import Shown
    from platonic_store.storage.location import Location
    from platonic_store.storage.snapshot import Snapshot

P = ParamSpec("P")
R = TypeVar("R")

TOKEN: Final = "PLATONIC_STORE_TOKEN"
_SNAPSHOT: Final = "Platonic-Snapshot"  # a header of every answer of a service
_PROBLEM: Final = "application/problem+json"
_ERROR: Final = "urn:platonic-store:error:"
_ROWS: Final = 2_000  # of an answer at a time: a service limits the bytes of a page
# Seconds to connect, and to wait for what comes then.
_LOOK: Final = (5, 30)
_ANSWER: Final = (5, 120)


def at_service(
    location: "Location", options: Mapping[str, str] | None, at: int | None
) -> "ServiceStore | None":
    """The store of the service at a place, or None if another server is there.

    Raises: StoreUnreachable if the service wants a token, InvalidQuery for an earlier snapshot.
    """
    found = ServiceStore(location)
    if not found.is_service((options or {}).get("token") or os.environ.get(TOKEN)):
        return None
    if at is not None:
        raise InvalidQuery(
            f"{location.uri} is a service, which answers of the snapshot that it serves",
            "start one at that snapshot",
        )
    return found


class ServiceStore(Store):
    """A store behind a service."""

    def __init__(self, location: "Location"):
        import requests

        super().__init__(location)
        self._session = requests.Session()

    def is_service(self, token: str | None) -> bool:
        """Whether a service answers here.

        token: for a service that asks for one; no other server is told.

        Raises: StoreUnreachable if it refuses the token.
        """
        try:
            response = self._request("GET", "/api/store", timeout=_LOOK)
            if token and _wants_token(response):
                self._session.headers["Authorization"] = f"Bearer {token}"
                response = self._request("GET", "/api/store", timeout=_LOOK)
        except StoreUnreachable:
            return False
        if _wants_token(response):
            raise _error(response)
        return _SNAPSHOT in response.headers

    def snapshot(self) -> "Snapshot":
        """Raises: InvalidQuery: a service hands out none."""
        self._refuse("no snapshot")

    def answer(self, question: Question[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """The answer of a declared question, as of a store on this machine.

        Raises: what the question raises, StoreUnreachable, ServiceBusy, OutOfTime.
        """
        given: dict[str, Any] = question.signature.bind(*args, **kwargs).arguments
        for parameter in question.parameters:
            parameter.check(given.get(parameter.name))
        structures = [one for one in question.parameters if one.is_structure]
        try:
            table = self._table(f"/api/{question.name}", self._sent(given, structures))
        except StructureNotFound:
            files = _files(given, structures)
            if not files:
                raise
            table = self._table(f"/api/{question.name}", self._sent(given | files, structures))
        if question.is_value:
            return cast(R, _value(table))
        frame: Any = table.to_pandas()
        frame.attrs["snapshot"] = int(table.schema.metadata[b"snapshot"])
        return cast(R, frame)

    def answer_in_parts(
        self, question: Question[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> Iterator[pa.Table]:
        """The answer of a declared question as one Arrow table. Raises: as `answer`."""
        answer: Any = self.answer(question, *args, **kwargs)
        known = {} if question.is_value else {"snapshot": str(answer.attrs["snapshot"])}
        yield question.table(answer).replace_schema_metadata(known)

    def sql_arrow(
        self,
        query: str,
        *,
        variables: Mapping[str, object] | None = None,
        allow_files: bool = False,
    ) -> pa.Table:
        """As `Store.sql_arrow`. Raises: NotAllowed where the service answers no SQL."""
        if allow_files:
            self._refuse("no files")
        pairs = [f"{name}={value}" for name, value in (variables or {}).items()]
        table = self._table("/api/sql", {"q": query, "set": pairs})
        return table.replace_schema_metadata(None)

    def init_sql(self) -> str:
        """Raises: InvalidQuery: a service hands out no files."""
        self._refuse("no files")

    def explore(self) -> "Shown":
        """Show the explorer that the service serves, in a notebook or in the browser."""
        from platonic_store.explorer.notebook import Shown, show

        return show(Shown(self.location.uri))

    def _repr_html_(self) -> str:
        about = self._checked(self._get("/api/store")).json()
        names = ", ".join(one["name"] for one in about["models"])
        return (
            f"<p>platonic-store at <code>{self.location.uri}</code>: {about['structures']:,} "
            f"structures, {about['atoms']:,} atoms, snapshot {about['snapshot']}; {names}</p>"
        )

    def _require_writable(self) -> None:
        raise StoreNotWritable(
            f"{self.location.uri} is a service, which can only be read",
            "open the store that it serves",
        )

    def _refuse(self, what: str) -> NoReturn:
        raise InvalidQuery(
            f"{self.location.uri} is a service, which answers questions and hands out {what}",
            "open the store that it serves",
        )

    # Over HTTP

    def _table(self, path: str, parameters: Mapping[str, Any]) -> pa.Table:
        """All pages of an answer."""
        return pa.concat_tables(list(self._pages(path, parameters)))

    def _pages(self, path: str, parameters: Mapping[str, Any]) -> Iterator[pa.Table]:
        given: Mapping[str, Any] | None = {**parameters, "limit": _ROWS}
        following: str | None = f"{path}.arrow"
        while following is not None:
            body = self._checked(self._get(following, given)).content
            page = pa.ipc.open_stream(io.BytesIO(body)).read_all()
            yield page
            # The address of the next page has the parameters in it.
            following, given = (page.schema.metadata or {}).get(b"next", b"").decode() or None, None

    def _get(self, path: str, parameters: Mapping[str, Any] | None = None) -> "requests.Response":
        return self._request("GET", path, params=parameters)

    def _request(
        self, method: str, path: str, *, timeout: tuple[int, int] = _ANSWER, **more: Any
    ) -> "requests.Response":
        import requests

        url = f"{self.location.uri}{path}"
        try:
            return self._session.request(method, url, timeout=timeout, **more)
        except requests.exceptions.RequestException as error:
            reason = type(error).__name__
            raise StoreUnreachable(
                f"{self.location.uri} does not answer ({reason})",
                "look whether the service runs there, and which port it names",
            ) from None

    def _checked(self, response: "requests.Response") -> "requests.Response":
        if response.ok:
            return response
        raise _error(response)

    def _sent(self, given: Mapping[str, Any], structures: list[Parameter]) -> dict[str, Any]:
        """The arguments as those of a request; structures that have no id are sent before."""
        named = {one.name: one for one in structures}
        sent = {}
        for name, value in given.items():
            if name in named and not isinstance(value, str) and value is not None:
                value = self._upload(value, named[name].are_structures)
            if isinstance(value, bool):
                value = str(value).lower()
            if value is not None:
                sent[name] = list(value) if isinstance(value, tuple) else value
        return sent

    def _upload(self, structure: Any, are_many: bool) -> str:
        """The id under which the service keeps a structure, or several, for a while."""
        if are_many and isinstance(structure, list | tuple):
            if all(isinstance(one, str) for one in structure):
                return ",".join(structure)
            name, body = (
                "structures.json",
                json.dumps([_document(one) for one in structure]).encode(),
            )
        elif isinstance(structure, Path):
            name, body = structure.name, _read(structure)
        else:
            name, body = "structure.json", json.dumps(_document(structure)).encode()
        path = "/api/batches" if are_many else "/api/uploads"
        response = self._request("POST", path, params={"name": name}, data=body)
        id_: str = self._checked(response).json()["id"]
        return id_


def _files(given: Mapping[str, Any], structures: list[Parameter]) -> dict[str, Path]:
    """The arguments that name files of this machine."""
    named = {one.name: given.get(one.name) for one in structures}
    paths = {name: Path(text) for name, text in named.items() if isinstance(text, str)}
    return {name: path for name, path in paths.items() if path.is_file()}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadableSource(f"{path}: {error.strerror}") from None


def _document(structure: Any) -> dict[str, Any]:
    """A structure object as pymatgen's JSON. Raises: UnreadableSource, InvalidQuery."""
    import numpy as np

    from platonic_store.structures.objects import convert

    if isinstance(structure, np.ndarray):
        raise InvalidQuery("a service is asked for structures, not for vectors")
    try:
        crystal = convert(structure)
    except (TypeError, ValueError) as error:
        raise UnreadableSource(str(error)) from None
    from pymatgen.core import Lattice, Structure

    lattice = Lattice(crystal.cell, pbc=tuple(crystal.pbc.tolist()))
    made = Structure(
        lattice, crystal.numbers.tolist(), crystal.positions, coords_are_cartesian=True
    )
    document: dict[str, Any] = made.as_dict()
    return document


def _value(table: pa.Table) -> Any:
    """The one value of an answer; a list as an array of its type."""
    (column,) = table.columns
    if not pa.types.is_list(column.type):
        return column[0].as_py()
    return column.combine_chunks().flatten().to_numpy()


def _is_problem(response: "requests.Response") -> bool:
    return response.headers.get("content-type", "").startswith(_PROBLEM)


def _wants_token(response: "requests.Response") -> bool:
    return response.status_code == 401 and _is_problem(response)


def _error(response: "requests.Response") -> PlatonicError:
    """The error that a service's problem+json stands for."""
    if not _is_problem(response):
        return StoreUnreachable(f"{response.url} answers {response.status_code} {response.reason}")
    problem = response.json()
    hint = [problem["hint"]] if problem.get("hint") else []
    if response.status_code == 401:
        hint = [f"give the token in the environment, as {TOKEN}"]
    kind = getattr(errors, str(problem["type"]).removeprefix(_ERROR), None)
    if not (isinstance(kind, type) and issubclass(kind, PlatonicError)):
        kind = InvalidQuery if response.status_code == 422 else StoreUnreachable
    return kind(problem["detail"], *hint)
