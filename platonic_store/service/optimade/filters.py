"""OPTIMADE's filter language to SQL, by the grammar of optimade-python-tools.

SQL's logic of three values is that of the specification: a comparison with an unknown value does
not match, and neither does its negation.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple

from lark import Lark, Token, Transformer, UnexpectedInput, v_args
from lark.exceptions import VisitError
from optimade.exceptions import BadRequest, NotImplementedResponse, OptimadeHTTPException
from optimade.filterparser.lark_parser import AVAILABLE_PARSERS

from platonic_store.service.optimade.properties import PREFIX, Property
from platonic_store.storage.sqltext import literals

LONGEST = 4_096  # characters: such a filter is parsed in 0.2 s
_DEEPEST = 64  # parentheses within parentheses
_REVERSED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "=", "!=": "!="}
_NUMBERS = ("integer", "float")


class Condition(NamedTuple):
    """A filter as SQL, with what the answer should warn of."""

    sql: str
    warnings: list[str]


class Value(NamedTuple):
    """A constant of a filter, as SQL; its type is string, number or boolean."""

    type: str
    sql: str


def condition(text: str, properties: Mapping[str, Property]) -> Condition:
    """The SQL of a filter; "true" for an empty one.

    Raises: BadRequest, NotImplementedResponse.
    """
    if not text.strip():
        return Condition("true", [])
    if len(text) > LONGEST:
        raise BadRequest(f"the filter has {len(text)} characters, at most {LONGEST} are read")
    if _depth(text) > _DEEPEST:
        raise BadRequest(f"the filter has more than {_DEEPEST} parentheses within each other")
    transformer = _ToSql(properties)
    try:
        sql = transformer.transform(_parser().parse(text))
    except UnexpectedInput as error:
        column = getattr(error, "column", 0)
        raise BadRequest(f"the filter is not understood from its character {column} on") from None
    except VisitError as error:
        if isinstance(error.orig_exc, OptimadeHTTPException):
            raise error.orig_exc from None
        raise
    return Condition(sql, transformer.warnings)


@cache
def _parser() -> Lark:
    """optimade-python-tools' newest grammar, in which TRUE and FALSE can be told apart."""
    grammar = AVAILABLE_PARSERS[max(AVAILABLE_PARSERS)]["default"].read_text()
    return Lark(grammar.replace("\nbool:", "\n!bool:"), maybe_placeholders=False)


def _depth(text: str) -> int:
    depth = deepest = 0
    for character in text:
        depth += {"(": 1, ")": -1}.get(character, 0)
        deepest = max(deepest, depth)
    return deepest


