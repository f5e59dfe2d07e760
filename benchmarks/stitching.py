"""Zero-shot stitching: `stitching.py STORE [--property P] [--space S] [--heads] [MODEL …]`.

Two tables, in Markdown: R² of a property by the readout of one model (column) fed with another's
coordinates (row), its own on the diagonal, and composition alone and the mean beside; and the ratio
to the column's own. Controls feed, and do not read. With --heads also what each model's own energy
head (column) makes of every model: R² and, in brackets, the mean absolute error in meV an atom.
"""

import argparse

import pandas as pd

from platonic_store import Store
from platonic_store.runtimes.cards import kind_of, resolve


def readouts(
    store: Store, models: list[str], property: str, space: str | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """R² and ratio, by who feeds and who reads."""
    readers = [model for model in models if kind_of(model) == "trained"]
    scores, ratios = pd.DataFrame(), pd.DataFrame()
    for to in readers:
        for from_ in models:
            if from_ == to:
                continue
            found = store.stitch(from_, to, property, space=space).set_index("way")
            r2, ratio = found["r2"], found["ratio"]
            scores.loc[from_, to], ratios.loc[from_, to] = r2["stitched"], ratio["stitched"]
            scores.loc[to, to] = r2[["own"]].iloc[0]
            for way in ("composition", "mean"):
                scores.loc[f"{way} alone", to] = r2[way]
                ratios.loc[f"{way} alone", to] = ratio[way]
    order = [*models, "composition alone", "mean alone"]
    return scores.reindex(order), ratios.reindex(order)


def by_heads(store: Store, models: list[str], space: str | None) -> pd.DataFrame:
    """R² and error of the energy, by who feeds and whose head reads."""
    table = pd.DataFrame(dtype=object)
    readers = [m for m in models if kind_of(m) == "trained" and resolve(m).head]
    for to in readers:
        for from_ in models:
            if from_ == to:
                continue
            found = store.stitch_head(from_, to, space=space).set_index("way")
            cells = found["r2"].map("{:.3f}".format) + (1000 * found["mae"]).map(" ({:.0f})".format)
            table.loc[from_, to] = cells["stitched"]
            table.loc[to, to] = cells["decoded"]
            for way in ("element", "mean"):
                table.loc[f"{way} features", to] = cells[way]
    return table.reindex([*models, "element features", "mean features"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store")
    parser.add_argument("models", nargs="*")
    parser.add_argument("--property", default="formation_energy_per_atom")
    parser.add_argument("--space")
    parser.add_argument("--heads", action="store_true")
    options = parser.parse_args()
    store = Store.open(options.store)
    models = options.models or store.sql("SELECT name FROM model ORDER BY added_at").name.tolist()
    scores, ratios = readouts(store, models, options.property, options.space)
    print(f"R² of {options.property}\n\n{scores.to_markdown(floatfmt='.3f')}\n")
    print(f"ratio to the reader's own\n\n{ratios.to_markdown(floatfmt='.3f')}\n", flush=True)
    if options.heads:
        print(f"energy by heads\n\n{by_heads(store, models, options.space).to_markdown()}")


if __name__ == "__main__":
    main()
