"""A service under load, on this machine alone: `service.py STORE [--seconds 30] [--clients 64]`

`platonic-store serve STORE` answers `similar` of random structures to so many clients: once at
their full speed, once as people ask who look at an answer for a second. Then comes a flood: 1,000
connections that say nothing, read nothing, send 5 MB or ask for what takes for ever, while the
health check is asked five times a second. Fails where a client has an error, or where the health
check takes longer than a second.
"""

import argparse
import asyncio
import json
import random
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager, suppress
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import psutil
from rich.console import Console
from rich.table import Table

from platonic_store.store import Store

HOST, PORT = "127.0.0.1", 28_481
FLOOD = 1_000  # connections
BODY = 5_000_000  # bytes
SLOW = "SELECT count(*) FROM range(1000000000) a, range(1000) b WHERE a.range + b.range != {}"
WIDE = "/api/neighbours?k=20&limit=10000"
console = Console()


class Answer(NamedTuple):
    """One request as its client saw it; status 0: the connection was ended."""

    status: int
    seconds: float


async def request(path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Answer:
    """One GET on a connection that stays."""
    began = time.perf_counter()
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head[9:12])
    length = next(
        (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-len")),
        0,
    )
    await reader.readexactly(length)
    return Answer(status, time.perf_counter() - began)


async def client(paths: Callable[[], str], pause: float, end: float, found: list[Answer]) -> None:
    """Asks one thing after the other, on one connection."""
    await asyncio.sleep(random.uniform(0, pause))
    reader, writer = await asyncio.open_connection(HOST, PORT)
    while time.perf_counter() < end:
        found.append(await request(paths(), reader, writer))
        await asyncio.sleep(pause)
    writer.close()


async def load(
    clients: int, paths: Callable[[], str], pause: float, seconds: float
) -> list[Answer]:
    found: list[Answer] = []
    end = time.perf_counter() + seconds
    await asyncio.gather(*(client(paths, pause, end, found) for _ in range(clients)))
    return found


async def silent() -> None:
    """Connects and says nothing."""
    reader, writer = await asyncio.open_connection(HOST, PORT)
    with suppress(OSError):
        await reader.read(1)
    writer.close()


async def unread() -> None:
    """Asks for a long answer and does not read it."""
    _, writer = await asyncio.open_connection(HOST, PORT, limit=1)
    writer.write(f"GET {WIDE} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    await asyncio.sleep(30)
    writer.close()


async def heavy() -> None:
    """Sends 5 MB, its length said or not."""
    reader, writer = await asyncio.open_connection(HOST, PORT)
    said = random.random() < 0.5
    kind = f"Content-Length: {BODY}" if said else "Transfer-Encoding: chunked"
    writer.write(f"POST /api/uploads HTTP/1.1\r\nHost: {HOST}\r\n{kind}\r\n\r\n".encode())
    piece = b"x" * 50_000
    for _ in range(BODY // len(piece)):
        writer.write(piece if said else b"%x\r\n%s\r\n" % (len(piece), piece))
        await writer.drain()
    await reader.read(1_000)
    writer.close()


async def endless() -> None:
    """Asks for what takes for ever."""
    reader, writer = await asyncio.open_connection(HOST, PORT)
    query = quote(SLOW.format(random.randrange(10**9)))
    await request(f"/api/sql?q={query}", reader, writer)
    writer.close()


async def repeated(what: Callable[[], Awaitable[None]], end: float, counts: Counter[str]) -> None:
    while time.perf_counter() < end:
        try:
            async with asyncio.timeout(max(0.1, end - time.perf_counter())):
                await what()
            counts["done"] += 1
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            counts[type(error).__name__] += 1
            await asyncio.sleep(0.1)


async def health(seconds: float) -> list[Answer]:
    """A health check on a new connection, five times a second."""
    found = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        try:
            async with asyncio.timeout(10):
                reader, writer = await asyncio.open_connection(HOST, PORT)
                answer = await request("/healthz", reader, writer)
                writer.close()
            found.append(Answer(answer.status, time.perf_counter() - began))
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            found.append(Answer(0, time.perf_counter() - began))
        await asyncio.sleep(0.2)
    return found


async def flooding(seconds: float) -> Counter[str]:
    kinds: list[Callable[[], Awaitable[None]]] = [silent, unread, heavy, endless]
    counts: Counter[str] = Counter()
    end = time.perf_counter() + seconds
    await asyncio.gather(
        *(repeated(kinds[i % len(kinds)], end, counts) for i in range(FLOOD)),
        return_exceptions=True,
    )
    return counts


def flood(seconds: float) -> Counter[str]:
    """In a process of its own, so that the health checks' client is not what is slow."""
    return asyncio.run(flooding(seconds))


@asynccontextmanager
async def served(store: Path, *options: str) -> AsyncIterator[psutil.Process]:
    """`platonic-store serve` while the block runs."""
    command = [str(Path(sys.executable).with_name("platonic-store")), "--quiet", "serve"]
    command += [str(store), "--port", str(PORT), "--no-models", *options]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            if (await health(0.01))[0].status == 200:
                break
            await asyncio.sleep(0.1)
        yield psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def row(table: Table, name: str, answers: list[Answer], seconds: float) -> None:
    times = sorted(1000 * answer.seconds for answer in answers if answer.status)
    counts = Counter(answer.status for answer in answers)
    quantiles = statistics.quantiles(times, n=100) if len(times) > 1 else [0.0] * 99
    table.add_row(
        name,
        f"{len(answers) / seconds:,.0f}",
        f"{quantiles[49]:.1f}",
        f"{quantiles[98]:.1f}",
        f"{max(times, default=0):.1f}",
        " ".join(f"{status}: {count}" for status, count in sorted(counts.items())),
    )


def table_of(title: str) -> Table:
    table = Table(title=title)
    for name in ("", "a second", "p50 ms", "p99 ms", "max ms", "status: count"):
        table.add_column(name, justify="left" if name in ("", "status: count") else "right")
    return table


async def main(store: Path, clients: int, seconds: float, flood_seconds: float) -> int:
    ids = Store.open(store).sql("SELECT structure_id FROM structure")["structure_id"].tolist()
    paths = [f"/api/similar?query={quote(id_, safe='')}" for id_ in ids]

    def any_path() -> str:
        return random.choice(paths)

    table = table_of(f"{clients} clients at `similar` over {len(ids):,} structures")
    async with served(store) as process:
        await load(4, any_path, 0, 2)
        before = process.memory_info().rss
        looking = await load(clients, any_path, 1.0, seconds)
        row(table, "who look for a second", looking, seconds)
        hot = await load(clients, lambda: paths[hash(random.random()) % 50], 0, seconds / 2)
        row(table, "at full speed, 50 structures", hot, seconds / 2)
        full = await load(clients, any_path, 0, seconds)
        row(table, "at full speed, all structures", full, seconds)
        after = process.memory_info().rss
    console.print(table)
    console.print(f"memory {before / 1e6:,.0f} → {after / 1e6:,.0f} MB")
    table = table_of(f"health checks, and a flood of {FLOOD:,} connections")
    async with served(store, "--sql") as process:
        await load(2, any_path, 0, 1)
        row(table, "before", await health(3), 3)
        with ProcessPoolExecutor(1, get_context("spawn")) as flooder:
            wave = asyncio.wrap_future(flooder.submit(flood, flood_seconds))
            await asyncio.sleep(3)
            during = await health(flood_seconds - 3)
            counts = await wave
        row(table, "during", during, flood_seconds - 3)
        most = process.memory_info().rss
        row(table, "after", await health(3), 3)
        row(table, "`similar` after", await load(4, any_path, 0, 3), 3)
    console.print(table)
    console.print(f"the flood saw {json.dumps(counts)}; memory {most / 1e6:,.0f} MB")
    failed = [answer for answer in [*looking, *hot, *full] if answer.status != 200]
    late = [answer for answer in during if answer.status != 200 or answer.seconds > 1]
    console.print(f"{len(failed)} errors, {len(late)} late health checks of {len(during)}")
    return 1 if failed or late else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--flood-seconds", type=float, default=20)
    parser.add_argument("--clients", type=int, default=64)
    given = parser.parse_args()
    sys.exit(asyncio.run(main(given.store, given.clients, given.seconds, given.flood_seconds)))
