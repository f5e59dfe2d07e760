"""A question's answer as an Arrow table that says what its columns mean."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from platonic_store.questions.shared.declaration import Question
from platonic_store.storage.snapshot import Snapshot

# Of the view `structure`; the other columns are the properties of its source.
STRUCTURE_COLUMNS = {
    "formula": "Its reduced formula.",
    "elements": "Its elements.",
    "nelements": "How many elements it has.",
    "nsites": "How many atoms its cell has.",
    "spacegroup": "The number of its space group.",
    "volume": "Of its cell.",
    "content_hash": "The hash of its cell and atoms.",
    "added_at": "When it came into the store.",
}
_UNITS = {"volume": "Å³"}


def answer(
    snapshot: Snapshot, question: "Question[..., Any]", arguments: Mapping[str, Any]
) -> pa.Table:
    """The rows of an answer. A field's metadata are its meaning and unit.

    Raises: what the question raises.
    """
    found: Any = question.rows(snapshot, **arguments)
    if question.is_value:
        value = found.tolist() if isinstance(found, np.ndarray) else found
        column = pa.array([value], question.schema.types[0])
        return pa.Table.from_arrays([column], schema=question.schema)
    named = [column for column in question.columns if column.name in found]
    own = pa.schema([column.field for column in named])
    table = pa.Table.from_pandas(found, schema=own, preserve_index=False)
    if question.describes:
        table = _described(snapshot, table)
    return table.replace_schema_metadata(None)


def _described(snapshot: Snapshot, table: pa.Table) -> pa.Table:
    """The rows with the columns of the view `structure`, as `Question.__call__` adds them."""
    known = snapshot.described(table["structure_id"].to_pylist())
    for field, column in zip(known.schema, known.columns, strict=True):
        if field.name == "structure_id":
            continue
        name = f"{field.name}_of_source" if field.name in table.column_names else field.name
        table = table.append_column(field.with_name(name).with_metadata(_meaning(field)), column)
    return table


def _meaning(field: pa.Field) -> dict[str, str]:
    meaning = STRUCTURE_COLUMNS.get(field.name, "A property of the source.")
    return {"meaning": meaning} | ({"unit": _UNITS[field.name]} if field.name in _UNITS else {})
