"""The SQL models of ``dbt_like_sql/`` as assets and asset checks, made from the files alone.

Belongs here: what Dagster is told about a model. Does not belong here: reading the files
(``iss_assets.warehouse.sql_models``), building them (``iss_assets.warehouse.sql_build``), and anything about one
particular model. See "Asset factories" and "Asset checks" in Dagster's concept pages.
"""

# no postponed annotations here: Dagster reads the context's annotation as it stands
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from iss_assets.resources import WarehouseResource
from iss_assets.study_page.gallery import as_markdown, mart_figures
from iss_assets.warehouse.sql_build import build_model, run_tests
from iss_assets.warehouse.sql_head import ModelTest, SqlModelError
from iss_assets.warehouse.sql_models import SqlModel, SqlModels, load_models
from iss_assets.warehouse.tables import BY_NAME

OWNERS = ("team:data",)
PREVIEW_ROWS = 20
COLUMN_TESTS = "columns"
"""Name of the check that runs every test beside a model's columns."""


def build_sql_models(
    folder: Path,
    *,
    automation_condition: dg.AutomationCondition | None = None,
) -> tuple[list[dg.AssetsDefinition], list[dg.AssetChecksDefinition]]:
    """Make one asset of every SQL file in a folder, and one asset check of every test declared in it.

    A file that is wrong becomes an asset too: its description says what is wrong in which line, and a run of it
    fails with the same words, so that it can be seen where people look.

    Parameters
    ----------
    folder : Path
        Holds ``staging/`` and ``marts/``.
    automation_condition : dagster.AutomationCondition, optional
        Put on every model.

    Returns
    -------
    tuple
        Assets, and checks.

    Raises
    ------
    SqlModelError
        If there is no such folder.
    """
    models = load_models(folder)
    logger = dg.get_dagster_logger("sql_models")
    for error in models.errors:
        logger.error("SQL model left out: %s", error)
    assets = [_asset_of(model, models, automation_condition) for model in models.models.values()]
    assets += [_broken_asset(name, error) for name, error in models.broken.items()]
    checks = [_checks_of(model) for model in models.models.values() if model.tests]
    return assets, checks


def _asset_of(
    model: SqlModel, models: SqlModels, automation_condition: dg.AutomationCondition | None
) -> dg.AssetsDefinition:
    @dg.asset(
        key=dg.AssetKey(model.name),
        deps=[dg.AssetKey(table) for table in model.depends_on],
        group_name=model.group,
        description=model.description,
        kinds={"duckdb", "sql", model.materialized},
        owners=list(OWNERS),
        code_version=model.version,
        automation_condition=automation_condition,
        metadata={
            "dagster/table_name": model.name,
            "dagster/column_schema": _column_schema(model),
            "file": model.file,
            "sql": dg.MetadataValue.md(f"```sql\n{model.sql.strip()}\n```"),
        },
    )
    def build(warehouse: WarehouseResource) -> dg.MaterializeResult:
        rows = build_model(warehouse.warehouse(), model)
        metadata: dict[str, Any] = {
            "dagster/row_count": rows,
            "dagster/column_lineage": _column_lineage(models.lineage(model.name)),
        }
        if model.group == "marts":
            metadata |= _look(warehouse, model)
        return dg.MaterializeResult(metadata=metadata)

    return build


def _checks_of(model: SqlModel) -> dg.AssetChecksDefinition:
    """Make one check of all tests beside the columns, and one of each test with a line of its own.

    A check a test would be 290 checks, and Dagster takes half a minute to write that many down.
    """
    groups: dict[str, list[ModelTest]] = {}
    for test in model.tests:
        groups.setdefault(COLUMN_TESTS if test.column else test.name, []).append(test)

    @dg.multi_asset_check(
        name=f"{model.name}_tests",
        specs=[
            dg.AssetCheckSpec(
                name,
                asset=dg.AssetKey(model.name),
                description="\n".join(f"- {test.description} ({model.file}:{test.line})" for test in tests),
                metadata={"sql": dg.MetadataValue.md("\n".join(f"```sql\n{t.sql}\n```" for t in tests))},
            )
            for name, tests in groups.items()
        ],
        can_subset=True,
    )
    def check(
        context: dg.AssetCheckExecutionContext, warehouse: WarehouseResource
    ) -> Iterator[dg.AssetCheckResult]:
        for name in sorted(key.name for key in context.selected_asset_check_keys):
            results = run_tests(warehouse.warehouse(), model, groups[name])
            failed = [r for r in results if not r.passed]
            errors = any(r.test.severity == "error" for r in failed or results)
            yield dg.AssetCheckResult(
                check_name=name,
                asset_key=dg.AssetKey(model.name),
                passed=not failed,
                severity=dg.AssetCheckSeverity.ERROR if errors else dg.AssetCheckSeverity.WARN,
                metadata={
                    "tests": len(results),
                    "failing rows": sum(r.failing_rows for r in failed),
                    "failed": dg.MetadataValue.json({r.test.name: r.failing_rows for r in failed}),
                },
            )

    return check


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
    )
    def broken() -> None:
        raise dg.Failure(description=str(error), allow_retries=False)

    return broken


def _column_schema(model: SqlModel) -> dg.TableSchema:
    not_null = {t.name.removeprefix("not_null_") for t in model.tests if t.name.startswith("not_null_")}
    unique = {t.name.removeprefix("unique_") for t in model.tests if t.name.startswith("unique_")}
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


def _look(warehouse: WarehouseResource, model: SqlModel) -> dict[str, Any]:
    """Give what one sees of a mart in the UI: its first rows, and its figures."""
    rows = warehouse.warehouse().query(f'select * from "{model.name}"').to_pylist()
    names = [c.name for c in model.columns]
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(_shown(row[n]) for n in names) + " |" for row in rows[:PREVIEW_ROWS]]
    metadata: dict[str, Any] = {"preview": dg.MetadataValue.md("\n".join(lines))}
    for figure in mart_figures(model.name, rows):
        metadata[figure.caption] = dg.MetadataValue.md(as_markdown(figure))
    return metadata


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, list):
        return ", ".join(str(v) for v in value)
    return str(value)
