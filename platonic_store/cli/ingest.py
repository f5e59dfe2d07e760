from typing import Annotated, Literal, Optional

import typer

from platonic_store.cli.options import (
    DEFAULT_STORE,
    CheckpointOption,
    DeviceOption,
    Format,
    FormatOption,
    OutOption,
    PythonOption,
    RayOption,
    StoreOption,
    TrustOption,
    by_name,
)
from platonic_store.cli.output import say, show


def run(
    source: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(help="A file, a folder or `builtin:aflow-prototypes`; none: all in store."),
    ] = None,
    model: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--model", "-m", help="Embed with this model; may be given several times."),
    ] = None,
    layers: Annotated[
        str, typer.Option(help="default, first, last, all, or indices such as 0,2.")
    ] = "default",
    outputs: Annotated[
        str, typer.Option(help="Store the model's predictions too: energy, or energy,forces.")
    ] = "",
    input_format: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--input-format", help="Format of the source, where its name does not tell."),
    ] = None,
    python: PythonOption = None,
    checkpoint: CheckpointOption = None,
    trust: TrustOption = None,
    device: DeviceOption = "auto",
    batch_atoms: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Atoms in one forward; by default what suits the device."),
    ] = None,
    store_dtype: Annotated[
        Optional[Literal["float32", "float16"]],  # noqa: UP045
        typer.Option(help="How vectors of models that are new here are stored; default: float32."),
    ] = None,
    ray: RayOption = None,
    num_cpus: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Cores, and so workers, of one actor of the cluster; default: 1."),
    ] = None,
    num_gpus: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(min=0, help="GPUs of one actor of the cluster; default: 0."),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    format: FormatOption = Format.table,
    out: OutOption = None,
) -> None:
    """Read crystals and embed them with one model or several.

    The same command again resumes, and does nothing where all is done.
    """
    import pandas as pd

    from platonic_store.errors import InvalidQuery
    from platonic_store.store import Store

    if source is None and not model:
        raise InvalidQuery("nothing to do: name a source, a `--model`, or both")
    opened = Store.open(store)
    report, runs = opened.ingest(
        source,
        model or (),
        layers=layers,
        outputs=outputs,
        format=input_format,
        python=by_name(python),
        checkpoint=by_name(checkpoint),
        trust=trust or (),
        device=device,
        batch_atoms=batch_atoms,
        store_dtype=store_dtype,
        ray=ray,
        num_cpus=num_cpus,
        num_gpus=num_gpus,
    )
    if report is not None:
        say(
            f"{report.source}: {report.new} new structures, {report.known} already here, "
            f"{report.rejected} in quarantine"
        )
    if not model:
        say("embed them with `platonic-store ingest --model sevennet-0`")
    else:
        show(pd.DataFrame([done._asdict() for done in runs]), format, out)
    for done in runs:
        if not done.run:
            say(f"{done.model}: nothing new to embed")
    if (report and report.rejected) or any(done.rejected for done in runs):
        say('why: platonic-store sql "SELECT record, model, reason FROM quarantine"')
