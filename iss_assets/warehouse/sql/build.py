"""Building SQL models in the warehouse, running their tests, and removing those whose file was deleted.

``models`` reads and checks the files, ``record`` knows which tables and views came from a model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as arrow

from iss_assets.schemas.base import shared_type
from iss_assets.warehouse.database import Warehouse, WarehouseError, Writer
from iss_assets.warehouse.sql.data_tests import ModelTest
from iss_assets.warehouse.sql.models import SqlModel, SqlModels
from iss_assets.warehouse.sql.record import record, remove_gone


@dataclass(frozen=True)
class TestResult:
    """The result of one test of a model."""

    __test__ = False  # not a test class for pytest

    test: ModelTest
    failing_rows: int

    @property
    def passed(self) -> bool:
        """Whether it returned no rows."""
        return self.failing_rows == 0


@dataclass(frozen=True)
class Build:
    """The result of building models.

    Attributes
    ----------
    outcomes : dict
        In building order: each model's rows, or the error that prevented it.
    removed : tuple of str
        Tables and views that were removed because their file is gone.
    """

    outcomes: dict[str, arrow.Table | Exception]
    removed: tuple[str, ...] = ()


def try_models(warehouse: Warehouse, models: SqlModels, names: Iterable[str]) -> Build:
    """Build these models and no others; one that cannot be built stops only the models that read it.

    All of them are computed on one consistent state, then replace the old ones in one transaction: readers see all the
    old ones or all the new ones, and a model that fails keeps its old rows. Tables that were built from this folder and
    whose file is gone are removed in the same transaction.
    """
    wanted = set(names)
    made = _compute_each(warehouse, [m for m in models.models.values() if m.name in wanted])
    built = {name: rows for name, rows in made.items() if isinstance(rows, arrow.Table)}
    if not built:
        return Build(made)
    with warehouse.write() as writer:
        # DuckDB finds `rows` by name in the frame of `_replace_model`, not in the writer's
        writer.execute("set session python_scan_all_frames = true")
        for name, rows in built.items():
            _replace_model(writer, models.models[name], rows)
        record(writer, models, list(built))
        return Build(made, tuple(remove_gone(writer, models)))


def build_models(warehouse: Warehouse, models: SqlModels, names: list[str] | None = None) -> dict[str, int]:
    """Build models with everything upstream of them; all models without `names`.

    Returns
    -------
    dict of str to int
        Rows of each built model.

    Raises
    ------
    WarehouseError, duckdb.Error
        The first error of a model that cannot be built; the others are built.
    """
    wanted = models.models if names is None else models.with_upstream(names)
    outcomes = try_models(warehouse, models, wanted).outcomes
    for outcome in outcomes.values():
        if isinstance(outcome, Exception):
            raise outcome
    return {name: rows.num_rows for name, rows in outcomes.items() if isinstance(rows, arrow.Table)}


def run_tests(warehouse: Warehouse, models: Iterable[SqlModel]) -> dict[str, list[TestResult]]:
    """Run every test of these models on one consistent state of the warehouse and return the results by model."""
    results: dict[str, list[TestResult]] = {}
    with warehouse.read() as connection:
        for model in models:
            found = results.setdefault(model.name, [])
            for test in model.tests:
                sql = test.sql.replace("{this}", f'"{model.name}"')
                row = connection.execute(f"select count(*) from ({sql})").fetchone()
                found.append(TestResult(test, int(row[0]) if row else 0))
    return results


def built_models(warehouse: Warehouse, models: SqlModels) -> list[str]:
    """Return the models that are in the warehouse now."""
    found = warehouse.query(
        "select table_name as name from information_schema.tables where table_schema = 'main'"
    )["name"].to_pylist()
    return [n for n in models.models if n in found]


def _compute_each(warehouse: Warehouse, models: Sequence[SqlModel]) -> dict[str, arrow.Table | Exception]:
    """Return the rows of each model, or its error, all from one consistent state."""
    made: dict[str, arrow.Table | Exception] = {}
    while True:
        with warehouse.read() as connection:
            for model in models:
                if model.name in made:
                    continue
                made[model.name] = _compute(connection, model, made)
                if isinstance(made[model.name], Exception) and not _goes_on(connection):
                    break
            else:
                return made
        # in the shared warehouse an error ends the snapshot: all again, without what cannot be built
        made = {name: error for name, error in made.items() if isinstance(error, Exception)}


def _goes_on(connection: duckdb.DuckDBPyConnection) -> bool:
    try:
        connection.execute("select 1")
    except duckdb.TransactionException:
        return False
    return True


def _compute(
    connection: duckdb.DuckDBPyConnection, model: SqlModel, made: dict[str, arrow.Table | Exception]
) -> arrow.Table | Exception:
    """Return a model's rows; models computed before are temporary tables, which DuckDB finds first."""
    for name in model.depends_on:
        if isinstance(made.get(name), Exception):
            return WarehouseError(f"model {model.name} reads {name}, which could not be built")
    try:
        if model.materialized == "view":
            connection.execute(f'create temp view "{model.name}" as\n{model.sql}')
        else:
            types = {c.name: c.type for c in model.columns}
            connection.execute(f'create temp table "{model.name}" ({_columns(types)})')
            connection.execute(f'insert into temp."{model.name}"\n{model.sql}')
        return connection.execute(f'select * from temp."{model.name}"').to_arrow_table()
    except duckdb.Error as error:
        if isinstance(error, duckdb.CatalogException) and "does not exist" in str(error):
            return WarehouseError(
                f"model {model.name} reads {', '.join(model.depends_on)}, and not all of them are built yet; "
                "build its upstream models first"
            )
        return error


def _replace_model(writer: Writer, model: SqlModel, rows: arrow.Table) -> None:
    """Replace a model in the warehouse; a table may take the place of a view, and the other way round."""
    kind = writer.query(
        "select table_type as kind from information_schema.tables where table_schema = 'main' and table_name = ?",
        [model.name],
    )["kind"].to_pylist()
    if kind:
        writer.execute(f'drop {"view" if kind[0] == "VIEW" else "table"} "{model.name}"')
    if model.materialized == "view":
        writer.execute(f'create view "{model.name}" as\n{model.sql}')
    else:
        types = {c.name: shared_type(c.type) if writer.shared else c.type for c in model.columns}
        writer.execute(f'create table "{model.name}" ({_columns(types)})')
        writer.execute(f'insert into "{model.name}" select * from rows')
    writer.execute(f'comment on {model.materialized} "{model.name}" is {_quoted(model.description)}')
    # the shared warehouse has no comments on columns of views
    described = model.columns if model.materialized == "table" or not writer.shared else ()
    for column in described:
        writer.execute(f'comment on column "{model.name}"."{column.name}" is {_quoted(column.description)}')


def _columns(types: Mapping[str, str]) -> str:
    return ", ".join(f'"{name}" {sql}' for name, sql in types.items())


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
