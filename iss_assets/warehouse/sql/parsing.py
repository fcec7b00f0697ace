"""One SELECT from its text: parsed, with the tables that it reads and the line of every error."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import duckdb
from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.scope import traverse_scope
from sqlglot.tokens import TokenType

from iss_assets.warehouse.sql.errors import SqlModelError

DIALECT: Final = "duckdb"
_TABLE_FUNCTIONS: Final = (exp.GenerateSeries, exp.Unnest)
"""Table functions that a FROM may use; none that reads a file or the network."""


def parse_query(text: str, file: Path) -> tuple[exp.Query, str, str]:
    """Parse the one SELECT of a file.

    Returns
    -------
    (sqlglot.exp.Query, str, str)
        The query, its text without the last semicolon, and its tokens without comments and line breaks.

    Raises
    ------
    SqlModelError
        At a syntax error, a second statement, or anything but a SELECT.
    """
    try:
        dialect = Dialect.get_or_raise(DIALECT)
        tokens = dialect.tokenize(text)
        ends = [i for i, t in enumerate(tokens) if t.token_type == TokenType.SEMICOLON]
        if ends and ends[0] < len(tokens) - 1:
            raise SqlModelError(
                file, tokens[ends[0]].line, "one file is one SELECT; there is more after this semicolon"
            )
        sql = text[: tokens[ends[0]].start] if ends else text.rstrip()
        tokens = tokens[: ends[0]] if ends else tokens
        statements = dialect.parser().parse(tokens, text)
    except SqlglotError as error:
        raise SqlModelError(file, *_syntax_error(error, text)) from error
    if not statements or not isinstance(statements[0], exp.Query):
        raise SqlModelError(file, first_code_line(text), "the file is not a SELECT")
    return statements[0], sql, " ".join(f"{token.token_type.name} {token.text}" for token in tokens)


def _syntax_error(error: SqlglotError, text: str) -> tuple[int, str]:
    details = getattr(error, "errors", [])
    if details:
        return int(details[0]["line"]), f"syntax error at {details[0]['highlight']!r}"
    # the tokenizer gives no line; DuckDB's own parser does
    return duckdb_error(_parser_error(text), shift=0, otherwise=first_code_line(text))


def _parser_error(text: str) -> Exception:
    try:
        duckdb.extract_statements(text)
    except duckdb.Error as error:
        return error
    return ValueError("the SQL cannot be read: a quote or a comment is not closed")


def first_code_line(text: str) -> int:
    """Return the first line that is neither empty nor a comment."""
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.strip().startswith("--"):
            return number
    return 1


def tables_read(query: exp.Query, file: Path | str) -> dict[str, int]:
    """Return the tables that a query reads, without common table expressions, and the line of each.

    Raises
    ------
    SqlModelError
        If it reads a file, a table function, or a table of another schema.
    """
    reads: dict[str, int] = {}
    for scope in traverse_scope(query):
        for source in scope.sources.values():
            if not isinstance(source, exp.Table):
                continue
            line = int(source.this.meta.get("line", 1)) if source.this else 1
            if isinstance(source.this, _TABLE_FUNCTIONS):
                continue
            if not isinstance(source.this, exp.Identifier):
                raise SqlModelError(
                    file,
                    line,
                    f"a model reads tables of the warehouse only, not {source.this.sql(dialect=DIALECT)[:40]!r}",
                )
            if source.db or source.catalog:
                raise SqlModelError(
                    file,
                    line,
                    f"name the table plainly: {source.name}, without {source.db or source.catalog}.",
                )
            reads.setdefault(source.name, line)
    return reads


def duckdb_error(error: Exception, *, shift: int, otherwise: int) -> tuple[int, str]:
    """Return line and first sentence of DuckDB's message; `shift` lines were added before the file's first."""
    message = str(error)
    place = re.search(r"^LINE (\d+):", message, re.MULTILINE)
    text = re.sub(r"\s+", " ", message.partition("\n\nLINE")[0]).strip()
    return (int(place.group(1)) - shift if place else otherwise), text
