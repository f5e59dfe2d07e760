"""Make `platonic_store/explorer/static/vendor`: the page's two libraries, with their licences.

    python tests/explorer/vendor/make.py

Versions and hashes are those of package-lock.json. It needs node and Chromium. regl-scatterplot's
draw commands are compiled here, in a browser, so that the page works where `eval` is forbidden.
"""

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
PACKAGES = HERE / "node_modules"
OUT = HERE.parents[2] / "platonic_store" / "explorer" / "static" / "vendor"
# An empty <style> element is refused where inline styles are; a constructed sheet is not.
STYLE = re.compile(
    r"const lassoStyleEl = document\.createElement\('style'\);\s*"
    r"document\.head\.appendChild\(lassoStyleEl\);\s*"
    r"cachedLassoStylesheets = lassoStyleEl\.sheet;"
)
CONSTRUCTED = (
    "cachedLassoStylesheets = new CSSStyleSheet(); "
    "document.adoptedStyleSheets = [...document.adoptedStyleSheets, cachedLassoStylesheets];"
)
# Draws, selects, hovers, filters and lassoes, so that every draw command is compiled.
EXERCISE = """
async () => {
  const { createRenderer, createScatterplot } = await import('/scatterplot.js');
  const canvas = document.createElement('canvas');
  canvas.style.cssText = 'width: 300px; height: 300px';
  document.body.append(canvas);
  const renderer = createRenderer();
  const plot = createScatterplot({
    renderer, canvas, width: 300, height: 300, colorBy: 'valueA', pointColor: ['#f00', '#0f0'],
    pointOutlineWidth: 2, showReticle: true, lassoInitiator: true,
  });
  const settle = () => new Promise((resolve) => setTimeout(resolve, 300));
  const points = { x: [-0.5, 0, 0.5], y: [-0.5, 0.2, 0.5], z: [0, 1, 1] };
  await plot.draw(points, { zDataType: 'categorical' });
  plot.select([0, 1]); plot.hover(2); await settle();
  await plot.filter([0, 1]); await plot.unfilter(); plot.deselect(); await settle();
  plot.set({ opacityBy: 'density' }); await settle();
  await plot.draw({ ...points, z: [0, 0.5, 1] }, { zDataType: 'continuous' });
  await plot.draw({ ...points, x: [0, 0.1, 0.2] }, { transition: true, transitionDuration: 100 });
  await plot.zoomToPoints([0, 1], { transition: true, transitionDuration: 100 }); await settle();
  plot.set({ mouseMode: 'lasso' });
  const box = canvas.getBoundingClientRect();
  const at = (type, x, y, target = canvas) => target.dispatchEvent(new MouseEvent(type, {
    bubbles: true, clientX: box.x + x, clientY: box.y + y, buttons: 1 }));
  at('mousedown', 50, 50);
  for (const [x, y] of [[250, 50], [250, 250], [50, 250], [50, 60]]) {
    at('mousemove', x, y, window); await settle();
  }
  at('mouseup', 50, 60, window); await settle();
  const code = renderer.regl._gl && renderer.regl.getCachedCode();
  return Object.entries(code).map(([key, f]) => [key, f.toString()]);
}
"""


def main() -> None:
    subprocess.run(["npm", "ci", "--ignore-scripts", "--silent"], cwd=HERE, check=True)
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    source = (PACKAGES / "regl-scatterplot/dist/regl-scatterplot.esm.js").read_text()
    patched, count = STYLE.subn(CONSTRUCTED, source)
    assert count == 1, "regl-scatterplot makes its style sheet in another way"
    work = PACKAGES / ".made"
    work.mkdir(exist_ok=True)
    (work / "regl-scatterplot.js").write_text(patched)
    (work / "scatterplot.js").write_text((HERE / "scatterplot.js").read_text())
    (work / "compiled.js").write_text("export default {};\n")
    bundle(work, work / "recording.js")
    (work / "compiled.js").write_text(compiled(work / "recording.js"))
    bundle(work, OUT / "scatterplot.js")
    shutil.copy(PACKAGES / "3dmol/build/3Dmol-min.js", OUT / "3dmol.js")
    shutil.copy(PACKAGES / "axe-core/axe.min.js", HERE / "axe.min.js")  # of the tests alone
    for name, path in licences().items():
        shutil.copy(path, OUT / f"{name}.LICENCE.txt")
    files = sorted(path for path in OUT.iterdir() if path.suffix == ".js")
    sums = (f"{hashlib.sha256(one.read_bytes()).hexdigest()}  {one.name}\n" for one in files)
    (OUT / "SHA256SUMS").write_text("".join(sums))


def bundle(work: Path, out: Path) -> None:
    command = [
        str(PACKAGES / ".bin" / "esbuild"),
        str(work / "scatterplot.js"),
        "--bundle",
        "--minify",
        "--format=esm",
        "--target=es2020",
        "--legal-comments=inline",
        "--banner:js=// @ts-nocheck",
        "--log-level=warning",
        f"--alias:regl-scatterplot={work / 'regl-scatterplot.js'}",
        f"--alias:regl={PACKAGES / '@plotly/regl/dist/regl.unchecked.js'}",
        f"--outfile={out}",
    ]
    subprocess.run(command, cwd=HERE, check=True)


def compiled(script: Path) -> str:
    """A module of regl's compiled draw commands by the hash of their source."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--use-angle=swiftshader", "--enable-unsafe-swiftshader"],
        )
        page = browser.new_page()
        page.route("**/*", lambda route: _serve(route, script))
        page.goto("http://localhost/")
        found = page.evaluate(EXERCISE)
        browser.close()
    functions = (f"{json.dumps(key)}: {text}" for key, text in sorted(found))
    return "export default {\n" + ",\n".join(functions) + "\n};\n"


def _serve(route, script: Path) -> None:
    is_script = route.request.url.endswith("/scatterplot.js")
    body = script.read_text() if is_script else "<!doctype html><body></body>"
    kind = "text/javascript" if is_script else "text/html"
    route.fulfill(body=body, content_type=kind)


def licences() -> dict[str, Path]:
    """The licence of each package that is in the bundles, by its name."""
    lock = json.loads((HERE / "package-lock.json").read_text())["packages"]
    tools = ("esbuild", "typescript", "axe-core", "regl")
    found = {}
    for folder in lock:
        name = folder.rpartition("node_modules/")[2]
        if not name or name.startswith("@esbuild/") or name in tools:
            continue
        for path in sorted((HERE / folder).glob("*")):
            if path.name.upper().startswith("LICEN"):
                found[name.strip("@").replace("/", "-")] = path
    return found


if __name__ == "__main__":
    main()
