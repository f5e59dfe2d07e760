"""Commands made from the declarations of questions: positional parameters are arguments."""

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import typer
import typer.core
import typer.main

from platonic_store.cli.options import (
    CONTEXT,
    DEFAULT_STORE,
    AtOption,
    ColumnsOption,
    Format,
    FormatOption,
    OutOption,
    StoreOption,
)

_SHORT = {"model": ["-m"], "k": ["-k"]}
_SHARED = {
    "store": (StoreOption, DEFAULT_STORE),
    "at": (AtOption, None),
    "columns": (ColumnsOption, None),
    "format": (FormatOption, Format.table),
    "out": (OutOption, None),
}
PictureOption = Annotated[
    Optional[Path],  # noqa: UP045 — typer reads it
    typer.Option("--picture", help="Draw the answer into this file (.png, .svg or .pdf)."),
]


def command(name: str) -> Callable[..., None]:
    """The function behind `platonic-store NAME`, as typer reads it."""
    from platonic_store import questions

    question = questions.get(name)
    names = {one.name for one in question.parameters}
    parameters = [_typer_parameter(one, names) for one in question.parameters]
    shared = dict(_SHARED)
    if question.picture:
        shared = {"picture": (PictureOption, None), **shared}

    def run(**given: Any) -> None:
        front = {option: given.pop(option) for option in shared}
        _ask(name, {key: value for key, value in given.items() if value is not None}, **front)

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters += [
        inspect.Parameter(option, keyword, default=default, annotation=annotation)
        for option, (annotation, default) in shared.items()
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__doc__ = question.description
    return run


def _ask(
    name: str,
    given: dict[str, Any],
    *,
    store: str,
    at: int | None,
    columns: str | None,
    format: Format,
    out: Path | None,
    picture: Path | None = None,
) -> None:
    from platonic_store import questions
    from platonic_store.cli.output import save, say, show
    from platonic_store.questions.shared.declaration import asked_of
    from platonic_store.store import Store

    question, opened = questions.get(name), Store.open(store, at=at)
    if format is Format.parquet and out is not None and picture is None:
        known = save(opened.answer_in_parts(question, **given), out, columns)
    else:
        answer = asked_of(opened, question)(**given)
        if picture is not None:
            module, _, function = question.picture.partition(":")
            getattr(importlib.import_module(module), function)(answer, picture)
            say(f"wrote {picture}")
        if question.is_value:
            known, shown, answer = {}, [name], question.table(answer)
        else:
            known, shown = answer.attrs, question.brief(answer.columns, given.get("where", ""))
        show(answer, format, out, columns=columns, first=shown)
    for what, number in known.items():
        say(f"{what} {number}")
    if question.caveat:
        say(question.caveat)


def _typer_parameter(parameter: Any, names: set[str]) -> inspect.Parameter:
    """A declared parameter as typer knows it. names: of all that the question has.

    Several models are named by --model too, as by the jobs, where that is nothing else.
    """
    from platonic_store.questions.shared.declaration import REQUIRED

    kind: Any = Literal[parameter.choices] if parameter.choices else parameter.type
    if parameter.is_list:
        kind = list[parameter.type]
    default = parameter.default
    if parameter.is_list and default is not REQUIRED:
        default = None
    if default is None:
        kind = Optional[kind]  # noqa: UP045 — typer reads it
    limits = {} if parameter.at_least is None else {"min": parameter.at_least}
    if parameter.type is int and limits:
        limits["min"] = int(limits["min"])
    if parameter.is_positional:
        info: Any = typer.Argument(help=parameter.help, **limits)
    else:
        flag = f"--{parameter.name.replace('_', '-')}"
        short = _SHORT.get(parameter.name, [])
        if parameter.name == "models" and "model" not in names:
            short = ["--model", "-m"]
        flags = short if parameter.name == "k" else [flag, *short]
        info = typer.Option(*flags, help=parameter.help, **limits)
    return inspect.Parameter(
        parameter.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind, info],
    )


class QuestionCommand(typer.core.TyperCommand):
    """A question's command, whose module is imported when the command runs or is described."""

    def __init__(self, name: str, summary: str):
        super().__init__(name, help=summary)
        self.question = name.replace("-", "_")

    def loaded(self) -> Any:
        """The whole command."""
        app = typer.Typer(add_completion=False, context_settings=CONTEXT)
        app.command(self.name)(command(self.question))
        return typer.main.get_command(app)

    def make_context(self, info_name: Any, args: Any, parent: Any = None, **extra: Any) -> Any:
        return self.loaded().make_context(info_name, args, parent, **extra)


class Commands(typer.core.TyperGroup):
    """The jobs, which are written as commands, and every question, in one list."""

    def list_commands(self, ctx: Any) -> list[str]:
        from platonic_store import questions

        written = super().list_commands(ctx)
        asked = [name.replace("_", "-") for name in questions.names()]
        return [*written, *(name for name in asked if name not in written)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        from platonic_store import questions

        written = super().get_command(ctx, cmd_name)
        name = cmd_name.replace("-", "_")
        if written is not None or name not in questions.names():
            return written
        return QuestionCommand(cmd_name, questions.summary(name))
