"""The views and macros that queries name, each made when a query first names it."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import duckdb
from ase.data import chemical_symbols

from platonic_store.resources import folder
from platonic_store.storage import bulk

_CREATED = re.compile(r"CREATE OR REPLACE (?:VIEW|MACRO) (\w+)")
# What lists views without naming them.
_LISTING = re.compile(r"show|summarize|information_schema|(?:duckdb|pg|sqlite)_\w+|pragma\w*")


def named(sql: str | None) -> list[str]:
    """The views and macros that a query needs, in the order in which to make them; all if None."""
    words = _words("show" if sql is None else sql)
    order = [*bulk.SCHEMAS, *_statements()]
    if any(_LISTING.fullmatch(word) for word in words):
        return order
    wanted = words & {*order}
    return [name for name in order if name in wanted | _needed(frozenset(wanted))]


def statement(name: str, row_files: Mapping[str, Sequence[str | Path]]) -> str:
    """SQL that makes one of them. row_files: the files of each table of bulk rows."""
    if name in row_files:
        return bulk.view(name, row_files[name], row_files[bulk.DELETED])
    return _statements()[name]


def script(row_files: Mapping[str, Sequence[str | Path]]) -> str:
    """SQL that makes all of them."""
    return "".join(f"{statement(name, row_files)};\n" for name in named(None))


@lru_cache(maxsize=256)
def _needed(names: frozenset[str]) -> frozenset[str]:
    """What some of them are made of, and that of what, …"""
    texts = (re.sub("--.*", "", _statements().get(name, "")) for name in names)
    more = names.union(*map(_words, texts))
    more &= {*_statements(), *bulk.SCHEMAS}
    return more if more == names else _needed(more)


@lru_cache(maxsize=1)
def _statements() -> dict[str, str]:
    """By name, in an order in which they can be made."""
    found = {"element_symbol": _element_symbol()}
    for one in duckdb.extract_statements((folder("queries") / "views.sql").read_text()):
        created = _CREATED.search(one.query)
        assert created is not None, one.query
        found[created[1]] = one.query.strip().removesuffix(";")
    return found


def _words(sql: str) -> set[str]:
    return {*re.findall(r"\w+", sql.lower())}


def _element_symbol() -> str:
    """SQL that defines `element_symbol(atomic_number)`."""
    symbols = ", ".join(f"'{symbol}'" for symbol in chemical_symbols[1:])
    return f"CREATE OR REPLACE MACRO element_symbol(z) AS ([{symbols}])[z]"
