from typing import Annotated, Optional

import typer

from platonic_store.cli.options import (
    CheckpointOption,
    DeviceOption,
    Format,
    FormatOption,
    OutOption,
    PythonOption,
    TrustOption,
    by_name,
)
from platonic_store.cli.output import complain, say, show

app = typer.Typer(help="The models that platonic-store knows, and what they need.")
Name = Annotated[str, typer.Argument(help="A model's name or alias.")]


@app.callback(invoke_without_command=True)
def table(
    context: typer.Context, format: FormatOption = Format.table, out: OutOption = None
) -> None:
    """All models: what they are, whether their weights and environments are here."""
    if context.invoked_subcommand is not None:
        return
    import pandas as pd

    from platonic_store.runtimes import environments
    from platonic_store.runtimes.cards import load_cards

    families = {card.family: card for card in load_cards().values()}
    states = {family: environments.state(card) for family, card in families.items()}
    rows = [
        {
            "name": card.name,
            "layers": _layers(card),
            "weights": _weights(card),
            "environment": states[card.family],
            "license": card.license.get("weights"),
            "elements": len(card.elements),
            "training_sets": list(card.training_sets),
            "family": card.family,
            "default_layer": card.default_layer,
            "cutoff_angstrom": card.cutoff,
            "aliases": list(card.aliases),
        }
        for card in load_cards().values()
    ]
    show(pd.DataFrame(rows), format, out)


@app.command("show")
def card(name: Name) -> None:
    """The whole card of a model, its licence first where it restricts use."""
    import yaml

    from platonic_store.runtimes import checkpoints, environments
    from platonic_store.runtimes.cards import resolve

    found = resolve(name)
    fields = {name: value for name, value in found.as_dict().items() if value not in (None, (), {})}
    if "restriction" in found.license:
        fields = {"name": found.name, "license": found.license} | fields
    fields["layers"] = {layer.index: layer.dim for layer in found.layers}
    fields["elements"] = _symbols(found.elements)
    for name, value in fields.items():
        fields[name] = list(value) if isinstance(value, tuple) else value
    place = checkpoints.at_hand(found) if checkpoints.needed(found) else None
    fields["weights_here"] = str(place) if place else _weights(found)
    fields["environment"] = environments.state(found)
    print(yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=96), end="")


@app.command("accept")
def accept(name: Name) -> None:
    """Accept the licence of a model's weights where it restricts their use; remembered."""
    from platonic_store.runtimes import trust_store
    from platonic_store.runtimes.cards import resolve

    found = resolve(name)
    if restriction := found.license.get("restriction"):
        trust_store.accept_licence(found.name)
        say(f"accepted for {found.name}: {found.license['weights']}: {restriction}")
    else:
        say(f"{found.name}: nothing to accept ({found.license.get('weights', 'no weights')})")


@app.command("check")
def check(
    name: Name,
    python: PythonOption = None,
    checkpoint: CheckpointOption = None,
    trust: TrustOption = None,
    device: DeviceOption = "auto",
    format: FormatOption = Format.table,
    out: OutOption = None,
) -> None:
    """Run the conformance kit on a model, on this machine; exit code 1 if a check fails."""
    import pandas as pd

    from platonic_store import progress
    from platonic_store.runtimes.conformance import check as conform
    from platonic_store.runtimes.preparation import prepare

    (ready,) = prepare(
        [name], python=by_name(python), checkpoint=by_name(checkpoint), trust=trust or ()
    )
    with progress.counting(f"checking {ready.card.name}", "checks") as advance:
        rows = []
        for result in conform(ready, device=device):
            rows.append(result._asdict())
            advance(1)
    show(pd.DataFrame(rows), format, out)
    if failed := [row["check"] for row in rows if not row["passed"]]:
        complain(f"{ready.card.name} fails {len(failed)} of {len(rows)}: {', '.join(failed)}")
        raise typer.Exit(1)


@app.command("clean")
def clean(
    families: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(help="Families; none: all."),
    ] = None,
) -> None:
    """Remove the environments that were made for families of models."""
    from platonic_store.runtimes import environments

    removed = environments.clean(families or [])
    for name, size in removed:
        say(f"removed {name}: {size:.1f} GB")
    if not removed:
        say("no environment to remove")


def _layers(card) -> str:
    """ "0–4 × 128" where all layers have one dimension, else "0: 128, 1: 64"."""
    dims = {layer.dim for layer in card.layers}
    if len(dims) > 1:
        return ", ".join(f"{layer.index}: {layer.dim}" for layer in card.layers)
    first, last = card.layers[0].index, card.layers[-1].index
    return f"{first if first == last else f'{first}–{last}'} × {dims.pop()}"


def _weights(card) -> str:
    from platonic_store.runtimes import checkpoints

    if card.seed is not None:
        return f"random, seed {card.seed}"
    if not card.downloads:
        return "in its package" if card.checkpoint_sha256 else "none needed"
    if checkpoints.at_hand(card):
        return "here"
    return "to download" if card.checkpoint_sha256 else "to download, then --trust"


def _symbols(numbers) -> str:
    from ase.data import chemical_symbols

    return " ".join(chemical_symbols[number] for number in numbers)
