"""The three functions of dbt that a SQL file may use: ``ref``, ``source`` and ``config``.

Plain table names do as well: what a model reads is found in the SQL. The functions are there so that models written
for dbt load as they are. Jinja statements, variables and macros are not: they would need dbt itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from iss_assets.warehouse.sql.errors import SqlModelError

_TABLE: Final = re.compile(r"^\w+$")


@dataclass
class Rendered:
    """A SQL file without Jinja; its lines are those of the file.

    Attributes
    ----------
    sql : str
        The text.
    config : dict
        Keyword arguments of ``config()``.
    """

    sql: str
    config: dict[str, Any] = field(default_factory=dict)


def render_sql(text: str, file: Path | str) -> Rendered:
    """Replace ``{{ ref('x') }}``, ``{{ source('s', 'x') }}`` by the table's name and take ``{{ config(...) }}`` out.

    Parameters
    ----------
    text : str
        The file's text.
    file : Path or str
        Its name in errors.

    Raises
    ------
    SqlModelError
        At anything else of Jinja, with its line.
    """
    if "{{" not in text and "{%" not in text and "{#" not in text:
        return Rendered(text)
    config: dict[str, Any] = {}

    def ref(*names: str, **_: Any) -> str:
        return _name(names)

    def source(_source: str, table: str) -> str:
        return _name((table,))

    def configure(**arguments: Any) -> str:
        config.update(arguments)
        return ""

    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined)
    environment.globals = {"ref": ref, "source": source, "config": configure}

    out: list[str] = []
    call: list[str] | None = None
    try:
        for line, kind, value in environment.lex(text):
            if kind == "block_begin":
                raise SqlModelError(
                    file, line, "Jinja statements ({% ... %}) are not supported; write the SQL out"
                )
            if kind == "variable_begin":
                call, began = [], line
            if call is not None:
                call.append(value)
                if kind == "variable_end":
                    source_text = "".join(call)
                    out.append(_called(environment, source_text, file, began))
                    out.append("\n" * source_text.count("\n"))
                    call = None
            elif kind == "data":
                out.append(value)
            else:
                # a comment goes, and its lines stay
                out.append("\n" * value.count("\n"))
    except TemplateSyntaxError as error:
        raise SqlModelError(file, error.lineno, f"Jinja: {error.message}") from error
    return Rendered("".join(out), config)


def _called(environment: ImmutableSandboxedEnvironment, call: str, file: Path | str, line: int) -> str:
    try:
        return str(environment.from_string(call).render())
    except (TemplateError, TypeError, ValueError) as error:
        raise SqlModelError(
            file, line, f"of Jinja only ref(), source() and config() are supported: {call[:60]!r}"
        ) from error


def _name(names: tuple[str, ...]) -> str:
    name = names[-1] if names else ""
    if not _TABLE.match(name):
        raise ValueError(name)
    return name
