"""The explorer in a real browser: what a user does, and what the page then shows."""

import re
import subprocess
import time
import webbrowser
from pathlib import Path

import httpx
import pandas as pd
import pytest
from serving import serving

from platonic_store.explorer.static_page import write_page
from platonic_store.service.app import create_app
from platonic_store.service.settings import Settings

HERE = Path(__file__).parent
SHOTS = HERE.parents[1] / "docs" / "explorer"
# The structure that has most room around it on both maps.
LONELIEST = """async () => {
    const { drawn } = await import('/static/maps.js');
    const { ids } = await (await import('/static/points.js')).structures();
    const room = (at, row) => Math.min(...ids.map((_, i) => {
        const far = Math.hypot(at.x[i] - at.x[row], at.y[i] - at.y[row]);
        return i === row || Number.isNaN(far) ? Infinity : far;
    }));
    const { a, b } = drawn.places;
    const rooms = ids.map((id, row) => [Math.min(room(a, row), room(b, row)), id]);
    return rooms.filter(([far]) => Number.isFinite(far)).sort((x, y) => y[0] - x[0])[0][1];
}"""
PEROVSKITE = "/s/Perovskite?site=2&level=atom"
A, B = "sevennet-0@0+1", "chgnet-0.3.0@1+2"  # what the space takes of them


def lists(page) -> dict[str, list[str]]:
    """The structures in the two lists of neighbours."""
    return {
        side: page.locator(f".list.{side} li canvas").evaluate_all(
            "(all) => all.map((one) => one.dataset.id)"
        )
        for side in "ab"
    }


def until(page, expression: str) -> None:
    """Wait for something to hold; Playwright's own `wait_for_function` needs eval to ask twice."""
    end = time.monotonic() + 20
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(50)


def point(page, side: str, id: str) -> tuple[float, float]:
    """Where a structure is on a map, in pixels of the window."""
    return page.evaluate(
        """async ([side, id]) => {
            const { drawn } = await import('/static/maps.js');
            const { structures } = await import('/static/points.js');
            const row = (await structures()).row.get(id);
            const plot = drawn.plots[side];
            const [x, y] = plot.getScreenPosition(row);
            const box = plot.get('canvas').getBoundingClientRect();
            return [box.x + x, box.y + y];
        }""",
        [side, id],
    )


def test_a_click_on_a_map_opens_the_crystal_and_both_lists(visit, scored):
    """Items 1 to 4: maps, link, crystal, neighbours, and back."""
    page = visit()
    assert page.locator(".map canvas").count() == 2
    own = page.evaluate(LONELIEST)
    page.mouse.move(*point(page, "a", own), steps=4)
    page.locator(".map.b .hovered").wait_for(state="attached")
    until(page, f"document.querySelector('.map.b .tip').innerText.includes({own!r})")
    page.mouse.click(*point(page, "b", own))
    until(page, f"document.title.startsWith({own!r})")
    page.locator(".list.b li").nth(9).wait_for()
    shown = lists(page)
    for side, model in (("a", A), ("b", B)):
        assert shown[side] == scored.similar(own, model=model)["structure_id"].tolist()
    common = set(shown["a"]) & set(shown["b"])
    assert page.locator(".ties path").count() == len(common)
    assert f"{len(common)} " in page.locator(".common").inner_text()
    for side in "ab":
        assert page.locator(f".map.{side} .chosen").count() == 1
        page.locator(f".map.{side} .near").nth(19).wait_for(state="attached")
    first = shown["a"][0]
    page.locator(".list.a li a").first.click()
    until(page, f"document.title.startsWith({first!r})")
    page.go_back()
    until(page, f"document.title.startsWith({own!r})")
    page.locator(".list.a li").nth(9).wait_for()
    assert lists(page) == shown


def test_the_crystal_is_drawn_and_said(visit, scored):
    """Item 3: what the panel says is what the store knows."""
    page = visit(PEROVSKITE)
    panel = page.locator("#crystal")
    assert page.locator("#crystal h2").inner_text().startswith("CaTiO3")
    assert "Pm3m" in panel.inner_text()
    p = scored.typicality("Perovskite", model="sevennet-0").iloc[0]["p"]
    assert f"{p:.3f}" in page.locator(".verdicts tr.a").inner_text()
    assert page.locator("#crystal tr.chosen").inner_text().startswith("O2")
    box = page.locator(".scene").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_url("**site=1**")  # Ti in the middle
    page.go_back()
    page.wait_for_url("**site=2**")
    drawn = page.locator(".scene canvas").first.screenshot()
    for press in ("polyhedra", "environment 5 Å"):
        panel.get_by_role("button", name=press).click()
        page.wait_for_timeout(300)
        now = page.locator(".scene canvas").first.screenshot()
        assert now != drawn
        drawn = now
    assert "view=environment" in page.url
    panel.get_by_label("Colour of the atoms").select_option("disagreement")
    assert "disagree" in page.locator(".key").inner_text()
    panel.get_by_role("link", name="Ti1").click()
    page.wait_for_url("**site=1**")
    assert page.locator("#nearest h3").inner_text().startswith("Nearest to")


