"""The command `platonic-store`: a file a job; the questions make their own commands."""

import logging
import os
import sys
from typing import Annotated, Optional

import typer

from platonic_store.cli import (
    anchors,
    annotate,
    delete,
    doctor,
    export,
    hints,
    ingest,
    map,
    mcp,
    models,
    picture,
    project,
    report,
    score,
    serve,
    snapshots,
    sql,
    thin,
)
from platonic_store.cli.options import CONTEXT
from platonic_store.cli.output import complain
from platonic_store.cli.questions import Commands

app = typer.Typer(
    name="platonic-store",
    help="What foundation interatomic potentials know of every crystal, in one searchable space.",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings=CONTEXT,
)
app.command("ingest")(ingest.run)
app.add_typer(anchors.app, name="anchors")
app.command("project")(project.run)
app.command("score")(score.run)
app.command("thin")(thin.run)
app.command("map")(map.run)
app.command("annotate")(annotate.run)
app.command("picture")(picture.run)
app.command("report")(report.run)
app.command("export")(export.run)
app.command("sql")(sql.run)
app.command("serve")(serve.run)
app.command("mcp")(mcp.run)
app.add_typer(models.app, name="models")
app.command("delete")(delete.run)
app.command("doctor")(doctor.run)
app.command("snapshots")(snapshots.run)
app.command("pin")(snapshots.pin)
app.command("unpin")(snapshots.unpin)
app.command("copy")(snapshots.copy)


def _print_version(wanted: bool) -> None:
    if wanted:
        from platonic_store import __version__

        print(f"platonic-store {__version__}")
        raise typer.Exit


@app.callback()
def options(
    store: Annotated[
        Optional[str],  # noqa: UP045 — typer reads it
        typer.Option("--store", help="The store, a folder or URL; also after the command."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no remarks.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log commits, workers and recoveries to stderr.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="The version.")
    ] = False,
) -> None:
    from platonic_store import progress

    if store is not None:
        os.environ["PLATONIC_STORE"] = store
    progress.be_quiet(quiet)
    if verbose:
        logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        logging.getLogger("platonic_store").setLevel(logging.INFO)


def main() -> None:
    """Run the command; a user's mistake is one line on stderr and exit code 1."""
    from platonic_store.errors import PlatonicError
    from platonic_store.runtimes.cores import limit_blas

    limit_blas()
    try:
        app()
    except PlatonicError as error:
        complain(hints.line(error))
        sys.exit(1)
    except SystemExit as ended:
        if ended.code == 130:  # typer's, where Ctrl-C was pressed
            complain(
                "stopped; what was committed is kept: the same command again goes on from there"
            )
        raise
    except BrokenPipeError:
        sys.exit(141)
