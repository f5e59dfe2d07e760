from platonic_store.cli.options import Format, FormatOption, OutOption
from platonic_store.cli.output import show


def run(format: FormatOption = Format.table, out: OutOption = None) -> None:
    """The models that platonic-store knows."""
    import pandas as pd

    from platonic_store.runtimes.cards import load_cards

    rows = [
        {
            "name": card.name,
            "family": card.family,
            "layers": [layer.index for layer in card.layers],
            "default_layer": card.default_layer,
            "elements": len(card.elements),
            "cutoff_angstrom": card.cutoff,
            "training_sets": list(card.training_sets),
            "license": card.license.get("weights"),
            "aliases": list(card.aliases),
        }
        for card in load_cards().values()
    ]
    show(pd.DataFrame(rows), format, out)
