"""The models that platonic-store knows, and what of them is on this machine.

```python
from platonic_store import models
models.table()
models.show("mace-omat-0")
models.accept("mace-omat-0")
models.check("sevennet-0")
```

A model is found by its name or an alias, in upper or lower case; `control:random:MODEL:SEED` is a
model with random weights.
"""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from platonic_store.runtimes.cards import Card
    from platonic_store.runtimes.environments import Environment
    from platonic_store.runtimes.own_cards import Relation
    from platonic_store.runtimes.preparation import ByName

__all__ = [
    "accept",
    "bundle",
    "card",
    "cards",
    "check",
    "check_all",
    "checked",
    "clean",
    "install",
    "lock",
    "show",
    "table",
]


def cards() -> list["Card"]:
    """The cards of all models: those of this package, then the user's. Raises InvalidCard."""
    from platonic_store.runtimes.cards import load_cards

    return list(load_cards().values())


def table() -> "pd.DataFrame":
    """All models, one a row.

    Columns: name; kind (trained or control); layers (their indices and dimensions); weights and
    environment (what is on this machine, else what it takes); license (of the weights); elements
    (how many are known); training_sets; lineage; family; default_layer; cutoff_angstrom; aliases.
    Raises InvalidCard.
    """
    import pandas as pd

    from platonic_store.runtimes import environments

    environment_of = {card.family: environments.state(card) for card in cards()}
    rows = [
        {
            "name": card.name,
            "layers": _layers(card),
            "weights": _weights(card),
            "environment": environment_of[card.family],
            "license": card.license.get("weights"),
            "elements": len(card.elements),
            "training_sets": list(card.training_sets),
            "lineage": [f"{each.relation} {each.model}" for each in card.lineage],
            "family": card.family,
            "kind": card.kind,
            "default_layer": card.default_layer,
            "cutoff_angstrom": card.cutoff,
            "aliases": list(card.aliases),
        }
        for card in cards()
    ]
    return pd.DataFrame(rows)


def show(name: str) -> dict[str, Any]:
    """The card of a model, its licence first where it restricts use.

    The fields are those of `ingest/schemas/card.json` that are known, but `layers` is {index:
    dimension} and `elements` are symbols; `weights_here` is where the weights are, else what it
    takes, `environment` likewise; `kit_passed` is when, on which platform, at which versions, with
    which weights and deviations and how fast the conformance kit last passed here, `kit_failed` a
    later time that it did not. Raises ModelNotFound.
    """
    from ase.data import chemical_symbols

    from platonic_store.runtimes import check_records, checkpoints, environments
    from platonic_store.runtimes.cards import resolve

    card = resolve(name)
    fields = {key: value for key, value in card.as_dict().items() if value not in (None, (), {})}
    if "restriction" in card.license:
        fields = {"name": card.name, "license": card.license} | fields
    fields = {key: list(v) if isinstance(v, tuple) else v for key, v in fields.items()}
    local = checkpoints.find_local(card) if checkpoints.requires_download(card) else None
    return (
        fields
        | {
            "layers": {layer.index: layer.dim for layer in card.layers},
            "elements": [chemical_symbols[number] for number in card.elements],
            "weights_here": str(local or _weights(card)),
            "environment": environments.state(card),
        }
        | {f"kit_{how}": record for how, record in check_records.last(card.name).items()}
    )


def accept(name: str) -> "Card":
    """Accept the licence of a model's weights, if it restricts their use; remembered.

    Returns the model's card: `license["restriction"]` is what was accepted. Raises ModelNotFound,
    StoreNotWritable.
    """
    from platonic_store.runtimes import trust_store
    from platonic_store.runtimes.cards import resolve

    card = resolve(name)
    if "restriction" in card.license:
        trust_store.accept_licence(card.name)
    return card


