"""The explorer as one file with its data inside, which opens without a server or network."""

import base64
import gzip
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from platonic_store.errors import InvalidQuery
from platonic_store.explorer import binary, columns, data, maps, overview, rows
from platonic_store.questions.neighbours import neighbours
from platonic_store.storage import lookup
from platonic_store.storage.layout import Level
from platonic_store.storage.snapshot import ModelLayer, Snapshot

if TYPE_CHECKING:
    from platonic_store.store import Store

MOST_STRUCTURES = 30_000  # beyond, a browser does better with a server
MOST_ATOMS = 40_000  # distinct ones; beyond, the page has structures alone
K = 10
STATIC = Path(__file__).parent / "static"
# Scripts and data are in the file; nothing may be fetched.
_CSP = (
    "default-src 'none'; script-src 'unsafe-inline' data:; style-src 'unsafe-inline'; "
    "img-src data: blob:; base-uri 'none'; form-action 'none'"
)
_IMPORT = re.compile(r"""(from |import\()'\./([\w/]+\.js)'""")
_PRELOAD = re.compile(r'<link rel="modulepreload"[^>]*>\n')
_SERVE = "this page is a file: to ask that, serve the store with `platonic-store serve`"


def write_page(store: "Store", path: str | Path, *, models: Sequence[str] = ()) -> Path:
    """Write the explorer of a store's snapshot as one HTML file; returns its path.

    It holds the maps, all structures, and the neighbours of each by every model that is on the map
    (or by those named); those of atoms as well, up to 40,000 distinct ones.

    Raises: StoreNotFound, ModelNotFound, LayerNotFound; InvalidQuery beyond 30,000 structures.
    """
    write(store.snapshot(), Path(path), models)
    return Path(path)


def write(snapshot: Snapshot, path: Path, models: Sequence[str]) -> None:
    """See `write_page`."""
    count = rows.count(snapshot, "structure")
    if count > MOST_STRUCTURES:
        raise InvalidQuery(
            f"{count:,} structures are too many for one page ({MOST_STRUCTURES:,} at most)",
            "serve the store: `platonic-store serve`",
        )
    sides = [_side(snapshot, one) for one in models] or _sides(snapshot)
    contents = _contents(snapshot, sides)
    parts = {name: base64.b64encode(content).decode() for name, content in contents}
    path.write_text(_page(parts), encoding="utf-8")


def _side(snapshot: Snapshot, text: str) -> ModelLayer:
    """MODEL@LAYER as it says; MODEL as it is on the map, else at its default layer."""
    side = lookup.model_layer(snapshot, text)
    there = (one for one in maps.sides(snapshot) if one.model == side.model)
    return side if "@" in text else next(there, side)


def _sides(snapshot: Snapshot) -> list[ModelLayer]:
    """The layers on the map; without one, each model's default."""
    return maps.sides(snapshot) or [
        lookup.model_layer(snapshot, name) for name in list(snapshot.models)
    ]


def _contents(snapshot: Snapshot, sides: list[ModelLayer]) -> Iterator[tuple[str, bytes]]:
    """What the page asks for by its address, gzipped."""
    levels: list[Level] = ["structure"]
    if rows.count(snapshot, "atom") <= MOST_ATOMS:
        levels.append("atom")
        yield "atoms", binary.atoms(snapshot)
    known = overview.overview(snapshot)
    colours = [one for one in columns.available(snapshot) if set(one.levels) & set(levels)]
    names = {str(side) for side in sides}
    models = [one for one in known["models"] if one["side"] in names]
    inside = {"models": models, "levels": levels, "serve": _SERVE, "uploads": _SERVE}
    yield "overview", _json({**known, **inside})
    yield "structures", binary.structures(snapshot)
    yield "crystals", _json(data.whole(snapshot, rows.structures(snapshot).ids.to_pylist()))
    for level in levels:
        for side in sides:
            if side in maps.sides(snapshot):
                yield f"map?level={level}&side={side}", binary.places(snapshot, level, str(side))
            yield f"near?level={level}&side={side}", _near(snapshot, level, side)
        for colour in colours:
            if level in colour.levels:
                name = f"column?level={level}&name={colour.name}"
                yield name, binary.column(snapshot, level, colour.name)


def _near(snapshot: Snapshot, level: Level, side: ModelLayer) -> bytes:
    """uint32 rows (n, K) of each row's nearest, then their float32 distances; n where none."""
    n = rows.count(snapshot, level)
    near, far = np.full((n, K), n, dtype="<u4"), np.full((n, K), np.nan, dtype="<f4")
    frame = neighbours.rows(snapshot, model=str(side), k=K, level=level)
    if level == "structure":
        which = rows.of_structures(snapshot, frame["structure_id"])
        other = rows.of_structures(snapshot, frame["neighbour"])
    else:
        which = rows.of_atoms(snapshot, frame["structure_id"], frame["site_index"].to_numpy())
        sites = frame["neighbour_site"].to_numpy()
        other = rows.of_atoms(snapshot, frame["neighbour"], sites)
    place = which, frame["rank"].to_numpy() - 1
    near[place], far[place] = other, frame["distance"]
    return gzip.compress(near.tobytes() + far.tobytes(), 6, mtime=0)


def _json(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return gzip.compress(text.encode(), 6, mtime=0)


def _page(parts: dict[str, str]) -> str:
    """index.html with style, scripts and data in their places."""
    page = _PRELOAD.sub("", (STATIC / "index.html").read_text(encoding="utf-8"))
    icon = base64.b64encode((STATIC / "icon.svg").read_bytes()).decode()
    modules = {
        f"explorer/{name}": f"data:text/javascript;base64,{code}" for name, code in _modules()
    }
    scripts = (
        f"<script>{_inert((STATIC / 'vendor' / '3dmol.js').read_text(encoding='utf-8'))}</script>\n"
        f"<script>globalThis.platonicData = {_inert(json.dumps(parts))};</script>\n"
        f'<script type="importmap">{json.dumps({"imports": modules})}</script>\n'
        "<script type=\"module\">import 'explorer/main.js';</script>"
    )
    replaced = {
        '<meta name="viewport"': f'<meta http-equiv="Content-Security-Policy" content="{_CSP}">\n'
        '<meta name="viewport"',
        'href="/static/icon.svg"': f'href="data:image/svg+xml;base64,{icon}"',
        '<link rel="stylesheet" href="/static/style.css">': "<style>"
        f"{(STATIC / 'style.css').read_text(encoding='utf-8')}</style>",
        '<script src="/static/vendor/3dmol.js" id="library" async></script>\n': "",
        '<script src="/static/main.js" type="module"></script>': scripts,
    }
    for old, new in replaced.items():
        assert page.count(old) == 1, old
        page = page.replace(old, new)
    return page


def _modules() -> Iterator[tuple[str, str]]:
    """The page's modules, importing one another by name, in base64."""
    for path in sorted([*STATIC.glob("*.js"), STATIC / "vendor" / "scatterplot.js"]):
        name = path.relative_to(STATIC).as_posix()
        code = _IMPORT.sub(r"\1'explorer/\2'", path.read_text(encoding="utf-8"))
        yield name, base64.b64encode(code.encode()).decode()


def _inert(script: str) -> str:
    """A script that does not end the element that it is in."""
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")
