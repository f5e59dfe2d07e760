"""The explorer in Chromium, on this machine alone: `explorer.py STORE [--atoms 283000 3000000]`

The page of a real store, cold: when its maps are drawn and when all can be used. Then clicks: from
one to the crystal and both lists of neighbours. Then maps of made-up atoms, as many as asked,
in the place of the store's own: when they are drawn, and the time between frames while they are
panned and zoomed. Without a graphics card SwiftShader draws, which is slow: the table says so.
"""

import argparse
import gzip
import json
import random
import shutil
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import uvicorn
from playwright.sync_api import Page, sync_playwright
from rich.console import Console
from rich.table import Table
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from platonic_store.service.app import create_app
from platonic_store.service.settings import Settings
from platonic_store.store import Store

CLICKS = 40
SOFTWARE = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
READY = "document.documentElement?.dataset.ready === 'true'"
# The time between frames while the map is dragged and zoomed, in ms.
FRAMES = """async () => {
    const canvas = document.querySelector('.map.a canvas');
    const box = canvas.getBoundingClientRect();
    const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
    const send = (type, dx, more = {}) => canvas.dispatchEvent(new (type === 'wheel' ? WheelEvent
        : MouseEvent)(type, { bubbles: true, clientX: x + dx, clientY: y, buttons: 1, ...more }));
    const times = [];
    let last = performance.now();
    send('mousedown', 0);
    for (let i = 0; i < 60; i += 1) {
        if (i < 30) send('mousemove', i * 2); else send('wheel', 0, { deltaY: i < 45 ? -40 : 40 });
        await new Promise(requestAnimationFrame);
        const now = performance.now();
        times.push(now - last);
        last = now;
    }
    send('mouseup', 0);
    return times;
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("--atoms", type=int, nargs="*", default=[283_000, 3_000_000])
    arguments = parser.parse_args()
    store = Store.open(arguments.store)
    table = Table("what", "value", title="the explorer")
    app = WithAnswers(create_app(store, Settings(models=())))
    with serving(app) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=SOFTWARE
        )
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.on("pageerror", lambda error: print(error))
        for row in [*opened(page, url, "/"), *clicks(page, url, store)]:
            table.add_row(*row)
        page.close()
        for atoms in arguments.atoms:
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            app.answers = made_up(atoms)
            for what, value in opened(page, url, "/?level=atom"):
                table.add_row(f"{atoms:,} made-up atoms: {what}", value)
            times = page.evaluate(FRAMES)
            table.add_row(
                f"{atoms:,} made-up atoms: time between frames, median and p95",
                f"{statistics.median(times):.0f} ms, {np.percentile(times, 95):.0f} ms",
            )
            page.close()
        browser.close()
    Console().print(table)


class WithAnswers:
    """The service, but for what is answered in its place: gzipped, by the name below /explore/."""

    def __init__(self, app: ASGIApp):
        self._app = app
        self.answers: dict[str, bytes] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope.get("path", "").removeprefix("/explore/")
        if name == "map" and b"%402" in scope["query_string"]:
            name = "other map"
        app = self._app
        if name in self.answers:
            app = Response(self.answers[name], headers={"Content-Encoding": "gzip"})
        await app(scope, receive, send)


@contextmanager
def serving(app: ASGIApp) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def opened(page: Page, url: str, path: str) -> Iterator[tuple[str, str]]:
    """When the maps of a view are drawn, and when everything can be used."""
    page.goto(url + path, wait_until="commit")
    until(page, READY, 120)
    drawn = page.evaluate("performance.getEntriesByName('maps drawn')[0].startTime")
    ready = page.evaluate("performance.getEntriesByName('ready')[0].startTime")
    yield "maps drawn after", f"{drawn / 1000:.2f} s"
    yield "everything can be used after", f"{ready / 1000:.2f} s"


def clicks(page: Page, url: str, store: Store) -> Iterator[tuple[str, str]]:
    """From a click on a structure to its crystal and both lists."""
    ids = store.sql("SELECT DISTINCT structure_id FROM typicality")["structure_id"].tolist()
    times = []
    for id_ in random.Random(0).sample(ids, CLICKS):
        times.append(page.evaluate(_GO, id_))
    yield (
        f"click to crystal and both lists, p50 and p95 of {CLICKS}",
        f"{np.percentile(times, 50):.0f} ms, {np.percentile(times, 95):.0f} ms",
    )


_GO = """async (id) => {
    const { go } = await import('/static/state.js');
    const begun = performance.now();
    performance.clearMarks('crystal shown');
    go({ id, site: null, level: 'structure' });
    while (!performance.getEntriesByName('crystal shown').length) {
        await new Promise((resolve) => setTimeout(resolve, 2));
    }
    return performance.now() - begun;
}"""


def made_up(count: int) -> dict[str, bytes]:
    """What the maps are drawn from: so many atoms, in clusters."""
    rng = np.random.default_rng(0)
    centres = rng.uniform(-0.9, 0.9, (200, 2))
    which = rng.integers(0, 200, count)
    xy = (centres[which] + rng.normal(0, 0.03, (count, 2))).clip(-1.4, 1.4)

    def places(shift: float) -> bytes:
        steps = np.rint((xy + shift + 1.5) * 65_534 / 3).clip(0, 65_534).astype("<u2")
        return steps.T.tobytes()

    structures = max(1, count // 10)
    ids = json.dumps(
        {"ids": [f"s-{i:08d}" for i in range(structures)], "formulas": ["CaTiO3"] * structures}
    ).encode()
    rows = np.arange(count) // 10
    atoms = (
        rows.clip(max=structures - 1).astype("<u4").tobytes()
        + (np.arange(count) % 10).astype("<u2").tobytes()
        + rng.integers(1, 90, count).astype("u1").tobytes()
    )
    names = json.dumps({"names": [f"group {i}" for i in range(10)], "colours": []}).encode()
    column = b"\1" + len(names).to_bytes(4, "little") + names
    column += (which % 10).astype("u1").tobytes()
    answers = {
        "structures": ids,
        "atoms": atoms,
        "map": places(0),
        "other map": places(0.01),
        "column": column,
    }
    return {name: gzip.compress(content, 1) for name, content in answers.items()}


def until(page: Page, expression: str, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        if time.monotonic() > end:
            raise TimeoutError(expression)
        time.sleep(0.05)


if __name__ == "__main__":
    main()
