"""A question's parameters as those of a request, checked as they are declared."""

from typing import Annotated, Any, Final, Literal, TypeVar

from annotated_types import Ge, Le
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, create_model

from platonic_store.questions.shared.declaration import REQUIRED, Parameter, Question

MOST: Final = 2**31 - 1
TEXT: Final = 2_000  # characters
_NO_CONTROLS: Final = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f]*$"

Text = Annotated[str, StringConstraints(max_length=TEXT, pattern=_NO_CONTROLS)]


B = TypeVar("B", bound=BaseModel)


class Page(BaseModel):
    """Which part of an answer."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Ge(1)] = Field(description="Rows on a page.")
    cursor: Annotated[Text | None, Field(description="Where an earlier page said to go on.")] = None


def page_model(default: int, most: int) -> type[Page]:
    """`Page` with a service's own limits."""
    field = Field(default, ge=1, le=most, description="Rows on a page.")
    return create_model("Page", __base__=Page, limit=(int, field))


def model_of(
    question: "Question[..., Any]", base: type[B], *, without: Parameter | None = None
) -> type[B]:
    """A question's parameters, but for one, with those of a base, such as a page's."""
    fields: dict[str, Any] = {
        one.name: _field(one) for one in question.parameters if one is not without
    }
    name = f"{question.name}_of_structure" if without else question.name
    return create_model(name, __base__=base, **fields)


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
    if one.default is REQUIRED:
        return kind, Field(description=one.help)
    default = list(one.default) if one.is_list and one.default is not None else one.default
    return (kind | None if default is None else kind), Field(default, description=one.help)


def given(parameters: BaseModel, question: "Question[..., Any]") -> dict[str, Any]:
    """The arguments of the question."""
    values = {one.name: getattr(parameters, one.name, None) for one in question.parameters}
    return {name: value for name, value in values.items() if value is not None}
