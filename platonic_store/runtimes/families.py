"""Families from outside this package: folders like those in `ingest/families/`.

Found in `families/` of the configuration folder, in the folders that PLATONIC_STORE_FAMILIES
lists, and through the entry points of installed packages in the group `platonic_store.families`,
each of which names a package whose folder is a family.
"""

import importlib.metadata
import importlib.util
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from platonic_store import errors, resources
from platonic_store.runtimes import user_dirs

ENTRY_POINTS = "platonic_store.families"


def user_families() -> list[Path]:
    """Their folders, each checked. Raises InvalidCard."""
    named = os.environ.get("PLATONIC_STORE_FAMILIES", "").split(os.pathsep)
    folders = [
        *sorted((user_dirs.config() / "families").glob("*/")),
        *(Path(name).absolute() for name in named if name),
        *(_package(entry) for entry in importlib.metadata.entry_points(group=ENTRY_POINTS)),
    ]
    for folder in folders:
        _check(folder)
    return folders


def own_cards_folder() -> Path:
    """Cards of the user's own checkpoints, which families that are known can load."""
    return user_dirs.config() / "cards"


def own_cards(families: Mapping[str, Path]) -> Iterator[tuple[Path, Path]]:
    """Each of the user's own cards with the folder of its family. Raises InvalidCard."""
    for path in sorted(own_cards_folder().glob("*.yaml")):
        family = validate(path, "card")["family"]
        if family not in families:
            raise errors.InvalidCard(f"{path}: there is no family {family}")
        yield path, families[family]


def _package(entry: importlib.metadata.EntryPoint) -> Path:
    """The folder of the package that an entry point names; a package is not imported for it."""
    try:
        found = importlib.util.find_spec(entry.value)
    except ModuleNotFoundError:
        found = None
    if found is None or not found.submodule_search_locations:
        raise errors.InvalidCard(
            f"the entry point {entry.name} of {ENTRY_POINTS} names {entry.value}, "
            "which is not a package",
            "reinstall the package that registered it",
        )
    return Path(next(iter(found.submodule_search_locations)))


def _check(folder: Path) -> None:
    """Raises InvalidCard for a folder that is not a family."""
    cards = sorted(folder.glob("cards/*.yaml"))
    if not (folder / "adapter.py").exists() or not cards:
        raise errors.InvalidCard(
            f"{folder} is not a family of models: it needs adapter.py, environment.yaml and "
            "cards/*.yaml",
            "see docs/families.md",
        )
    validate(folder / "environment.yaml", "environment")
    for path in cards:
        fields = validate(path, "card")
        if fields["family"] != folder.name:
            raise errors.InvalidCard(
                f"{path} says family {fields['family']}, its folder is {folder.name}"
            )
        default = {fields["default_layer"], *fields.get("default_layers", [])}
        if not default <= {layer["index"] for layer in fields["layers"]}:
            raise errors.InvalidCard(f"{path}: the default layer is not among its layers")


def validate(path: Path, schema: str) -> dict[str, Any]:
    """The fields of a YAML file that fits a schema ("card", "environment"). Raises InvalidCard."""
    import jsonschema

    rules = json.loads((resources.folder("ingest") / "schemas" / f"{schema}.json").read_text())
    try:
        fields: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        jsonschema.validate(fields, rules)
    except (OSError, yaml.YAMLError, jsonschema.ValidationError) as error:
        raise errors.InvalidCard(f"{path}: {_reason(error)}") from None
    return fields


def _reason(error: Exception) -> str:
    """One line; of a schema's error the field and what is wrong with it."""
    path = getattr(error, "json_path", "$").removeprefix("$").removeprefix(".")
    message = " ".join(str(getattr(error, "message", None) or error).split())
    return f"{path}: {message}" if path else message
