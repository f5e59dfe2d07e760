"""What a map is drawn from, as gzipped bytes in the order of `rows`: little-endian, no padding."""

import gzip
import json

from platonic_store.explorer import columns, maps, rows
from platonic_store.explorer.rows import cached
from platonic_store.storage import lookup
from platonic_store.storage.layout import Level
from platonic_store.storage.snapshot import Snapshot


@cached
def structures(snapshot: Snapshot) -> bytes:
    """JSON: ids and formulas of all structures."""
    found = rows.structures(snapshot)
    return _packed(json.dumps({"ids": found.ids.to_pylist(), "formulas": found.formulas}).encode())


@cached
def atoms(snapshot: Snapshot) -> bytes:
    """Of each distinct atom uint32 structure, then uint16 site of all, then uint8 atomic number."""
    structure, site, number = rows.atoms(snapshot)
    return _packed(
        structure.astype("<u4").tobytes() + site.astype("<u2").tobytes() + number.tobytes()
    )


def places(snapshot: Snapshot, level: Level, side: str) -> bytes:
    """See `maps.quantised`. Raises: ModelNotFound, LayerNotFound, AnchorsNotFound."""
    return _places(snapshot, level, str(lookup.model_layer(snapshot, side)))


@cached
def _places(snapshot: Snapshot, level: Level, side: str) -> bytes:
    return _packed(maps.quantised(snapshot, level, lookup.model_layer(snapshot, side)))


@cached
def column(snapshot: Snapshot, level: Level, name: str) -> bytes:
    """A byte 0 and float32 values, NaN for none; or a byte 1, the length of the JSON that follows
    as uint32, JSON with names and colours of the codes, and the codes as uint8, 255 for none.

    Raises: InvalidQuery.
    """
    if columns.find(snapshot, level, name).kind == "number":
        return _packed(b"\0" + columns.numbers(snapshot, level, name).astype("<f4").tobytes())
    found = columns.categories(snapshot, level, name)
    names = json.dumps({"names": found.names, "colours": found.colours}).encode()
    return _packed(b"\1" + len(names).to_bytes(4, "little") + names + found.codes.tobytes())


def _packed(content: bytes) -> bytes:
    return gzip.compress(content, compresslevel=5, mtime=0)
