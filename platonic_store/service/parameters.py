"""A question's parameters as those of a request, checked as they are declared."""

from typing import Annotated, Any, Final, Literal, cast

from annotated_types import Ge, Le
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, create_model

from platonic_store.questions.shared.declaration import REQUIRED, Parameter, Question
from platonic_store.service.settings import Settings

MOST: Final = 2**31 - 1
TEXT: Final = 2_000  # characters
_NO_CONTROLS: Final = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f]*$"

_STRUCTURE: Final = "A structure: an id of the store, or `upload:HASH` of one that was sent."

Text = Annotated[str, StringConstraints(max_length=TEXT, pattern=_NO_CONTROLS)]


class Page(BaseModel):
    """Which part of an answer: `limit` rows from where `cursor` says."""

    model_config = ConfigDict(extra="forbid")

    limit: int
    cursor: Text | None


def page_model(default: int, most: int, name: str = "Page", **fields: Any) -> type[Page]:
    """Fields, and those of `Page` with a service's own limits."""
    limit = Field(default, ge=1, le=most, description="Rows on a page.")
    cursor = Field(None, description="Where `next` of the page before says to go on.")
    base = create_model(name, __config__=ConfigDict(extra="forbid"), **fields)
    ordered = create_model(name, __base__=base, limit=(int, limit), cursor=(Text | None, cursor))
    return cast(type[Page], ordered)


def model_of(
    question: "Question[..., Any]", settings: Settings, *, without: Parameter | None = None
) -> type[Page]:
    """A question's parameters, but for one, and those of a page."""
    name = f"{question.name}_of_structure" if without else question.name
    fields = fields_of(question, without=without)
    return page_model(settings.page_rows, settings.most_rows, name, **fields)


def fields_of(
    question: "Question[..., Any]", *, without: Parameter | None = None
) -> dict[str, Any]:
    """A question's parameters, but for one, as pydantic's fields."""
    return {one.name: _field(one) for one in question.parameters if one is not without}


def _field(one: Parameter) -> tuple[Any, Any]:
    kind: Any = one.type
    if one.choices:
        kind = Literal[one.choices]
    elif kind is str:
        kind = Text
    elif kind is int:
        kind = Annotated[int, Ge(-MOST if one.at_least is None else one.at_least), Le(MOST)]
    elif kind is float:
        kind = Annotated[float, Field(allow_inf_nan=False, ge=one.at_least)]
    if one.is_list:
        kind = Annotated[list[kind], Field(max_length=100)]
    help = _STRUCTURE if one.is_structure else one.help
    if one.default is REQUIRED:
        return kind, Field(description=help)
    default = list(one.default) if one.is_list and one.default is not None else one.default
    return (kind | None if default is None else kind), Field(default, description=help)


def given(parameters: BaseModel, question: "Question[..., Any]") -> dict[str, Any]:
    """The arguments of the question."""
    values = {one.name: getattr(parameters, one.name, None) for one in question.parameters}
    return {name: value for name, value in values.items() if value is not None}
