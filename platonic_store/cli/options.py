"""Options that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Optional

import typer


class Format(StrEnum):
    table = "table"
    json = "json"
    csv = "csv"
    parquet = "parquet"


CONTEXT = {"help_option_names": ["-h", "--help"]}
StoreOption = Annotated[
    str,
    typer.Option(
        "--store",
        envvar="PLATONIC_STORE",
        help="The store: a folder, s3://, gs://, az://, https://.",
    ),
]
AtOption = Annotated[
    Optional[int],  # noqa: UP045 — typer reads it
    typer.Option("--at", help="The number of an earlier snapshot; see `snapshots`."),
]
FormatOption = Annotated[
    Format, typer.Option("--format", help="How results are printed (parquet: to --out or a pipe).")
]
OutOption = Annotated[
    Optional[Path],  # noqa: UP045 — typer reads it
    typer.Option("--out", dir_okay=False, help="Write the result here instead of to the terminal."),
]
ColumnsOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--columns", help="Columns to show, with commas between, or `all`."),
]
SpaceOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--space", help="A shared space or recipe; by default the newest that fits."),
]
PythonOption = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--python", help="An interpreter that has the models' packages, or FAMILY=PATH for each."
    ),
]
RayOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--ray", help="On a Ray cluster: auto, HOST:PORT, or local; see docs/cluster.md."),
]
CheckpointOption = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--checkpoint", help="Weights on this machine (a file or folder), or MODEL=PATH for each."
    ),
]
TrustOption = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--trust", help="SHA-256 of weights to load though no card names it; remembered."),
]
ReferencesOption = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--reference", help="NAME=URI, a store that questions may compare with; once for each."
    ),
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 …")]
DEFAULT_STORE = "platonic.store"


def references(values: list[str] | None) -> dict[str, str]:
    """The stores that `NAME=URI` names. Raises InvalidQuery for anything else."""
    from platonic_store.errors import InvalidQuery

    pairs = [value.partition("=") for value in values or ()]
    for name, _, uri in pairs:
        if not name or not uri or "/" in name:
            raise InvalidQuery(f"--reference {name}: write --reference NAME=URI")
    return {name: uri for name, _, uri in pairs}


def by_name(values: list[str] | None) -> str | dict[str, str] | None:
    """`PATH` for all, or `NAME=PATH` for each. Raises InvalidQuery for a mixture."""
    from platonic_store.errors import InvalidQuery

    if not values:
        return None
    named = [value.partition("=") for value in values]
    if all(separator for _, separator, _ in named):
        return {name: path for name, _, path in named}
    if len(values) > 1:
        raise InvalidQuery(f"{' '.join(values)}: one PATH for all, or NAME=PATH for each")
    return values[0]
