"""docs/models.md: the table of cards, and of what `models check --all` found.

The second is made from docs/checked.csv, which is that command's output:
`platonic-store models check --all --format csv --out docs/checked.csv`. The rest of the page is
written by hand.
"""

import csv
from itertools import groupby
from pathlib import Path

from ase.data import chemical_symbols

from platonic_store.runtimes.cards import Card, load_cards

START, END = "<!-- The table is made by `make docs`. -->", "<!-- End of the table. -->"
CHECKED = Path(__file__).parent.parent / "checked.csv"
KIT = "<!-- These tables are made by `make docs` from checked.csv. -->"
KIT_END = "<!-- End of the tables. -->"
# Heading → the checks whose largest deviation it shows.
DEVIATIONS = {
    "loaded twice": ["loaded_whole", "deterministic"],
    "batch, order": ["one_layer_at_a_time", "batch_independence", "site_order"],
    "rotation, mirror": ["rotation", "mirror"],
    "translation, lattice, supercell": ["translation", "lattice_choice", "supercell"],
    "its features": ["official_features"],
    "its energy, eV an atom": ["official_energy", "calculator_energy"],
    "its forces, eV/Å": ["calculator_forces"],
}


def layers(card: Card) -> str:
    """The layers with their dimension, the default one in bold."""
    dims = {layer.dim for layer in card.layers}
    names = [
        f"**{layer.index}**" if layer.index == card.default_layer else str(layer.index)
        for layer in card.layers
    ]
    if len(dims) == 1:
        return f"{' '.join(names)} × {dims.pop()}"
    sizes = (f"{name} × {layer.dim}" for name, layer in zip(names, card.layers, strict=True))
    return ", ".join(sizes)


def kind(card: Card) -> str:
    """What is known of its symmetry and forces."""
    words = ["equivariant" if card.equivariant else "invariant"]
    if not card.invariant:
        words = ["neither invariant nor equivariant"]
    if card.conservative is not None:
        words.append("conservative" if card.conservative else "direct")
    return ", ".join(words)


def weights(card: Card) -> str:
    """Where they come from, and whether their sum is known."""
    if card.own_checkpoint:
        return "a file of yours"
    if not card.downloads:
        return "in its package" if card.checkpoint_sha256 else "none"
    return "downloaded, SHA-256 known" if card.checkpoint_sha256 else "downloaded, needs `--trust`"


def table() -> str:
    """A line a card."""
    heads = ["model", "layers × numbers", "kind", "cutoff, Å", "elements", "training sets",
             "weights", "licence of the weights"]  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for card in load_cards().values():
        cells = [
            f"`{card.name}`",
            layers(card),
            kind(card),
            f"{card.cutoff:g}",
            str(len(card.elements)) if len(card.elements) < len(chemical_symbols) - 1 else "all",
            ", ".join(card.training_sets) or "–",
            weights(card),
            card.license.get("weights", "–") + (" (to accept)" * ("restriction" in card.license)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def lines_of(heads: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines).replace("| --- ", "|---")


def checked_rows() -> list[dict[str, str]]:
    """What the command wrote, in the order of the cards."""
    with CHECKED.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def checked_model(row: dict[str, str]) -> list[str]:
    """Speed and deviations of one model."""

    def number(name: str, form: str) -> str:
        return form.format(float(row[name])) if row.get(name) else "–"

    def worst(checks: list[str]) -> str:
        found = [float(row[check]) for check in checks if row.get(check)]
        return f"{max(found):.0e}".replace("e-0", "e-").replace("0e+00", "0") if found else "–"

    count = f"{int(float(row['checks']))} passed"
    return [
        f"`{row['name']}`",
        row["weights"] or "–",
        row["failed"] or count,
        number("atoms_per_second", "{:,.0f}"),
        number("times_calculator", "{:.1f}"),
        *map(worst, DEVIATIONS.values()),
    ]


def checked_family(family: str, rows: list[dict[str, str]]) -> list[str]:
    """Environment, versions and the last run of one family."""
    last = max(rows, key=lambda row: row["when"])
    size = f"{float(last['environment_gb']):.1f}"
    return [
        family,
        size,
        last["when"][:10] or "–",
        last["platform"] or "–",
        last["versions"] or "–",
    ]


def checked() -> str:
    """Two tables: of the models, and of the families' environments; and what was not checked."""
    every = checked_rows()
    rows = [row for row in every if row["checks"]]
    others = [row for row in every if not row["checks"]]
    unchecked = ", ".join(f"`{row['name']}`" for row in others if not row["failed"]) or "none"
    reasons = "".join(f"\n- `{row['name']}`: {row['failed']}" for row in others if row["failed"])
    families = [(name, list(some)) for name, some in groupby(rows, lambda row: row["family"])]
    models = lines_of(
        ["model", "weights", "checks", "atoms/s", "× its calculator", *DEVIATIONS],
        [checked_model(row) for row in rows],
    )
    places = lines_of(
        ["family", "environment, GB", "last run", "platform", "versions"],
        [checked_family(*each) for each in families],
    )
    tried = f"\n\nCould not be checked:\n{reasons}" if reasons else ""
    return f"{models}\n\nNot checked: {unchecked}.{tried}\n\n{places}"


def between(page: str, start: str, end: str, made: str) -> str:
    """The page with something new between two marks."""
    before, _, rest = page.partition(start)
    return f"{before}{start}\n\n{made}\n\n{end}{rest.partition(end)[2]}"


def page() -> str:
    """The page as it is, with today's tables between their marks."""
    page = (Path(__file__).parent.parent / "models.md").read_text()
    return between(between(page, START, END, table()), KIT, KIT_END, checked())
