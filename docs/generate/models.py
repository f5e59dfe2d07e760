"""docs/models.md: the table of cards; the rest of the page is written by hand."""

from pathlib import Path

from ase.data import chemical_symbols

from platonic_store.runtimes.cards import Card, load_cards

START, END = "<!-- The table is made by `make docs`. -->", "<!-- End of the table. -->"


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


def page() -> str:
    """The page as it is, with today's table between its marks."""
    page = (Path(__file__).parent.parent / "models.md").read_text()
    before, _, rest = page.partition(START)
    after = rest.partition(END)[2]
    return f"{before}{START}\n\n{table()}\n\n{END}{after}"
