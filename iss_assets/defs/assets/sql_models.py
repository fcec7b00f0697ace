"""The SQL models of ``dbt_like_sql/`` as assets and asset checks, made from the files alone.

``iss_assets.warehouse.sql.models`` reads the files and ``iss_assets.warehouse.sql.build`` builds them.
"""

# no postponed annotations here: Dagster reads the context's annotation at run time
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import dagster as dg
import pyarrow as arrow

from iss_assets.defs.assets.common import metadata_key
from iss_assets.defs.resources import WarehouseResource
from iss_assets.reports.gallery import as_markdown, mart_figures
from iss_assets.schemas.registry import BY_NAME
from iss_assets.warehouse.database import WarehouseError
from iss_assets.warehouse.row_groups import merge_row_groups
from iss_assets.warehouse.sql.build import TestResult, run_tests, try_models
from iss_assets.warehouse.sql.data_tests import ModelTest
from iss_assets.warehouse.sql.errors import SqlModelError
from iss_assets.warehouse.sql.models import SqlModel, SqlModels, load_models

OWNERS = ("team:data",)
PREVIEW_ROWS = 20
COLUMN_TESTS = "columns"
"""Name of the check that runs every test of a model's columns."""
_QUOTED: Final = re.compile(r"'[^']*'|\"[^\"]*\"")


def build_sql_models(folder: Path) -> list[dg.AssetsDefinition]:
    """Return one asset per SQL file in a folder, with asset checks for the tests declared in it.

    A faulty file becomes an asset too: its description says what is wrong and in which line, and a run of it fails
    with the same message.

    Parameters
    ----------
    folder : Path
        Holds ``staging/`` and ``marts/``.

    Raises
    ------
    SqlModelError
        If there is no such folder.
    """
    models = load_models(folder)
    logger = dg.get_dagster_logger("sql_models")
    for error in models.errors:
        logger.error("SQL model left out: %s", error)
    assets = [_broken_asset(name, error) for name, error in models.broken.items()]
    return [_assets_of(models), *assets] if models.models else assets


def _assets_of(models: SqlModels) -> dg.AssetsDefinition:
    """Return the assets of all models, which one step builds and tests.

    One step per model and one for its tests would take four times as long, nearly all of it start-up of Dagster and
    DuckDB. Each model can still be selected alone.
    """

    @dg.multi_asset(
        name="build_sql_models",
        specs=[_spec_of(model) for model in models.models.values()],
        check_specs=[spec for model in models.models.values() for spec in _check_specs_of(model)],
        can_subset=True,
    )
    def build(
        context: dg.AssetExecutionContext, warehouse: WarehouseResource
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        store = warehouse.warehouse()
        merge_row_groups(store)
        wanted = {key.to_user_string() for key in context.selected_asset_keys}
        built = try_models(store, models, wanted)
        if built.removed:
            context.log.info("removed tables of models without a file: %s", ", ".join(built.removed))
        failed = {name: found for name, found in built.outcomes.items() if isinstance(found, Exception)}
        for name, rows in built.outcomes.items():
            if isinstance(rows, arrow.Table):
                yield _materialized(models, models.models[name], rows)
        checks: dict[str, set[str]] = {}
        for key in context.selected_asset_check_keys:
            if key.asset_key.to_user_string() not in failed:
                checks.setdefault(key.asset_key.to_user_string(), set()).add(key.name)
        for name, results in run_tests(store, [m for n, m in models.models.items() if n in checks]).items():
            yield from _check_results(name, results, checks[name])
        if failed:
            raise dg.Failure(
                description="\n".join(_why(name, error) for name, error in failed.items()),
                metadata={"models": dg.MetadataValue.json({n: type(e).__name__ for n, e in failed.items()})},
            )

    return build


def _spec_of(model: SqlModel) -> dg.AssetSpec:
    return dg.AssetSpec(
        key=dg.AssetKey(model.name),
        deps=[dg.AssetKey(table) for table in model.depends_on],
        group_name=model.group,
        description=model.description,
        kinds={"duckdb", "sql", model.materialized},
        owners=list(OWNERS),
        code_version=model.version,
        metadata={
            "dagster/table_name": model.name,
            "dagster/column_schema": _column_schema(model),
            "file": model.file,
            "sql": dg.MetadataValue.md(f"```sql\n{model.sql.strip()}\n```"),
        },
    )


def _groups_of(tests: Iterable[ModelTest]) -> dict[str, list[ModelTest]]:
    """Group tests into checks: one for all tests of columns, and one for each other test.

    One check per test would be 290 checks, and Dagster takes half a minute to record that many.
    """
    groups: dict[str, list[ModelTest]] = {}
    for test in tests:
        groups.setdefault(COLUMN_TESTS if test.column else test.name, []).append(test)
    return groups


def _check_specs_of(model: SqlModel) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(
            name,
            asset=dg.AssetKey(model.name),
            description="\n".join(f"- {test.description} ({test.file}:{test.line})" for test in tests),
            metadata={"sql": dg.MetadataValue.md("\n".join(f"```sql\n{t.sql}\n```" for t in tests))},
        )
        for name, tests in _groups_of(model.tests).items()
    ]


