"""The command `platonic-store`: one file a verb, and nothing that the Python API cannot do."""

import sys

import typer

from platonic_store.cli import (
    align,
    analogy,
    anchors,
    annotate,
    bias,
    delete,
    disagreement,
    doctor,
    ingest,
    models,
    neighbours,
    outliers,
    picture,
    project,
    report,
    score,
    similar,
    sql,
    stitch,
    transport,
    typicality,
)
from platonic_store.cli.output import complain

app = typer.Typer(
    name="platonic-store",
    help="What foundation interatomic potentials know of every crystal, in one searchable space.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("ingest")(ingest.run)
app.add_typer(anchors.app, name="anchors")
app.command("project")(project.run)
app.command("similar")(similar.run)
app.command("neighbours")(neighbours.run)
app.command("align")(align.run)
app.command("analogy")(analogy.run)
app.command("transport")(transport.run)
app.command("stitch")(stitch.run)
app.command("score")(score.run)
app.command("outliers")(outliers.run)
app.command("typicality")(typicality.run)
app.command("disagreement")(disagreement.run)
app.command("bias")(bias.run)
app.command("annotate")(annotate.run)
app.command("picture")(picture.run)
app.command("report")(report.run)
app.command("sql")(sql.run)
app.add_typer(models.app, name="models")
app.command("delete")(delete.run)
app.command("doctor")(doctor.run)


def main() -> None:
    """Run the command; a user's mistake is one line on stderr and exit code 1."""
    from platonic_store.cli import hints
    from platonic_store.errors import PlatonicError

    try:
        app()
    except PlatonicError as error:
        complain(hints.line(error))
        sys.exit(1)
    except KeyboardInterrupt:
        complain("stopped; what was committed is kept: the same command again goes on from there")
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)