class _ToSql(Transformer[Token, str]):
    """Each rule of the grammar as SQL; of tokens, `children` has those with a name."""

    def __init__(self, properties: Mapping[str, Property]):
        super().__init__()
        self.properties, self.warnings = properties, list[str]()

    def filter(self, children: list[str]) -> str:
        if len(children) != 1:
            raise BadRequest("the filter is several expressions without AND or OR between them")
        return children[0]

    def expression(self, children: list[str]) -> str:
        return _joined(" OR ", children)

    def expression_clause(self, children: list[str]) -> str:
        return _joined(" AND ", children)

    def expression_phrase(self, children: list[Any]) -> str:
        return f"(NOT {children[1]})" if len(children) == 2 else str(children[0])

    @v_args(inline=True)
    def comparison(self, found: str) -> str:
        return found

    # Values

    def string(self, children: list[Token]) -> Value:
        inner = re.sub(r"\\(.)", r"\1", str(children[0])[1:-1], flags=re.DOTALL)
        if "\0" in inner:
            raise BadRequest("a string of the filter has a character that no value has")
        return Value("string", literals([inner]))

    def number(self, children: list[Token]) -> Value:
        return Value("number", _number(str(children[0])))

    def bool(self, children: list[Token]) -> Value:
        return Value("boolean", str(children[0]).lower())

    def signed_int(self, children: list[Token]) -> str:
        return _number(str(children[0]))

    @v_args(inline=True)
    def constant(self, value: Value) -> Value:
        return value

    value = non_string_value = constant

    def not_implemented_string(self, children: list[Any]) -> None:
        raise NotImplementedResponse("two constants are not compared")

    def property(self, names: list[Token]) -> Property | None:
        """The property of a name; None for another provider's, whose values are unknown here."""
        name = str(names[0])
        known = self.properties.get(name)
        if known is None:
            is_foreign = name.startswith("_") and not name.startswith(PREFIX)
            if not is_foreign and not (len(names) > 1 and name in ("references", "structures")):
                raise BadRequest(f"there is no property {name}")
            if is_foreign:
                self.warnings.append(f"{name} is unknown here, and so are its values")
                return None
        if len(names) > 1:
            raise NotImplementedResponse(f"{'.'.join(names)}: names within names are not queried")
        return known

    # Comparisons: the right-hand side is a function of the property

    def property_first_comparison(self, children: list[Any]) -> str:
        one, comparison = children
        return comparison(one) if one is not None or _is_known(comparison) else "NULL::BOOLEAN"

    def constant_first_comparison(self, children: list[Any]) -> str:
        constant, operator, other = children
        if isinstance(other, Value):
            raise NotImplementedResponse("two constants are not compared")
        if other is None:
            return "NULL::BOOLEAN"
        return _compared(other, other.sql, other.type, _REVERSED[operator], constant)

    def value_op_rhs(self, children: list[Any]) -> Callable[[Property], str]:
        operator, value = children
        return lambda one: _compared(one, one.sql, one.type, str(operator), value)

    def known_op_rhs(self, children: list[Any]) -> Callable[[Property | None], str]:
        test = "IS NOT NULL" if children[1] == "KNOWN" else "IS NULL"
        return _Known(test)

    def fuzzy_string_op_rhs(self, children: list[Any]) -> Callable[[Property], str]:
        function = {"CONTAINS": "contains", "STARTS": "starts_with", "ENDS": "ends_with"}
        name, value = function[str(children[0])], children[-1]

        def compare(one: Property) -> str:
            if one.type != "string":
                raise NotImplementedResponse(f"{one.name} is no string")
            return f"{name}({one.sql}, {_operand(one, 'string', value)})"

        return compare

    def length_op_rhs(self, children: list[Any]) -> Callable[[Property], str]:
        operator = str(children[1]) if len(children) == 3 else "="

        def compare(one: Property) -> str:
            _require_list(one)
            return f"(len({one.sql}) {operator} {children[-1]})"

        return compare

    # Sets: a test is one (operator, value), or several for lists side by side

    def value_list(self, children: list[Any]) -> list[list[tuple[str, Any]]]:
        return [[test] for test in _tests(children)]

    def value_zip(self, children: list[Any]) -> list[tuple[str, Any]]:
        return _tests(children)

    def value_zip_list(self, children: list[Any]) -> list[list[tuple[str, Any]]]:
        return children

    def property_zip_addon(self, children: list[Any]) -> list[Property | None]:
        return children

    def set_op_rhs(self, children: list[Any]) -> Callable[[Property], str]:
        quantifier, tests = _quantified(children[1:])
        return lambda one: _has([one], quantifier, tests)

    def set_zip_op_rhs(self, children: list[Any]) -> Callable[[Property], str]:
        others, _, *rest = children
        quantifier, tests = _quantified(rest)

        def compare(one: Property) -> str:
            if None in others:
                return "NULL::BOOLEAN"
            return _has([one, *others], quantifier, tests)

        return compare

    def __default__(self, data: Any, children: list[Any], meta: Any) -> Any:
        raise NotImplementedResponse(f"{data} is not supported in filters")


class _Known:
    """IS KNOWN or IS UNKNOWN, which alone say something of what is unknown."""

    def __init__(self, test: str):
        self.test = test

    def __call__(self, one: Property | None) -> str:
        return f"({'NULL' if one is None else one.sql} {self.test})"


def _is_known(comparison: object) -> bool:
    return isinstance(comparison, _Known)


def _joined(word: str, children: list[str]) -> str:
    return children[0] if len(children) == 1 else f"({word.join(children)})"


def _number(text: str) -> str:
    """A number as DuckDB reads it. Raises NotImplementedResponse for one beyond its range."""
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise NotImplementedResponse(f"{text} is beyond the range of numbers, ±1.8e308")
    is_integer = text.lstrip("+-").isdigit() and abs(value) < 2**62
    return str(int(text)) if is_integer else f"{value!r}::DOUBLE"


