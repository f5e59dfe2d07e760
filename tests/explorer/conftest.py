"""A real browser on the real service of a real store."""

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import serving

from platonic_store.service.app import create_app
from platonic_store.service.settings import Settings


def pytest_addoption(parser):
    parser.addoption("--screenshots", action="store_true", help="renew docs/explorer/*.png")


@pytest.fixture(scope="session")
def url(scored) -> Iterator[str]:
    """Where the explorer is served; structures that are sent are embedded by SevenNet-0 alone."""
    with serving(create_app(scored, Settings(models=("sevennet-0",)))) as url:
        yield url


@pytest.fixture(scope="session")
def browser():
    """Debian's Chromium, without a screen; WebGL by SwiftShader."""
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on the PATH")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=["--use-angle=swiftshader", "--enable-unsafe-swiftshader"],
        )
        yield browser
        browser.close()
        # At its end Playwright complains of answers for which nobody waits any more.
        logging.getLogger("asyncio").disabled = True


@pytest.fixture
def visit(browser, url):
    """Opens views of the page; at the end nothing went wrong and nothing left the host."""
    opened, errors, asked = [], [], []

    def open_view(
        path: str = "/", *, base: str = url, width: int = 1400, is_refused: bool = False, **options
    ):
        """is_refused: the console may say that something the page asked for was refused."""

        def note(said):
            is_expected = is_refused and "Failed to load resource" in said.text
            if said.type == "error" and not is_expected:
                errors.append(said.text)

        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        opened.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", note)
        page.goto(base + path)
        page.wait_for_selector("html[data-ready]", state="attached")
        return page

    yield open_view
    for context in opened:
        context.close()
    assert errors == []
    own = ("data:", "blob:", "file:", "http://127.0.0.1:")
    assert [one for one in asked if not one.startswith(own)] == []


@pytest.fixture(scope="session")
def axe() -> str:
    """axe-core, as tests/explorer/vendor/make.py fetched it."""
    return (Path(__file__).parent / "vendor" / "axe.min.js").read_text(encoding="utf-8")