def check(
    name: str,
    *,
    python: "ByName" = None,
    checkpoint: "ByName" = None,
    trust: Iterable[str] = (),
    device: str = "auto",
) -> "pd.DataFrame":
    """Run the conformance kit on a model, on this machine.

    python: an interpreter that has the model's packages. checkpoint: a file or folder of weights.
    trust: SHA-256 of weights that may be loaded. device: "auto", "cpu", "cuda", ….

    Columns: check; passed; measured (in most checks the largest deviation of an atom's vector,
    relative to its norm); tolerance (NaN where `measured` is only reported); remark.

    Raises what `Store.ingest` does for a model that cannot run.
    """
    import pandas as pd

    from platonic_store import progress
    from platonic_store.runtimes import check_records, conformance
    from platonic_store.runtimes.preparation import prepare

    (ready,) = prepare([name], python=python, checkpoint=checkpoint, trust=trust)
    rows = []
    with progress.counting(f"checking {ready.card.name}", "checks") as advance:
        for result in conformance.check(ready, device=device):
            rows.append(result)
            advance(1)
    check_records.remember(ready.card, rows)
    return pd.DataFrame([row._asdict() for row in rows])


def check_all(names: Iterable[str] = (), *, device: str = "auto") -> "pd.DataFrame":
    """Run the conformance kit on all models, or some, with their weights where they are here.

    A model whose weights are not is checked on its real architecture with random ones. What was
    never checked here in the environment that its family has today comes first, then what was
    checked longest ago: a second call goes on where an interrupted one stopped. Returns `checked`,
    in which `failed` says too why a model could not be checked.
    """
    from platonic_store import progress
    from platonic_store.runtimes import check_records
    from platonic_store.runtimes.cards import resolve

    chosen = [resolve(name) for name in names] or cards()
    start, count = time.monotonic(), len(chosen)
    with progress.bar("models checked", count, "models") as advance:
        for done, one in enumerate(sorted(chosen, key=check_records.age), 1):
            progress.note(one.name)
            found = _check_one(one, device)
            advance(1)
            left = (time.monotonic() - start) / done * (count - done) / 60
            progress.say(f"{done} of {count}: {one.name}: {found}; {left:.0f} min left")
    return checked(one.name for one in chosen)


def _check_one(card: "Card", device: str) -> str:
    """Check a model as it can be here; what was found, in words. No failure is raised."""
    from platonic_store.errors import PlatonicError
    from platonic_store.runtimes import check_records, checkpoints
    from platonic_store.runtimes.cards import RANDOM, resolve

    here = not checkpoints.requires_download(card) or checkpoints.find_local(card) is not None
    name = card.name if here else f"{RANDOM}{card.name}"
    try:
        results = check(name, device=device)
    except PlatonicError as error:
        check_records.remember_failure(resolve(name), str(error))
        return f"not checked: {error}"
    failed = results[~results["passed"]]
    reasons = (f"{one.check} ({one.remark})" for one in failed.itertuples())
    return f"fails {', '.join(reasons)}" if len(failed) else f"{len(results)} checks passed"


def checked(names: Iterable[str] = ()) -> "pd.DataFrame":
    """What the conformance kit last found of all models, or some, on this machine: one a row.

    Columns: name; family; weights ("published" or "random"; None where it was never checked);
    failed (the checks, with commas); checks (how many); when; platform; versions; environment_gb
    (files that environments share counted in each); atoms_per_second (up to the default layer; on
    a CPU of one core) and times_calculator (against the package's own, which gives energy and
    forces); layers; then each check with its largest deviation.
    """
    import pandas as pd

    from platonic_store.runtimes import check_records, environments
    from platonic_store.runtimes.cards import resolve

    rows: list[dict[str, Any]] = []
    sizes: dict[str, float] = {}
    for one in [resolve(name) for name in names] or cards():
        environment = environments.Environment.of(one)
        if one.family not in sizes:
            sizes[one.family] = environments.size_gb(environment.folder) or environment.size_gb
        found = check_records.newest(one.name)
        deviations = found.get("deviations", {})
        about = {name: found.get(name) for name in _OF_A_RECORD}
        about |= {
            "failed": ", ".join(found.get("failed", ())),
            "environment_gb": round(sizes[one.family], 2),
            "layers": _layers(one),
        }
        rows.append({"name": one.name, "family": one.family} | about | deviations)
    return pd.DataFrame(rows)


_OF_A_RECORD = (
    "weights",
    "failed",
    "checks",
    "when",
    "platform",
    "versions",
    "environment_gb",
    "atoms_per_second",
    "times_calculator",
)


