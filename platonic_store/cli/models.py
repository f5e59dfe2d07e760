from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional, cast

import typer

from platonic_store import models
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

if TYPE_CHECKING:
    from platonic_store.runtimes.own_cards import Relation

app = typer.Typer(help="The models that platonic-store knows, and what they need.")
Name = Annotated[str, typer.Argument(help="A model's name or alias.")]


@app.callback(invoke_without_command=True)
def table(
    context: typer.Context, format: FormatOption = Format.table, out: OutOption = None
) -> None:
    """All models: what they are, whether their weights and environments are here."""
    if context.invoked_subcommand is None:
        show(models.table(), format, out)


@app.command("show")
def shown(name: Name) -> None:
    """The whole card of a model, its licence first where it restricts use."""
    import yaml

    fields = models.show(name)
    fields["elements"] = " ".join(fields["elements"])
    print(yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=96), end="")


@app.command("accept")
def accept(name: Name) -> None:
    """Accept the licence of a model's weights where it restricts their use; remembered."""
    card = models.accept(name)
    weights = card.license.get("weights", "no weights")
    if restriction := card.license.get("restriction"):
        say(f"accepted for {card.name}: {weights}: {restriction}")
    else:
        say(f"{card.name}: nothing to accept ({weights})")


@app.command("check")
def check(
    name: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(help="A model's name or alias."),
    ] = None,
    all: Annotated[bool, typer.Option("--all", help="Run it on every model.")] = False,
    python: PythonOption = None,
    checkpoint: CheckpointOption = None,
    trust: TrustOption = None,
    device: DeviceOption = "auto",
    format: FormatOption = Format.table,
    out: OutOption = None,
) -> None:
    """Run the conformance kit on a model, on this machine; exit code 1 if a check fails.

    With neither a name nor --all: what it last found of each model here. --all begins with what was
    never checked in today's environments, then takes what was checked longest ago: start it again
    where it was interrupted.
    """
    if all:
        say("`platonic-store models check` prints what is known so far")
    if all or name is None:
        table = models.check_all(device=device) if all else models.checked()
        show(table, format, out)
        if failed := table.loc[table["failed"] != "", "name"].tolist():
            complain(f"{len(failed)} of {len(table)} fail: {', '.join(failed)}")
            raise typer.Exit(1)
        return
    results = models.check(
        name,
        python=by_name(python),
        checkpoint=by_name(checkpoint),
        trust=trust or (),
        device=device,
    )
    show(results, format, out)
    if failed := results.loc[~results["passed"], "check"].tolist():
        complain(f"{name} fails {len(failed)} of {len(results)}: {', '.join(failed)}")
        raise typer.Exit(1)


@app.command("card")
def card(
    file: Annotated[Path, typer.Argument(help="A checkpoint; it is loaded, which can run code.")],
    name: Annotated[str, typer.Option("--name", prompt="Its name here", help="Its name here.")],
    parent: Annotated[
        str,
        typer.Option(
            "--parent",
            prompt="The model here that it was fine-tuned from",
            help="The model that it comes from, or is like.",
        ),
    ],
    relation: Annotated[
        str,
        typer.Option(
            "--relation",
            help="fine-tuned from, trained from, distilled from; or like: from nothing, by the "
            "same package.",
        ),
    ] = "fine-tuned from",
    training_set: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--training-set", help="What it was trained on; once for each."),
    ] = None,
    modality: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--modality", help="Which of its heads or tasks; by default the parent's."),
    ] = None,
    python: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--python", help="An interpreter that has the packages of its family."),
    ] = None,
) -> None:
    """Write a card for a checkpoint of yours: then its name is a model like any other."""
    path = models.card(
        file,
        name,
        parent=parent,
        relation=cast("Relation", relation),
        training_sets=training_set or (),
        modality=modality,
        python=python,
    )
    say(f"{name}: {path}")


Families = Annotated[list[str], typer.Argument(help="Families, or models of them.")]


@app.command("install")
def install(
    families: Families,
    wheelhouse: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--wheelhouse", help="A folder that `models bundle` filled; no network."),
    ] = None,
) -> None:
    """Make the environments of families now, not on first use."""
    for family, python in models.install(families, wheelhouse=wheelhouse):
        say(f"{family}: {python}")


@app.command("bundle")
def bundle(
    families: Families,
    wheelhouse: Annotated[Path, typer.Option("--wheelhouse", help="The folder to fill.")],
) -> None:
    """Fill a folder with the packages of families, for machines without a network."""
    for family, files in models.bundle(families, wheelhouse):
        say(f"{family}: {files} wheels in {wheelhouse}")


@app.command("lock")
def lock(families: Families) -> None:
    """Write the locks of families anew, from the newest versions that they allow."""
    for path, packages in models.lock(families):
        say(f"{path}: {packages} packages")


@app.command("clean")
def clean(
    families: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(help="Families; none: all."),
    ] = None,
) -> None:
    """Remove the environments that were made for families of models."""
    removed = models.clean(families or ())
    for name, size in removed:
        say(f"removed {name}: {size:.1f} GB")
    if not removed:
        say("no environment to remove")
