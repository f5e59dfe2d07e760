from platonic_store.cli.options import Format, FormatOption, OutOption
from platonic_store.cli.output import show


def run(format: FormatOption = Format.table, out: OutOption = None) -> None:
    """The models that platonic-store knows."""
    import pandas as pd

    from platonic_store.runtimes.cards import load_cards

    show(pd.DataFrame([card.summary() for card in load_cards().values()]), format, out)
