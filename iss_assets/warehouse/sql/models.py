"""The SQL models of a folder: one SELECT per file, their columns, their building order, their lineage.

Reads and checks the files, with file and line in every error. ``parsing`` reads a SELECT, ``properties`` what ``schema.yml``
says about the models, ``build`` runs them. A model with an error never takes the others down: it is listed in
`SqlModels.errors`, and so is every model that reads it.
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
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import build_scope

from iss_assets.schemas.registry import BY_NAME
from iss_assets.shipped import shipped_folder
from iss_assets.warehouse.engine import pin
from iss_assets.warehouse.sql.data_tests import ModelTest
from iss_assets.warehouse.sql.errors import SqlModelError
from iss_assets.warehouse.sql.jinja import render_sql
from iss_assets.warehouse.sql.parsing import DIALECT, duckdb_error, first_code_line, parse_query, tables_read
from iss_assets.warehouse.sql.properties import (
    FolderProperties,
    Properties,
    SingularProperties,
    checked_materialization,
    read_properties,
)

_NAME: Final = re.compile(r"^[a-z][a-z0-9_]*$")
_PROPERTIES: Final = ("*.yml", "*.yaml")
_TESTS: Final = "tests"
"""Folder of tests that are SQL files (dbt's "singular" tests)."""


@dataclass(frozen=True)
class ModelColumn:
    """One column of a model."""

    name: str
    type: str
    """Type, as DuckDB names it."""
    description: str


@dataclass(frozen=True)
class SqlModel:
    """One file of the folder, checked."""

    name: str
    file: str
    """Relative to the folder."""
    group: str
    """The first folder of its path: ``staging`` or ``marts``."""
    description: str
    materialized: Literal["table", "view"]
    columns: tuple[ModelColumn, ...]
    tests: tuple[ModelTest, ...]
    sql: str
    depends_on: tuple[str, ...]
    """Tables and models read, in alphabetical order."""
    version: str
    """A short hash of the SELECT and its materialization, without comments and tests."""

    def columns_promised(self, kind: Literal["unique", "not_null"]) -> frozenset[str]:
        """Return the columns that a test requires to be so."""
        return frozenset(t.column for t in self.tests if t.kind == kind and t.column is not None)


@dataclass
class SqlModels:
    """Every model of a folder, in building order, and the errors of the others."""

    folder: Path
    models: dict[str, SqlModel] = field(default_factory=dict)
    errors: list[SqlModelError] = field(default_factory=list)
    broken: dict[str, SqlModelError] = field(default_factory=dict)
    """The first error of every model that could not be loaded."""
    undocumented: list[SqlModelError] = field(default_factory=list)
    """Models and columns that no ``schema.yml`` describes; these are gaps, not errors."""

    def lineage(self, name: str) -> dict[str, list[tuple[str, str]]]:
        """Return, for each column of a model, the (table, column) pairs that it is computed from directly.

        A column that is computed from none, as ``count(*)``, has an empty list.
        """
        model = self.models[name]
        sources = tuple((table, tuple(self._columns_of(table))) for table in model.depends_on)
        found = _lineage(model.sql, tuple(column.name for column in model.columns), sources)
        return {column: list(pairs) for column, pairs in found.items()}

    def with_upstream(self, names: Iterable[str]) -> list[str]:
        """Return these models and every model upstream of them, in building order."""
        wanted = set(names)
        for name in reversed(self.models):
            if name in wanted:
                wanted.update(d for d in self.models[name].depends_on if d in self.models)
        return [n for n in self.models if n in wanted]

    def _columns_of(self, table: str) -> list[tuple[str, str]]:
        if table in BY_NAME:
            return [(c.name, c.sql) for c in BY_NAME[table].columns()]
        return [(c.name, c.type) for c in self.models[table].columns]


@lru_cache(maxsize=256)
def _lineage(
    sql: str, columns: tuple[str, ...], sources: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
) -> dict[str, tuple[tuple[str, str], ...]]:
    """Return the (table, column) pairs of `sources` that each column of a SELECT is computed from."""
    # sqlglot's lineage module takes as long to load as everything else in this module
    from sqlglot.lineage import lineage

    schema: dict[str, object] = {table: dict(names) for table, names in sources}
    query = qualify(
        sqlglot.parse_one(sql, dialect=DIALECT),
        schema=schema,
        dialect=DIALECT,
        validate_qualify_columns=False,
    )
    scope = build_scope(query)
    # all columns in one walk that shares results, without a trimmed copy of the query per node
    nodes = lineage(None, query, schema=schema, scope=scope, dialect=DIALECT, trim_selects=False, copy=False)
    known = {(table, column) for table, names in sources for column, _ in names}
    found: dict[str, tuple[tuple[str, str], ...]] = {}
    for name in columns:
        pairs = set()
        for node in nodes[name].walk():
            source = node.expression
            if isinstance(source, exp.Table) and source.name in schema:
                pairs.add((source.name, node.name.rpartition(".")[2].strip('"')))
        found[name] = tuple(sorted(pairs & known))
    return found


@dataclass
class _Draft:
    """A model that is parsed and not yet checked by DuckDB."""

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
    """Return every error in the models of a folder; empty if there is none."""
    return load_models(folder).errors


def load_models(folder: Path) -> SqlModels:
    """Read every model of a folder, with its YAML files and ``tests/``.

    Parameters
    ----------
    folder : Path
        With ``staging/`` and ``marts/``, with a ``schema.yml`` in each, and ``tests/``.

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
    """Check that there is a folder of models; it may only be empty if a setting names it.

    Raises
    ------
    SqlModelError
        If there is no such folder, or the one that comes with the package is empty.
    """
    shipped = folder == shipped_folder("dbt_like_sql")
    advice = (
        "this installation is incomplete, install iss-assets again"
        if shipped
        else "name it with ISS_WAREHOUSE__SQL_DIR"
    )
    if not folder.is_dir():
        raise SqlModelError(folder.name, 1, f"there is no such folder of SQL models; {advice}")
    if shipped and not any(folder.rglob("*.sql")):
        raise SqlModelError(folder.name, 1, f"the folder has no SQL model; {advice}")


def files_stamp(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Return name, size and modification time of every file of a folder; they change when the models do."""
    paths = sorted(path for pattern in ("*.sql", *_PROPERTIES) for path in folder.rglob(pattern))
    found = ((path.relative_to(folder).as_posix(), path.stat()) for path in paths)
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in found)


