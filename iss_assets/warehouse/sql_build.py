"""Building SQL models in the warehouse and running their tests.

Belongs here: what happens in DuckDB. Does not belong here: reading the files (``sql_models``), Dagster
(``iss_assets.assets.sql_models``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import duckdb

from iss_assets.warehouse.database import Warehouse, WarehouseError, Writer
from iss_assets.warehouse.sql_head import ModelTest
from iss_assets.warehouse.sql_models import SqlModel, SqlModels


@dataclass(frozen=True)
class TestResult:
    """What one test of a model found."""

    __test__ = False  # not a test class for pytest

    test: ModelTest
    failing_rows: int

    @property
    def passed(self) -> bool:
        """Whether no row came back."""
        return self.failing_rows == 0


def build_model(warehouse: Warehouse, model: SqlModel) -> int:
    """Build one model and give its number of rows.

    A table is computed on a consistent state with no writer waiting, then put in place of the old one in one
    transaction: whoever reads sees the old table or the new one, and a failure leaves the old one.

    Raises
    ------
    WarehouseError
        If a model that it reads has not been built yet, or the SELECT fails on the data.
    """
    try:
        if model.materialized == "view":
            with warehouse.write() as writer:
                _clear(writer, model.name)
                writer.execute(f'create view "{model.name}" as\n{model.sql}')
                _describe(writer, model)
            return count_rows(warehouse, model.name)
        new_rows = warehouse.query(model.sql)
        columns = ", ".join(f'"{c.name}" {c.type}' for c in model.columns)
        with warehouse.write() as writer:
            # `new_rows` is found by its name in this frame, not in the writer's
            writer.execute("set python_scan_all_frames = true")
            writer.execute(f'create table "__new_{model.name}" ({columns})')
            writer.execute(f'insert into "__new_{model.name}" select * from new_rows')
            _clear(writer, model.name)
            writer.execute(f'alter table "__new_{model.name}" rename to "{model.name}"')
            _describe(writer, model)
        return int(new_rows.num_rows)
    except duckdb.CatalogException as error:
        if "does not exist" not in str(error):
            raise
        raise WarehouseError(
            f"model {model.name} reads {', '.join(model.depends_on)}, and not all of them are built yet; "
            "build its upstream models first"
        ) from error


def build_models(warehouse: Warehouse, models: SqlModels, names: list[str] | None = None) -> dict[str, int]:
    """Build models with everything they stand on, in order; all of them without `names`.

    Returns
    -------
    dict of str to int
        Rows of each model built.
    """
    wanted = list(models.models) if names is None else models.with_upstream(names)
    return {name: build_model(warehouse, models.models[name]) for name in wanted}


def run_tests(
    warehouse: Warehouse, model: SqlModel, tests: Iterable[ModelTest] | None = None
) -> list[TestResult]:
    """Run a model's tests, all or those given, on one consistent state of the warehouse."""
    results = []
    with warehouse.read() as connection:
        for test in model.tests if tests is None else tests:
            sql = test.sql.replace("{this}", f'"{model.name}"')
            row = connection.execute(f"select count(*) from ({sql})").fetchone()
            results.append(TestResult(test, int(row[0]) if row else 0))
    return results


def count_rows(warehouse: Warehouse, name: str) -> int:
    """Count the rows of a table or view."""
    return int(warehouse.query(f'select count(*) as n from "{name}"')["n"][0].as_py())


def built_models(warehouse: Warehouse, models: SqlModels) -> list[str]:
    """Give the models that are in the warehouse now."""
    found = warehouse.query(
        "select table_name as name from information_schema.tables where table_schema = 'main'"
    )["name"].to_pylist()
    return [n for n in models.models if n in found]


def _clear(writer: Writer, name: str) -> None:
    """Drop what has the model's name: a model can turn from view to table."""
    kind = writer.query(
        "select table_type as kind from information_schema.tables where table_schema = 'main' and table_name = ?",
        [name],
    )["kind"].to_pylist()
    if kind:
        writer.execute(f'drop {"view" if kind[0] == "VIEW" else "table"} "{name}"')


def _describe(writer: Writer, model: SqlModel) -> None:
    writer.execute(f'comment on {model.materialized} "{model.name}" is {_quoted(model.description)}')
    for column in model.columns:
        writer.execute(f'comment on column "{model.name}"."{column.name}" is {_quoted(column.description)}')


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
