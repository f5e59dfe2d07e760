"""One writer a store: a lease in the store itself, which its holder renews and releases.

`lease/00000007.json` says who holds it; the highest number counts. Taking the next number is an
atomic `create`, so that of several takers one alone gets it.
"""

import json
import os
import socket
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self
from uuid import getnode, uuid4

from platonic_store.errors import LeaseLost, PlatonicError, StoreBusy
from platonic_store.storage.location import Location

# Seconds after which a lease that is not renewed has lapsed.
TTL: Final = 60.0
_CLOCK: Final = "lease/clock"


class Lease:
    """The right to write a store, kept by a thread that renews it every third of its `ttl`.

    As a context manager it is released at the end.
    """

    def __init__(self, location: Location, number: int, ttl: float):
        self.location, self.number, self.ttl = location, number, ttl
        self._holder = {
            "number": number,
            "holder": uuid4().hex,
            "host": socket.gethostname(),
            "machine": _machine(),
            "pid": os.getpid(),
            "started": _started(os.getpid()),
            "since": _now().isoformat(),
            "ttl": ttl,
        }
        self._ended = threading.Event()
        self._writing = threading.Lock()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    @property
    def holder(self) -> str:
        """Names this lease and no other."""
        return str(self._holder["holder"])

    def _content(self, released: bool = False) -> bytes:
        now = _now()
        expires = now + timedelta(seconds=self.ttl)
        state = {"renewed_at": now.isoformat(), "expires_at": expires.isoformat()}
        return json.dumps({**self._holder, **state, "released": released}).encode()

    def _begin(self) -> bool:
        """Create the lease, and keep it, if nobody else did."""
        if not self.location.create(_key(self.number), self._content()):
            return False
        leases = _leases(self.location)
        if max(leases, default=0) != self.number:
            return False  # of the past: others came, and removed the lease that had this number
        self.location.delete(_key(number) for number in leases if number < self.number - 1)
        self._thread.start()
        return True

    @property
    def key(self) -> str:
        """The file that it is."""
        return _key(self.number)

    def renew(self) -> None:
        """Say that the holder is still there. Raises: LeaseLost."""
        self.require()
        with self._writing:
            if not self._ended.is_set():
                self.location.write(_key(self.number), self._content())

    def _keep(self) -> None:
        while not self._ended.wait(self.ttl / 3):
            try:
                self.renew()
            except LeaseLost:
                return
            except (PlatonicError, OSError):  # the next renewal is soon
                continue

    def require(self) -> None:
        """Do nothing as long as nobody else has taken the store over.

        Raises: LeaseLost, StoreUnreachable.
        """
        newest = max(_leases(self.location), default=0)
        if newest != self.number:
            who = _who(_read(self.location, newest))
            raise LeaseLost(
                f"{who} took over the writing of {self.location.uri}",
                "do the same again when it is done; nothing that was published is lost",
            )

    def release(self) -> None:
        """Let the next writer in at once; a second call does nothing.

        A successor is not disturbed. Where the store does not answer, the lease is left to lapse.
        """
        if self._ended.is_set():
            return
        self._ended.set()
        self._thread.join()
        with suppress(PlatonicError, OSError), self._writing:
            self.require()
            self.location.write(_key(self.number), self._content(released=True))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def take(location: Location, ttl: float = TTL) -> Lease:
    """Become the one writer of a store.

    A lease that somebody else holds has lapsed

    - when it was released,
    - when its holder ran on this machine and is no more,
    - when it was not renewed for its `ttl` in seconds. Clocks of two machines may be minutes
      apart, so no time that a machine wrote is compared with another's: the file of the lease and
      a file that is written now both carry the time of the store's own clock.

    Raises: StoreBusy, with who holds the lease; StoreUnreachable, StoreNotWritable.
    """
    while True:
        newest = max(_leases(location), default=0)
        if newest:
            _require_lapsed(location, newest, ttl)
        lease = Lease(location, newest + 1, ttl)
        if lease._begin():
            return lease


def _require_lapsed(location: Location, number: int, ttl: float) -> None:
    """Raises: StoreBusy."""
    holder = _read(location, number)
    if holder.get("released") or _is_dead(holder):
        return
    location.write(_CLOCK, b"")
    files = {entry.key: entry.modified for entry in location.names("lease")}
    if _key(number) not in files:  # two others took it since
        return
    age = (files[_CLOCK] - files[_key(number)]).total_seconds()
    left = holder.get("ttl", ttl) - age
    if left >= 0:
        raise StoreBusy(
            f"{_who(holder)} is writing to {location.uri} since {holder.get('since')}; "
            f"its lease lapses in {left:.0f} s unless it is renewed",
            "do the same again when it is done",
        )


def _leases(location: Location) -> list[int]:
    names = (Path(entry.key) for entry in location.names("lease"))
    return [int(path.stem) for path in names if path.suffix == ".json" and path.stem.isdigit()]


def _key(number: int) -> str:
    return f"lease/{number:08}.json"


def _read(location: Location, number: int) -> dict[str, Any]:
    """Who holds a lease; nothing of one that is gone, or was never written as a whole."""
    try:
        holder = json.loads(location.read(_key(number)))
    except (FileNotFoundError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _who(holder: dict[str, Any]) -> str:
    return f"process {holder.get('pid', '?')} on {holder.get('host', 'an unknown host')}"


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _machine() -> str:
    """What tells machines apart, and containers on one machine: a pid means nothing elsewhere."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()}/{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # macOS
        return f"{socket.gethostname()}/{getnode():x}"


def _started(pid: int) -> str | None:
    """When a process started, in ticks since boot; "" of a zombie, None where that is unknown."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return "" if fields[0] == "Z" else fields[19]


def _is_dead(holder: dict[str, Any]) -> bool:
    """Whether the holder ran on this machine, and does not any more."""
    if holder.get("machine") != _machine():
        return False
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return True
    except OSError:  # another user's
        pass
    return _started(holder["pid"]) not in (None, holder["started"])