def test_across_asks_the_other_model(visit, scored):
    """Item 4: both directions."""
    page = visit("/s/Rutile?across=1")
    answer = scored.similar("Rutile", model="chgnet-0.3.0", across="sevennet-0")
    assert lists(page)["b"] == answer["structure_id"].tolist()
    assert "asks" in page.locator(".list.b h4").inner_text()


def test_colours_and_the_legend_filter(visit, scored):
    """Item 2."""
    page = visit()
    page.get_by_role("button", name="halogen").click()
    page.wait_for_url("**hide=halogen**")
    page.wait_for_timeout(300)
    shown = page.evaluate("import('/static/maps.js').then((m) => m.drawn.visible.length)")
    assert 0 < shown < 288
    page.locator("#color").select_option("disagreement")
    page.locator("#legend .scale").wait_for()
    assert "not an error" in page.locator("#legend").inner_text()
    values = page.evaluate("import('/static/maps.js').then((m) => [...m.drawn.values.values])")
    known = scored.sql("SELECT disagreement FROM disagreement")["disagreement"].dropna()
    assert sum(value == value and value is not None for value in values) == len(known)
    page.get_by_label("lowest of disagreement shown").evaluate(
        "(one) => { one.value = 0.5; one.dispatchEvent(new Event('change')); }"
    )
    page.wait_for_url("**range=0.5,1**")


def test_a_lasso_on_one_map_marks_the_other_and_is_in_the_url(visit):
    """Item 2."""
    page = visit()
    box = page.locator(".map.a canvas").bounding_box()
    page.get_by_role("button", name="lasso").click()
    corners = [(0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9), (0.1, 0.12)]
    for i, (x, y) in enumerate(corners):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=8)
        if i == 0:
            page.mouse.down()
    page.mouse.up()
    page.wait_for_url("**lasso=a:**")
    heading = page.locator("#results h3")
    heading.wait_for()
    picked = int(re.match(r"\d+", heading.inner_text())[0])
    selected = "import('/static/maps.js').then((m) => m.drawn.plots.b.get('selectedPoints').length)"
    assert page.evaluate(selected) == picked > 50
    page.reload()
    page.wait_for_selector("html[data-ready]", state="attached")
    assert page.locator("#results h3").inner_text().startswith(f"{picked} ")


def test_search_by_system_condition_and_id(visit, scored):
    """Item 5, by keyboard alone."""
    page = visit()
    box = page.get_by_role("combobox", name="Search")
    box.press_sequentially("Ca-*")
    page.get_by_role("option", name="filter").wait_for()
    box.press("Enter")
    page.locator(".chip").wait_for()
    rows = page.locator("#results tbody tr")
    rows.first.wait_for()
    assert rows.count() == len(scored.sql("FROM structure WHERE list_contains(elements, 'Ca')"))
    box.press_sequentially("nsit")
    page.get_by_role("option", name="nsites").first.wait_for()
    box.press("Tab")
    assert box.input_value().strip() == "nsites"
    box.press_sequentially("< 6")
    page.get_by_role("option", name="filter nsites < 6").wait_for()
    box.press("Enter")
    page.locator(".chip").nth(1).wait_for()
    wanted = scored.sql(
        "SELECT structure_id FROM structure WHERE list_contains(elements, 'Ca') AND nsites < 6 "
        "ORDER BY structure_id"
    )["structure_id"].tolist()
    until(page, f"document.querySelectorAll('#results tbody tr').length === {len(wanted)}")
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").last.click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == wanted
    box.press_sequentially("Spin")
    page.get_by_role("option", name="Spinel").wait_for()
    box.press("Enter")
    page.wait_for_url("**/s/Spinel**")


def test_what_is_not_understood_says_why(visit):
    page = visit()
    box = page.get_by_role("combobox", name="Search")
    box.press_sequentially("nonsense > 1")
    page.get_by_role("option", name="not understood").wait_for()