@lru_cache(maxsize=4)
def _load(folder: Path, stamp: object) -> SqlModels:
    """Read a folder once per process, however often its models are needed."""
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
    """Report descriptions of models that do not exist."""
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
        raise SqlModelError(file, 1, "a model belongs in a folder, staging/ or marts/, which is its group")
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
    query, sql, words = parse_query(rendered.sql, file)
    return _Draft(
        name,
        str(file),
        file.parts[0],
        own or said.materialized or "view",
        said,
        sql,
        query,
        tables_read(query, file),
        words,
    )


def _add_singular_tests(result: SqlModels, properties: FolderProperties) -> None:
    """Read the tests that are SQL files, and assign each to a model.

    That is the model that its ``config`` or YAML entry names (``meta: {dagster: {ref: {name: ...}}}``, as in dagster-dbt),
    or else the one that is built last among those it reads, because everything it reads exists then.
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
    query, sql, _ = parse_query(rendered.sql, file)
    reads = tables_read(query, file)
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
    # the line break keeps a comment at the end from swallowing the closing bracket
    return model, ModelTest(
        path.stem, sql + "\n", description, str(file), 1, "warn" if severity == "warn" else "error"
    )


def _model_named_in(config: Mapping[str, Any]) -> str | None:
    place: Any = config
    for key in ("meta", "dagster", "ref", "name"):
        place = place.get(key) if isinstance(place, Mapping) else None
    return place if isinstance(place, str) else None


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
    """Check the SELECT with DuckDB against empty tables, and read the columns' types from it."""
    _check_broken_reads(draft, result)
    try:
        connection.execute(f'create table "{draft.name}" as\n{draft.sql}\nwith no data')
    except duckdb.Error as error:
        line, problem = duckdb_error(error, shift=1, otherwise=first_code_line(draft.sql))
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
    # of the tokens, so that a line break or comment makes nothing stale
    return hashlib.sha256(f"{draft.materialized} {draft.words}".encode()).hexdigest()[:16]


def _bind_test(connection: duckdb.DuckDBPyConnection, model: str, test: ModelTest) -> None:
    sql = test.sql.replace("{this}", f'"{model}"')
    try:
        connection.execute(f"select count(*) from ({sql})")
    except duckdb.Error as error:
        # if the test is a file, DuckDB's line is a line of the file
        line, problem = duckdb_error(error, shift=0, otherwise=1)
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
    # sums of integers are HUGEINT, which few other programs read
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
            return int(max(lines, default=first_code_line(draft.sql)))
    return first_code_line(draft.sql)