def card(
    file: "str | Path",
    name: str,
    *,
    parent: str,
    relation: "Relation" = "fine-tuned from",
    training_sets: Iterable[str] = (),
    modality: str | None = None,
    python: "str | Path | None" = None,
) -> "Path":
    """Write a card for a checkpoint of yours, so that its `name` is a model like any other.

    file: the checkpoint, as the parent's package saves it; it is loaded, which can run code.
    parent: the model that it was fine-tuned from (or that `relation` says); "like" for one that was
    trained from nothing with the same package. training_sets: what it was trained on itself.
    modality: which of its heads or tasks, if not the parent's.
    python: an interpreter that has the family's packages. Returns where the card is: correct it
    there. Raises ModelNotFound, InvalidQuery, WeightsNotFound, WorkerFailed, EnvironmentNotReady.
    """
    from platonic_store.runtimes import own_cards

    _, path = own_cards.write(Path(file), name, parent, relation, training_sets, modality, python)
    return path


def install(
    names: Iterable[str], *, wheelhouse: "str | Path | None" = None
) -> list[tuple[str, "Path"]]:
    """Make the environments of families (or of models' families), which a first use would make.

    wheelhouse: a folder that `bundle` filled on a machine like this one: nothing else is read, and
    no network is needed. Returns each family with its interpreter. Raises ModelNotFound,
    EnvironmentNotReady.
    """
    from platonic_store.runtimes import installation

    place = None if wheelhouse is None else Path(wheelhouse)
    made = []
    for environment in _environments(names):
        if not environment.is_installed():
            installation.install(environment, place)
        made.append((environment.family, environment.interpreter))
    return made


def bundle(names: Iterable[str], wheelhouse: "str | Path") -> list[tuple[str, int]]:
    """Fill a folder with the packages of families, for `install` on a machine without a network.

    The machine must have the same Python and platform as this one. Weights are not among them.
    Returns each family with its number of files. Raises ModelNotFound, EnvironmentNotReady.
    """
    from platonic_store.runtimes import wheelhouses
    from platonic_store.runtimes.installers import installer

    return [
        (each.family, wheelhouses.fill(each, installer(), Path(wheelhouse)))
        for each in _environments(names)
    ]


def lock(names: Iterable[str]) -> list[tuple["Path", int]]:
    """Write the lock of families anew: the newest versions on PyPI that their specification allows.

    Returns each lock with its number of packages. It is made by uv. Raises ModelNotFound,
    EnvironmentNotReady.
    """
    from platonic_store.runtimes import locks
    from platonic_store.runtimes.installers import installer

    return [(each.lock_file, locks.write(each, installer())) for each in _environments(names)]


def _environments(names: Iterable[str]) -> list["Environment"]:
    """The environments of families, or of models."""
    from platonic_store.runtimes.cards import resolve
    from platonic_store.runtimes.environments import Environment

    by_family = {card.family: card for card in cards()}
    chosen = [by_family.get(name) or resolve(name) for name in names]
    return list({each.family: Environment.of(each) for each in chosen}.values())


def clean(families: Iterable[str] = ()) -> list[tuple[str, float]]:
    """Remove the environments that were created for families, or for all if none is named.

    Returns the name of each and its size in GB. Raises EnvironmentNotReady if a named family has
    no environment.
    """
    from platonic_store.runtimes import installation

    return installation.remove(list(families))


def _layers(card: "Card") -> str:
    """ "0–4 × 128" where all layers have one dimension, else "0: 128, 1: 64"."""
    dims = {layer.dim for layer in card.layers}
    if len(dims) > 1:
        return ", ".join(f"{layer.index}: {layer.dim}" for layer in card.layers)
    first, last = card.layers[0].index, card.layers[-1].index
    return f"{first if first == last else f'{first}–{last}'} × {dims.pop()}"


def _weights(card: "Card") -> str:
    from platonic_store.runtimes import checkpoints

    if card.seed is not None:
        return f"random, seed {card.seed}"
    if card.own_checkpoint:
        return "here" if checkpoints.find_local(card) else "a file of yours"
    if not card.downloads:
        return "in its package" if card.checkpoint_sha256 else "none needed"
    if checkpoints.find_local(card):
        return "here"
    return "to download" if card.checkpoint_sha256 else "to download, then to trust"