def test_a_file_that_is_dropped_is_looked_at_like_any_other(visit, scored, tmp_path):
    """Item 6."""
    from ase.build import bulk
    from ase.io import write

    page = visit(is_refused=True)
    write(tmp_path / "salt.cif", bulk("NaCl", "rocksalt", a=5.7))
    page.locator("#file").set_input_files(tmp_path / "salt.cif")
    page.wait_for_url("**/s/upload:**")
    page.locator(".progress .done").first.wait_for(timeout=60_000)
    page.locator(".list.a li").nth(9).wait_for(timeout=60_000)
    assert "Halite" in lists(page)["a"] or "NaCl" in page.locator(".list.a").inner_text()
    page.locator(".map.a .chosen").wait_for(state="attached")
    page.locator(".verdicts tr.a").wait_for()
    (tmp_path / "not.cif").write_text("data_nothing\n")
    page.locator("#file").set_input_files(tmp_path / "not.cif")
    page.locator("#drop .complaint").wait_for()


def test_a_batch_that_is_dropped_is_screened(visit, scored, tmp_path):
    from ase.build import bulk
    from ase.io import write

    names = {"salt": ("NaCl", 5.7), "salt again": ("NaCl", 5.7), "new": ("RbI", 7.3)}
    crystals = []
    for name, (formula, a) in names.items():
        crystals.append(bulk(formula, "rocksalt", a=a))
        crystals[-1].info["id"] = name
    crystals.append(bulk("Cu", "fcc", a=3.6))
    crystals[-1].info["id"] = "squeezed"
    crystals[-1].set_cell(crystals[-1].cell[:] * 0.3, scale_atoms=True)
    write(tmp_path / "batch.extxyz", crystals)
    page = visit(is_refused=True)
    page.locator("#file").set_input_files(tmp_path / "batch.extxyz")
    rows = page.locator("#results table tbody tr")
    rows.nth(3).wait_for(timeout=90_000)
    texts = {row.split("\t")[1]: row for row in rows.all_inner_texts()}
    assert set(texts) == {"salt", "salt again", "new", "squeezed"}
    assert "redundant" in texts["salt again"]
    assert "implausible" in texts["squeezed"]
    with page.expect_download() as download:
        page.locator("#results a.button", has_text="CSV").click()
    table = pd.read_csv(download.value.path())
    assert table["candidate"].tolist() == [row.split("\t")[1] for row in rows.all_inner_texts()]
    assert {"class", "rule", "p", "duplicate_of", "nearest_id"} <= set(table.columns)
    rows.first.get_by_role("link").first.click()
    page.wait_for_url("**/s/upload:**")
    page.get_by_role("tab", name="Results").click()
    assert rows.count() == 4


def test_analogy_and_cookbook(visit, scored):
    """Item 7."""
    page = visit("/?tab=ask")
    page.get_by_label("Analogy").fill("CaTiO3 - Ti + Zr")
    page.get_by_label("Analogy").press("Enter")
    page.locator(".list.a li").first.wait_for()
    answer = scored.analogy("CaTiO3 - Ti + Zr", model=A)
    assert lists(page)["a"] == answer["structure_id"].tolist()
    page.get_by_role("tab", name="Ask").click()
    page.get_by_label("Cookbook").select_option("near-duplicates")
    page.locator("#ask tbody tr").first.wait_for()
    assert "query=near-duplicates" in page.url


def test_every_view_is_its_url_and_has_twins(visit, url, scored):
    """Item 8."""
    page = visit(f"{PEROVSKITE}&color=disagreement&a={B}&b={A}&atoms=disagreement")
    assert page.locator("#model-a").input_value() == B
    assert page.locator("#color").input_value() == "disagreement"
    page.locator("#corner summary").click()
    corner = page.locator("#corner").inner_text()
    assert f"snapshot {scored.snapshot().id}" in corner
    twin = page.get_by_role("link", name="JSON").get_attribute("href")
    found = page.request.get(url + twin).json()
    assert found["crystal"]["formula"] == "CaTiO3"
    assert [one["structure_id"] for one in found["neighbours"]["a"]["rows"]] == lists(page)["a"]
    table = page.request.get(url + page.get_by_role("link", name="CSV").first.get_attribute("href"))
    assert len(table.text().splitlines()) == 21


def test_a_structure_that_is_not_there(visit):
    page = visit("/s/mp-0", is_refused=True)
    page.locator("#nearest .complaint").wait_for()
    assert "no structure 'mp-0'" in page.locator("#nearest").inner_text()


