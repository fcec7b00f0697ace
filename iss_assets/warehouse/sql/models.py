"""The SQL models of a folder: one SELECT per file, their columns, their order, their lineage.

Reads and checks the files, with file and line in every error; finds dependencies and column lineage in the SQL itself.
``properties`` reads what ``schema.yml`` says of them, ``build`` runs them.

A model that is wrong never takes the others down: it is listed in `SqlModels.errors`, and so is whatever reads it.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal

import duckdb
import sqlglot
from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import build_scope, traverse_scope
from sqlglot.tokens import TokenType

from iss_assets.schemas.registry import BY_NAME
from iss_assets.shipped import shipped_folder
from iss_assets.warehouse.engine import pin
from iss_assets.warehouse.sql.errors import SqlModelError
from iss_assets.warehouse.sql.jinja import render_sql
from iss_assets.warehouse.sql.properties import (
    FolderProperties,
    ModelTest,
    Properties,
    SingularProperties,
    checked_materialization,
    read_properties,
)

DIALECT: Final = "duckdb"
_NAME: Final = re.compile(r"^[a-z][a-z0-9_]*$")
_TABLE_FUNCTIONS: Final = (exp.GenerateSeries, exp.Unnest)
"""What may stand in a FROM besides tables; anything that reads a file or a network may not."""
_PROPERTIES: Final = ("*.yml", "*.yaml")
_TESTS: Final = "tests"
"""Folder of tests that are a SQL file each (dbt's "singular" tests)."""


@dataclass(frozen=True)
class ModelColumn:
    """One column that a model gives."""

    name: str
    type: str
    """As DuckDB names it."""
    description: str


@dataclass(frozen=True)
class SqlModel:
    """One file of the folder, checked."""

    name: str
    file: str
    """Relative to the folder."""
    group: str
    """The first folder on the way: ``staging`` or ``marts``."""
    description: str
    materialized: Literal["table", "view"]
    columns: tuple[ModelColumn, ...]
    tests: tuple[ModelTest, ...]
    sql: str
    depends_on: tuple[str, ...]
    """Tables and models read, in alphabetical order."""
    version: str
    """A short hash of the SELECT and of how it is materialized; comments and tests do not count."""

    def columns_promised(self, kind: Literal["unique", "not_null"]) -> frozenset[str]:
        """Return the columns for which a test promises this."""
        return frozenset(t.column for t in self.tests if t.kind == kind and t.column is not None)


@dataclass
class SqlModels:
    """Every model of a folder, in an order in which they can be built, and what is wrong with the others."""

    folder: Path
    models: dict[str, SqlModel] = field(default_factory=dict)
    errors: list[SqlModelError] = field(default_factory=list)
    broken: dict[str, SqlModelError] = field(default_factory=dict)
    """The first error of every model that could not be loaded."""
    undocumented: list[SqlModelError] = field(default_factory=list)
    """Models and columns that no ``schema.yml`` describes: no fault, but a gap."""

    def lineage(self, name: str) -> dict[str, list[tuple[str, str]]]:
        """Give, for each column of a model, the (table, column) pairs that it is made from directly.

        A column made of no column, as ``count(*)``, has an empty list.
        """
        # sqlglot's lineage module takes as long to load as everything else here
        from sqlglot.lineage import lineage

        model = self.models[name]
        schema: dict[str, object] = {t: dict(self._columns_of(t)) for t in model.depends_on}
        query = qualify(
            sqlglot.parse_one(model.sql, dialect=DIALECT),
            schema=schema,
            dialect=DIALECT,
            validate_qualify_columns=False,
        )
        scope = build_scope(query)
        # all columns in one walk that shares what it found, and without a trimmed copy of the query a node
        nodes = lineage(
            None, query, schema=schema, scope=scope, dialect=DIALECT, trim_selects=False, copy=False
        )
        found: dict[str, list[tuple[str, str]]] = {}
        for column in model.columns:
            pairs = set()
            for node in nodes[column.name].walk():
                source = node.expression
                if isinstance(source, exp.Table) and source.name in model.depends_on:
                    pairs.add((source.name, node.name.rpartition(".")[2].strip('"')))
            known = {(t, c) for t in model.depends_on for c, _ in self._columns_of(t)}
            found[column.name] = sorted(pairs & known)
        return found

    def with_upstream(self, names: Iterable[str]) -> list[str]:
        """Give these models and every model they stand on, in the order of building."""
        wanted = set(names)
        for name in reversed(self.models):
            if name in wanted:
                wanted.update(d for d in self.models[name].depends_on if d in self.models)
        return [n for n in self.models if n in wanted]

    def _columns_of(self, table: str) -> list[tuple[str, str]]:
        if table in BY_NAME:
            return [(c.name, c.sql) for c in BY_NAME[table].columns()]
        return [(c.name, c.type) for c in self.models[table].columns]


@dataclass
class _Draft:
    """A file on its way to a model."""

    name: str
    file: str
    group: str
    materialized: Literal["table", "view"]
    properties: Properties
    sql: str
    query: exp.Query
    reads: dict[str, int]
    """Table to the line of its first mention."""
    words: str


def check_models(folder: Path) -> list[SqlModelError]:
    """List everything that is wrong with the models of a folder; empty when all is well."""
    return load_models(folder).errors


def load_models(folder: Path) -> SqlModels:
    """Read every model of a folder, with what its YAML files and its ``tests/`` say of them.

    Parameters
    ----------
    folder : Path
        Holds ``staging/`` and ``marts/``, with a ``schema.yml`` in each, and ``tests/``.

    Returns
    -------
    SqlModels
        The models that can be built, and the errors of the others.

    Raises
    ------
    SqlModelError
        If there is no such folder.
    """
    require_models(folder)
    return _load(folder, files_stamp(folder))


def require_models(folder: Path) -> None:
    """Make sure that there is a folder of models; one without files is a choice only where a setting names it.

    Raises
    ------
    SqlModelError
        If there is no such folder, or if the one that comes with the package is empty.
    """
    shipped = folder == shipped_folder("dbt_like_sql")
    mend = (
        "this installation is incomplete, install iss-assets again"
        if shipped
        else "name it with ISS_WAREHOUSE__SQL_DIR"
    )
    if not folder.is_dir():
        raise SqlModelError(folder.name, 1, f"there is no such folder of SQL models; {mend}")
    if shipped and not any(folder.rglob("*.sql")):
        raise SqlModelError(folder.name, 1, f"the folder holds no SQL model; {mend}")


def files_stamp(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Give name, size and modification time of every file of a folder: another stamp, other models."""
    paths = sorted(path for pattern in ("*.sql", *_PROPERTIES) for path in folder.rglob(pattern))
    found = ((path.relative_to(folder).as_posix(), path.stat()) for path in paths)
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in found)


@lru_cache(maxsize=4)
def _load(folder: Path, stamp: object) -> SqlModels:
    """Read a folder; a process that needs its models several times parses them once."""
    result = SqlModels(folder)
    listed = (path for pattern in _PROPERTIES for path in folder.rglob(pattern))
    properties = read_properties(folder, sorted(p for p in listed if p.name != "dbt_project.yml"))
    result.errors += properties.errors
    drafts = _read_drafts(result, properties)
    _check_described(result, drafts, properties)
    _check_references(result, drafts)
    with duckdb.connect(":memory:", config={"enable_external_access": "false"}) as connection:
        pin(connection)
        for table in BY_NAME.values():
            connection.execute(table.ddl())
        for name in _building_order(result, drafts):
            try:
                result.models[name] = _bind(connection, drafts[name], result)
            except SqlModelError as error:
                _add_error(result, name, error)
        _add_singular_tests(result, properties)
        # a test may read any model, so tests come after all of them
        for name in list(result.models):
            try:
                _check_broken_reads(drafts[name], result)
                for test in result.models[name].tests:
                    if not test.fits_any_column:
                        _bind_test(connection, name, test)
            except SqlModelError as error:
                del result.models[name]
                _add_error(result, name, error)
    result.errors.sort(key=lambda e: (e.file, e.line))
    return result


def _add_error(result: SqlModels, name: str, error: SqlModelError) -> None:
    if error not in result.errors:
        result.errors.append(error)
    result.broken.setdefault(name, error)


def _read_drafts(result: SqlModels, properties: FolderProperties) -> dict[str, _Draft]:
    drafts: dict[str, _Draft] = {}
    first_file: dict[str, str] = {}
    for path in sorted(result.folder.rglob("*.sql")):
        file = path.relative_to(result.folder)
        name = path.stem
        if file.parts[0] == _TESTS:
            continue
        try:
            if name in first_file:
                drafts.pop(name, None)
                raise SqlModelError(file, 1, f"{first_file[name]} has the same name; rename one of them")
            first_file[name] = str(file)
            drafts[name] = _read_draft(path, file, properties)
        except SqlModelError as error:
            _add_error(result, name, error)
    return drafts


def _check_described(result: SqlModels, drafts: dict[str, _Draft], properties: FolderProperties) -> None:
    """Report descriptions of models that are not there."""
    known = sorted(set(drafts) | set(result.broken))
    for name, said in properties.models.items():
        if name not in known:
            guess = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {guess[0]}?" if guess else f"; there is no file {name}.sql"
            result.errors.append(SqlModelError(said.file, said.line, f"unknown model {name}{hint}"))


def _read_draft(path: Path, file: Path, properties: FolderProperties) -> _Draft:
    name = path.stem
    if not _NAME.match(name):
        raise SqlModelError(file, 1, "a model's file name is lower-case letters, digits and _")
    if name in BY_NAME:
        raise SqlModelError(file, 1, f"{name} is a table of the warehouse; give the model another name")
    if len(file.parts) < 2:
        raise SqlModelError(file, 1, "a model lies in a folder, staging/ or marts/, which is its group")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SqlModelError(file, 1, "the file cannot be read as UTF-8 text") from error
    for folder, unread in properties.broken_folders.items():
        if file.is_relative_to(folder):
            raise unread
    if name in properties.broken:
        raise properties.broken[name]
    said = properties.models.get(name, Properties())
    rendered = render_sql(text, file)
    own = checked_materialization(rendered.config.get("materialized"), file, 1)
    query, sql, words = _parse_query(rendered.sql, file)
    return _Draft(
        name,
        str(file),
        file.parts[0],
        own or said.materialized or "view",
        said,
        sql,
        query,
        _tables_read(query, file),
        words,
    )


def _add_singular_tests(result: SqlModels, properties: FolderProperties) -> None:
    """Read the tests that are a file each, and give each to a model.

    That is the model its ``config`` or YAML entry names (``meta: {dagster: {ref: {name: ...}}}``, as dagster-dbt has
    it), else the last one built of those it reads: then everything it reads is there.
    """
    found: dict[str, list[ModelTest]] = {}
    files = {path.stem: path for path in sorted((result.folder / _TESTS).rglob("*.sql"))}
    for name, path in files.items():
        file = path.relative_to(result.folder)
        try:
            owner, made = _read_singular(path, file, properties.singular.get(name), result)
        except SqlModelError as error:
            result.errors.append(error)
            continue
        if owner in result.models:
            found.setdefault(owner, []).append(made)
    for name in sorted(properties.singular.keys() - files.keys()):
        result.errors.append(
            SqlModelError(_TESTS, 1, f"test {name} is described, and there is no {name}.sql")
        )
    for name, tests in found.items():
        model = result.models[name]
        taken = {t.name for t in model.tests}
        for test in tests:
            if test.name in taken:
                result.errors.append(
                    SqlModelError(
                        test.file, 1, f"{name} has a test called {test.name} already; rename the file"
                    )
                )
        kept = [t for t in tests if t.name not in taken]
        result.models[name] = replace(model, tests=(*model.tests, *kept))


def _read_singular(
    path: Path, file: Path, said: SingularProperties | None, result: SqlModels
) -> tuple[str, ModelTest]:
    if not _NAME.match(path.stem):
        raise SqlModelError(file, 1, "a test's file name is lower-case letters, digits and _")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SqlModelError(file, 1, "the file cannot be read as UTF-8 text") from error
    rendered = render_sql(text, file)
    query, sql, _ = _parse_query(rendered.sql, file)
    reads = _tables_read(query, file)
    own = _model_named_in(rendered.config)
    model = own or (said.model if said else None)
    if model is None:
        model = next((m for m in reversed(result.models) if m in reads), None)
    if model is None:
        model = next((m for m in reads if m in result.broken), None)
    if model is None or (model not in result.models and model not in result.broken):
        raise SqlModelError(
            file, 1, f"the test belongs to no model: it names {model or ', '.join(reads) or 'nothing'}"
        )
    severity = str(rendered.config.get("severity") or (said.severity if said else None) or "error").lower()
    if severity not in ("error", "warn"):
        raise SqlModelError(file, 1, f"severity is 'error' or 'warn', not {severity!r}")
    description = (said.description if said else "") or "A SELECT that must return no rows."
    # a subquery may not end in a comment that swallows its bracket
    return model, ModelTest(
        path.stem, sql + "\n", description, str(file), 1, "warn" if severity == "warn" else "error"
    )


def _model_named_in(config: Mapping[str, Any]) -> str | None:
    place: Any = config
    for key in ("meta", "dagster", "ref", "name"):
        place = place.get(key) if isinstance(place, Mapping) else None
    return place if isinstance(place, str) else None


def _parse_query(text: str, file: Path) -> tuple[exp.Query, str, str]:
    """Parse the one SELECT of a file; give it with its text, without the last semicolon, and its words alone."""
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
        raise SqlModelError(file, _first_code_line(text), "the file is not a SELECT")
    return statements[0], sql, " ".join(f"{token.token_type.name} {token.text}" for token in tokens)


def _syntax_error(error: SqlglotError, text: str) -> tuple[int, str]:
    details = getattr(error, "errors", [])
    if details:
        return int(details[0]["line"]), f"syntax error at {details[0]['highlight']!r}"
    # the tokenizer names no line; DuckDB's own parser does
    return _duckdb_error(_parser_error(text), shift=0, otherwise=_first_code_line(text))


def _parser_error(text: str) -> Exception:
    try:
        duckdb.extract_statements(text)
    except duckdb.Error as error:
        return error
    return ValueError("the SQL cannot be read: a quote or a comment is not closed")


def _first_code_line(text: str) -> int:
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.strip().startswith("--"):
            return number
    return 1


def _tables_read(query: exp.Query, file: Path | str) -> dict[str, int]:
    """List the tables that a query reads, common table expressions left out, with the line of each."""
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


def _check_references(result: SqlModels, drafts: dict[str, _Draft]) -> None:
    known = set(BY_NAME) | set(drafts) | set(result.broken)
    for name, draft in list(drafts.items()):
        for table, line in draft.reads.items():
            if table not in known:
                guess = difflib.get_close_matches(table, sorted(known), n=1)
                hint = f"; did you mean {guess[0]}?" if guess else ""
                _add_error(result, name, SqlModelError(draft.file, line, f"unknown table {table}{hint}"))
                drafts.pop(name, None)


def _building_order(result: SqlModels, drafts: dict[str, _Draft]) -> list[str]:
    """Order drafts so that each comes after what it reads; cycles become errors."""
    order: list[str] = []
    waiting = dict(drafts)
    while waiting:
        ready = [n for n, d in waiting.items() if not any(t in waiting for t in d.reads)]
        if not ready:
            cycle = _find_cycle(waiting)
            shown = " → ".join([*cycle, cycle[0]])
            for index, name in enumerate(cycle):
                draft = waiting.pop(name)
                line = draft.reads[cycle[(index + 1) % len(cycle)]]
                _add_error(result, name, SqlModelError(draft.file, line, f"models read each other: {shown}"))
        for name in ready:
            order.append(name)
            del waiting[name]
    return order


def _find_cycle(waiting: dict[str, _Draft]) -> list[str]:
    path = [next(iter(waiting))]
    while True:
        following = next(t for t in waiting[path[-1]].reads if t in waiting)
        if following in path:
            return path[path.index(following) :]
        path.append(following)


def _check_broken_reads(draft: _Draft, result: SqlModels) -> None:
    for table, line in draft.reads.items():
        if table in result.broken and table not in BY_NAME:
            raise SqlModelError(draft.file, line, f"reads {table}, which is broken: {result.broken[table]}")


def _bind(connection: duckdb.DuckDBPyConnection, draft: _Draft, result: SqlModels) -> SqlModel:
    """Let DuckDB itself check the SELECT against empty tables, and name the columns' types."""
    _check_broken_reads(draft, result)
    try:
        connection.execute(f'create table "{draft.name}" as\n{draft.sql}\nwith no data')
    except duckdb.Error as error:
        line, problem = _duckdb_error(error, shift=1, otherwise=_first_code_line(draft.sql))
        raise SqlModelError(draft.file, line, problem) from error
    described = connection.execute(f'describe "{draft.name}"').fetchall()
    return SqlModel(
        name=draft.name,
        file=draft.file,
        group=draft.group,
        description=draft.properties.description,
        materialized=draft.materialized,
        columns=_match_columns([(row[0], row[1]) for row in described], draft, result),
        tests=tuple(draft.properties.tests),
        sql=draft.sql,
        depends_on=tuple(sorted(draft.reads)),
        version=_version(draft),
    )


def _version(draft: _Draft) -> str:
    # of the words: another line break or comment makes nothing stale
    return hashlib.sha256(f"{draft.materialized} {draft.words}".encode()).hexdigest()[:16]


def _bind_test(connection: duckdb.DuckDBPyConnection, model: str, test: ModelTest) -> None:
    sql = test.sql.replace("{this}", f'"{model}"')
    try:
        connection.execute(f"select count(*) from ({sql})")
    except duckdb.Error as error:
        # of a test that is a file, DuckDB's line is the file's
        line, problem = _duckdb_error(error, shift=0, otherwise=1)
        own = test.file.startswith(f"{_TESTS}/")
        raise SqlModelError(test.file, line if own else test.line, f"test {test.name}: {problem}") from error


def _match_columns(found: list[tuple[str, str]], draft: _Draft, result: SqlModels) -> tuple[ModelColumn, ...]:
    documented = {c.name: c for c in draft.properties.columns}
    selected = dict(found)
    for column in draft.properties.columns:
        if column.name not in selected:
            raise SqlModelError(
                column.file,
                column.line,
                f"column {column.name} of {draft.name} is described but not selected",
            )
    if not draft.properties.description:
        result.undocumented.append(SqlModelError(draft.file, 1, f"no schema.yml describes {draft.name}"))
    for name in selected:
        if name not in documented or not documented[name].description:
            result.undocumented.append(
                SqlModelError(
                    draft.file,
                    _line_of_column(draft, name),
                    f"column {name} is selected but not described in schema.yml",
                )
            )
    # sums of whole numbers are HUGEINT, which no other program reads
    return tuple(
        ModelColumn(
            name,
            "BIGINT" if kind == "HUGEINT" else kind,
            documented[name].description if name in documented else "",
        )
        for name, kind in found
    )


def _line_of_column(draft: _Draft, name: str) -> int:
    for selected in draft.query.selects:
        if selected.alias_or_name == name:
            lines = [n.meta["line"] for n in selected.walk() if "line" in n.meta]
            return int(max(lines, default=_first_code_line(draft.sql)))
    return _first_code_line(draft.sql)


def _duckdb_error(error: Exception, *, shift: int, otherwise: int) -> tuple[int, str]:
    """Take line and first sentence out of DuckDB's message; `shift` lines were put before the file's first."""
    message = str(error)
    place = re.search(r"^LINE (\d+):", message, re.MULTILINE)
    text = re.sub(r"\s+", " ", message.partition("\n\nLINE")[0]).strip()
    return (int(place.group(1)) - shift if place else otherwise), text