def _operand(one: Property, type_: str, value: Any) -> str:
    """What a property (or its items) of a type is compared with.

    Raises: NotImplementedResponse for another type, BadRequest for a time that is none.
    """
    if value is None:  # another provider's property
        return "NULL"
    other = value.type
    if type_ == "timestamp" and isinstance(value, Value) and other == "string":
        return _timestamp(value.sql)
    is_number = type_ in _NUMBERS and other in ("number", *_NUMBERS)
    if not is_number and type_ != other:
        raise NotImplementedResponse(f"{one.name} is of type {type_}, not {other}")
    return str(value.sql)


def _timestamp(literal: str) -> str:
    text = literal[1:-1].replace("''", "'")
    try:
        moment = datetime.fromisoformat(text.upper().replace("Z", "+00:00"))
    except ValueError:
        raise BadRequest(f"{text!r} is no time such as 2026-11-28T12:00:00Z") from None
    if moment.tzinfo is None:
        raise BadRequest(f"{text!r} has no time zone: end it with Z for UTC")
    return f"TIMESTAMPTZ '{moment.astimezone(UTC).isoformat()}'"


def _compared(one: Property, sql: str, type_: str, operator: str, value: Any) -> str:
    """One comparison of a property, or of an item of it."""
    if type_ in ("list", "dictionary"):
        raise NotImplementedResponse(f"{one.name} is a {type_}: ask with HAS or LENGTH")
    if type_ == "boolean" and operator not in ("=", "!="):
        raise NotImplementedResponse(f"{one.name} is true or false: ask with = or !=")
    compared = f"({sql} {operator} {_operand(one, type_, value)})"
    if one.name == "chemical_formula_reduced" and operator == "=" and isinstance(value, Value):
        # Follows from it, and is known without the atoms.
        elements = sorted(set(re.findall("[A-Z][a-z]?", value.sql)))
        return f"(s.elements = [{literals(elements)}]::VARCHAR[] AND {compared})"
    return compared


def _require_list(one: Property) -> None:
    if one.type != "list":
        raise NotImplementedResponse(f"{one.name} is no list")


def _tests(children: list[Any]) -> list[tuple[str, Any]]:
    """Values, each with the operator before it, or "="."""
    tests, operator = [], "="
    for child in children:
        if isinstance(child, Token) and child.type == "OPERATOR":
            operator = str(child)
        else:
            tests.append((operator, child))
            operator = "="
    return tests


def _quantified(children: list[Any]) -> tuple[str, list[list[tuple[str, Any]]]]:
    """ALL, ANY or ONLY and their tests; a single test is ANY."""
    first = children[0]
    if isinstance(first, Token) and first.type in ("ALL", "ANY", "ONLY"):
        return first.type, children[1]
    if isinstance(first, list):
        return "ANY", [first]
    return "ANY", [_tests(children)]


def _has(lists: list[Property], quantifier: str, tests: list[list[tuple[str, Any]]]) -> str:
    """Whether items at the same place of lists pass all tests, any, or no item passes none."""
    for one in lists:
        _require_list(one)
        if one.items is None and one.is_served:
            raise NotImplementedResponse(f"the items of {one.name} are not queried")
    if not all(one.is_served for one in lists):
        return "NULL::BOOLEAN"
    passes = [_passes(lists, test) for test in tests]
    if quantifier == "ONLY":
        none = f"NOT ({_joined(' OR ', passes)})"
        return f"(len({_places(lists[0], none)}) = 0)"
    found = [f"(len({_places(lists[0], one)}) > 0)" for one in passes]
    return _joined(" AND " if quantifier == "ALL" else " OR ", found)


def _places(one: Property, test: str) -> str:
    return f"list_filter(range(1, len({one.sql}) + 1), lambda i_: {test})"


def _passes(lists: list[Property], test: list[tuple[str, Any]]) -> str:
    if len(test) != len(lists):
        raise BadRequest(f"{len(lists)} lists are compared with {len(test)} values")
    parts = [
        _compared(one, f"({one.sql})[i_]", one.items or "", operator, value)
        for one, (operator, value) in zip(lists, test, strict=True)
    ]
    return _joined(" AND ", parts)