@pytest.mark.parametrize(
    ("path", "width", "options"),
    [
        (PEROVSKITE, 1400, {}),
        ("/?filter=Ca-*&tab=results&color=disagreement", 800, {"color_scheme": "dark"}),
        ("/s/Spinel?tab=ask", 400, {}),
    ],
)
def test_accessible(visit, axe, path, width, options):
    page = visit(path, width=width, **options)
    page.evaluate(axe)
    found = page.evaluate("axe.run()")
    assert [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    # Models may have long names, as `control:random:sevennet-0` has.
    right = page.evaluate("""() => {
        const lists = [...document.querySelectorAll("#maps select")];
        for (const one of lists) one.add(new Option("control:random:".repeat(5)));
        return Math.max(...lists.map((one) => one.getBoundingClientRect().right));
    }""")
    assert right <= width


def test_one_file_opens_without_a_server(visit, scored, tmp_path):
    file = write_page(scored, tmp_path / "explorer.html")
    page = visit("#/s/Spinel", base=file.as_uri())
    for side, model in (("a", A), ("b", B)):
        assert lists(page)[side] == scored.similar("Spinel", model=model)["structure_id"].tolist()
    page.locator(".list.a li a").first.click()
    until(page, "document.title.startsWith('Corundum')")
    page.get_by_role("combobox", name="Search").press_sequentially("Ca-Ti-O")
    page.get_by_role("option", name="filter").wait_for()
    page.keyboard.press("Enter")
    page.locator("#results tbody tr").first.wait_for()
    page.goto(f"{file.as_uri()}#/s/Perovskite?site=2&level=atom")
    page.locator("#nearest b").first.wait_for()
    atoms = scored.similar("Perovskite", model=A, site=2)["structure_id"].tolist()
    until(page, "document.querySelectorAll('.list.a li').length === 10")
    assert lists(page)["a"] == atoms


def test_a_newer_snapshot_is_said(visit, own_prototypes):
    with serving(create_app(own_prototypes, Settings(models=()))) as url:
        page = visit("/s/Spinel", base=url)
        assert page.locator("#newer").is_hidden()
        anchors = "(SELECT structure_id FROM anchor)"
        free = own_prototypes.sql(f"FROM structure WHERE structure_id NOT IN {anchors} LIMIT 1")
        own_prototypes.delete(free["structure_id"].tolist())
        for _ in range(20):  # the service looks once a second, and nobody waits for it
            page.locator(".list.a li a").first.click()
            time.sleep(0.5)
            if page.locator("#newer").is_visible():
                break
        page.locator("#newer").get_by_role("link").click()
        until(page, "document.documentElement.dataset.ready === 'true'")
        assert page.locator("#newer").is_hidden()


def test_it_is_exported_and_shown_from_python(scored, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    shown = scored.explore()
    assert opened == [shown.url]
    assert scored.explore() is shown
    assert "frame-ancestors" in httpx.get(shown.url).headers["content-security-policy"]
    assert shown.url in shown._repr_html_()
    one = scored.export(tmp_path / "explorer.html", models=["sevennet-0"]).read_text()
    assert "near?level=structure&side=sevennet-0@0+1" in one
    assert "near?level=structure&side=chgnet-0.3.0@1+2" not in one


def test_the_vendored_files_are_those_that_were_made():
    import hashlib

    from platonic_store.explorer.routes import STATIC

    for line in (STATIC / "vendor" / "SHA256SUMS").read_text().splitlines():
        known, name = line.split()
        assert hashlib.sha256((STATIC / "vendor" / name).read_bytes()).hexdigest() == known
        assert list((STATIC / "vendor").glob("*.LICENCE.txt"))


def test_the_types_of_the_page_hold():
    tsc = HERE / "vendor" / "node_modules" / ".bin" / "tsc"
    if not tsc.exists():
        pytest.skip("no TypeScript here: npm ci --ignore-scripts in tests/explorer/vendor")
    done = subprocess.run([tsc, "-p", HERE / "vendor"], capture_output=True, text=True)
    assert done.stdout == ""


def test_screenshots(visit, request):
    """The pictures of the documentation, with --screenshots."""
    if not request.config.getoption("--screenshots"):
        pytest.skip("renews docs/explorer/*.png with --screenshots")
    SHOTS.mkdir(exist_ok=True)
    for width, path in ((1400, "/s/Spinel"), (800, "/s/Spinel?site=6"), (400, "/s/Spinel?site=6")):
        page = visit(path, width=width)
        page.set_viewport_size({"width": width, "height": 1300})
        page.wait_for_timeout(800)
        page.screenshot(path=SHOTS / f"{width}.png")