def _materialized(models: SqlModels, model: SqlModel, rows: arrow.Table) -> dg.MaterializeResult:
    metadata: dict[str, Any] = {
        "dagster/row_count": rows.num_rows,
        "dagster/column_lineage": _column_lineage(models.lineage(model.name)),
    }
    if model.group == "marts":
        metadata |= _preview(model, rows.to_pylist())
    return dg.MaterializeResult(asset_key=model.name, metadata=metadata)


def _check_results(
    model: str, results: Iterable[TestResult], wanted: set[str]
) -> Iterator[dg.AssetCheckResult]:
    by_test = {result.test: result for result in results}
    for name, tests in sorted(_groups_of(by_test).items()):
        if name not in wanted:
            continue
        failed = [by_test[test] for test in tests if not by_test[test].passed]
        errors = any(r.test.severity == "error" for r in failed or [by_test[test] for test in tests])
        yield dg.AssetCheckResult(
            check_name=name,
            asset_key=dg.AssetKey(model),
            passed=not failed,
            severity=dg.AssetCheckSeverity.ERROR if errors else dg.AssetCheckSeverity.WARN,
            metadata={
                "tests": len(tests),
                "failing_rows": sum(r.failing_rows for r in failed),
                "failed": dg.MetadataValue.json({r.test.name: r.failing_rows for r in failed}),
            },
        )


def _why(name: str, error: Exception) -> str:
    """Return why a model could not be built, without what DuckDB quotes, which may be patient data."""
    message = (
        str(error) if isinstance(error, WarehouseError) else _QUOTED.sub("'...'", str(error).split("\n")[0])
    )
    return f"{name}: {message}"


def _broken_asset(name: str, error: SqlModelError) -> dg.AssetsDefinition:
    # a file named like a table of the warehouse cannot have the table's place in the graph
    key = f"{name}_sql" if name in BY_NAME else name
    clean = "".join(c if c.isalnum() else "_" for c in key)

    @dg.asset(
        key=dg.AssetKey(clean),
        group_name=Path(error.file).parts[0] if len(Path(error.file).parts) > 1 else "marts",
        description=f"**This model is broken and cannot be built.**\n\n{error}",
        kinds={"duckdb", "sql"},
        owners=list(OWNERS),
        tags={"broken": "true"},
        code_version="broken",
    )
    def broken() -> None:
        raise dg.Failure(description=str(error), allow_retries=False)

    return broken


def _column_schema(model: SqlModel) -> dg.TableSchema:
    not_null = model.columns_promised("not_null")
    unique = model.columns_promised("unique")
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                c.name,
                type=c.type,
                description=c.description,
                constraints=dg.TableColumnConstraints(
                    nullable=c.name not in not_null, unique=c.name in unique
                ),
            )
            for c in model.columns
        ]
    )


def _column_lineage(lineage: Mapping[str, Iterable[tuple[str, str]]]) -> dg.TableColumnLineage:
    return dg.TableColumnLineage(
        {
            column: [
                dg.TableColumnDep(asset_key=dg.AssetKey(table), column_name=source)
                for table, source in sources
            ]
            for column, sources in lineage.items()
        }
    )


def _preview(model: SqlModel, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a mart's first rows and figures as metadata."""
    names = [c.name for c in model.columns]
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(_shown(row[n]) for n in names) + " |" for row in rows[:PREVIEW_ROWS]]
    metadata: dict[str, Any] = {"preview": dg.MetadataValue.md("\n".join(lines))}
    for figure in mart_figures(model.name, rows):
        metadata[metadata_key(figure.caption)] = dg.MetadataValue.md(as_markdown(figure))
    return metadata


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, list):
        return ", ".join(str(v) for v in value)
    return str(value)
