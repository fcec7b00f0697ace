"""The three dbt functions that a SQL file may use: ``ref``, ``source`` and ``config``.

Plain table names work as well, because dependencies are read from the SQL. The functions are supported so that models written
for dbt load as they are. Jinja statements, variables and macros are not supported: they need dbt itself.
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
    """A SQL file without Jinja, with the same line numbers.

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
    """Replace ``{{ ref('x') }}`` and ``{{ source('s', 'x') }}`` by the table's name, and remove ``{{ config(...) }}``.

    Parameters
    ----------
    text : str
        The file's text.
    file : Path or str
        Its name in errors.

    Raises
    ------
    SqlModelError
        If there is any other Jinja, with its line.
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
                    out.append(_render_call(environment, source_text, file, began))
                    out.append("\n" * source_text.count("\n"))
                    call = None
            elif kind == "data":
                out.append(value)
            else:
                # a comment is removed, its line breaks stay
                out.append("\n" * value.count("\n"))
    except TemplateSyntaxError as error:
        raise SqlModelError(file, error.lineno, f"Jinja: {error.message}") from error
    return Rendered("".join(out), config)


def _render_call(environment: ImmutableSandboxedEnvironment, call: str, file: Path | str, line: int) -> str:
    try:
        return str(environment.from_string(call).render())
    except (TemplateError, TypeError, ValueError) as error:
        raise SqlModelError(
            file, line, f"only ref(), source() and config() are supported in Jinja: {call[:60]!r}"
        ) from error


def _name(names: tuple[str, ...]) -> str:
    name = names[-1] if names else ""
    if not _TABLE.match(name):
        raise ValueError(name)
    return name
