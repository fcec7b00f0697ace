from collections.abc import Mapping
from pathlib import Path

import dagster as dg
import pytest

from iss_assets.defs.assets.sql_models import build_sql_models
from iss_assets.defs.resources import WarehouseResource
from iss_assets.schemas.intake import Patients
from iss_assets.schemas.registry import BY_NAME
from iss_assets.settings import WarehouseSettings

MODEL = """select sex, count(*) as patients
from patients
group by sex
"""
SCHEMA = """models:
  - name: patients_by_sex
    description: One row per sex.
    config: {materialized: table}
    columns:
      - name: sex
        description: M or F.
        data_tests: [unique, accepted_values: {arguments: {values: [M]}}]
      - name: patients
        description: Patients.
"""
PATIENT = {
    "patient_id": "0001",
    "cohort": "3B",
    "sex": "F",
    "skin_type": "II",
    "skin_group": "light",
    "pain_target": 5,
    "pain_level": "Moderate",
}


def write(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "sql", "marts/patients_by_sex.sql", MODEL)
    write(tmp_path / "sql", "marts/schema.yml", SCHEMA)
    write(
        tmp_path / "sql",
        "tests/enough.sql",
        "{{ config(severity='warn') }} select * from patients_by_sex where patients < 100",
    )
    return tmp_path / "sql"


@pytest.fixture
def resource(tmp_path: Path) -> WarehouseResource:
    made = WarehouseResource(home=str(tmp_path / "home"), study=str(tmp_path / "study"))
    made.warehouse().replace(Patients, Patients.from_rows([PATIENT]), {})
    return made


def graph(folder: Path) -> tuple[dict[str, dg.AssetSpec], set[tuple[str, str]]]:
    assets = build_sql_models(folder)
    defs = dg.Definitions(assets=assets, resources={"warehouse": WarehouseResource()})
    repository = defs.get_repository_def()
    specs = {s.key.to_user_string(): s for a in assets for s in a.specs}
    keys = {(k.asset_key.to_user_string(), k.name) for k in repository.asset_graph.asset_check_keys}
    return specs, keys


def run(folder: Path, resource: WarehouseResource, only: str | None = None) -> dg.ExecuteInProcessResult:
    with dg.DagsterInstance.ephemeral() as instance:
        return dg.materialize(
            build_sql_models(folder),
            resources={"warehouse": resource},
            instance=instance,
            raise_on_error=False,
            selection=only,
        )


def user_failures(result: dg.ExecuteInProcessResult) -> list[tuple[str, Mapping[str, dg.MetadataValue]]]:
    """Return the description and metadata of every failed step."""
    found = [e.step_failure_data.user_failure_data for e in result.all_events if e.is_step_failure]
    return [(failure.description or "", failure.metadata) for failure in found if failure is not None]


def test_a_new_file_appears_in_the_graph_with_its_checks_and_no_python(folder: Path) -> None:
    before, _ = graph(folder)
    assert set(before) == {"patients_by_sex"}
    write(
        folder,
        "marts/oldest.sql",
        "select min(sex) as first from patients_by_sex",
    )
    write(
        folder,
        "marts/oldest.yml",
        "models: [{name: oldest, columns: [{name: first, data_tests: [not_null]}]}]",
    )
    write(folder, "tests/one_row.sql", "select 1 from oldest having count(*) > 1")
    specs, checks = graph(folder)
    assert set(specs) == {"patients_by_sex", "oldest"}
    assert specs["oldest"].group_name == "marts"
    assert {d.asset_key.to_user_string() for d in specs["oldest"].deps} == {"patients_by_sex"}
    assert {("oldest", "columns"), ("oldest", "one_row")} <= checks


def test_an_asset_says_what_its_file_says(folder: Path) -> None:
    spec = graph(folder)[0]["patients_by_sex"]
    assert spec.description == "One row per sex."
    assert {"duckdb", "sql", "table"} <= spec.kinds
    assert {d.asset_key.to_user_string() for d in spec.deps} == {"patients"}
    schema = spec.metadata["dagster/column_schema"]
    assert [(c.name, c.type, c.description) for c in schema.columns] == [
        ("sex", "VARCHAR", "M or F."),
        ("patients", "BIGINT", "Patients."),
    ]
    assert schema.columns[0].constraints.unique


def test_the_version_of_an_asset_changes_with_its_sql_and_not_with_its_comments(folder: Path) -> None:
    first = graph(folder)[0]["patients_by_sex"].code_version
    write(folder, "marts/patients_by_sex.sql", "-- Each sex.\n" + MODEL)
    assert graph(folder)[0]["patients_by_sex"].code_version == first
    write(folder, "marts/patients_by_sex.sql", MODEL.replace("count(*)", "count(distinct patient_id)"))
    assert graph(folder)[0]["patients_by_sex"].code_version != first


def test_a_run_builds_the_table_and_reports_rows_lineage_and_a_preview(
    folder: Path, resource: WarehouseResource
) -> None:
    result = run(folder, resource)
    assert result.success
    metadata = result.asset_materializations_for_node("build_sql_models")[0].metadata
    assert metadata["dagster/row_count"].value == 1
    assert "| F | 1 |" in str(metadata["preview"].value)
    lineage = metadata["dagster/column_lineage"].value
    assert isinstance(lineage, dg.TableColumnLineage)
    sources = lineage.deps_by_column
    assert [(d.asset_key.to_user_string(), d.column_name) for d in sources["sex"]] == [("patients", "sex")]
    assert resource.warehouse().query("select * from patients_by_sex").num_rows == 1


def test_tests_of_columns_become_checks_with_their_severity(
    folder: Path, resource: WarehouseResource
) -> None:
    found = {e.check_name: e for e in run(folder, resource).get_asset_check_evaluations()}
    assert not found["columns"].passed
    assert found["columns"].severity == dg.AssetCheckSeverity.ERROR
    assert found["columns"].metadata["failed"].value == {"accepted_values_sex": 1}
    tests = found["columns"].metadata["tests"].value
    assert isinstance(tests, int) and tests > 1
    assert not found["enough"].passed
    assert found["enough"].severity == dg.AssetCheckSeverity.WARN


def test_a_broken_model_is_an_asset_that_fails_with_file_and_line_and_the_others_run(
    folder: Path, resource: WarehouseResource
) -> None:
    write(folder, "marts/broken.sql", "select a\nfrom nowhere")
    specs, _ = graph(folder)
    assert "marts/broken.sql:2: unknown table nowhere" in (specs["broken"].description or "")
    result = run(folder, resource)
    assert not result.success
    assert result.asset_materializations_for_node("build_sql_models")
    ((description, _),) = user_failures(result)
    assert "marts/broken.sql:2" in description


BAD = """select cast(sex || 'no number' as integer) as n from patients
"""


def test_a_model_that_fails_on_the_data_fails_the_step_and_keeps_the_others(
    folder: Path, resource: WarehouseResource
) -> None:
    write(folder, "marts/bad.sql", BAD)
    write(folder, "marts/worse.sql", "select n from bad")
    result = run(folder, resource)
    assert not result.success
    made = [m.asset_key.to_user_string() for m in result.asset_materializations_for_node("build_sql_models")]
    assert made == ["patients_by_sex"]
    assert {e.asset_key.to_user_string() for e in result.get_asset_check_evaluations()} == {"patients_by_sex"}
    ((description, metadata),) = user_failures(result)
    assert metadata["models"].value == {"bad": "ConversionException", "worse": "WarehouseError"}
    assert "worse: model worse reads bad" in description
    assert "no number" not in description, "DuckDB quotes what is in the tables"


def test_one_model_can_be_built_alone(folder: Path, resource: WarehouseResource) -> None:
    write(folder, "marts/oldest.sql", "select min(sex) as first from patients")
    write(
        folder,
        "marts/oldest.yml",
        "models: [{name: oldest, columns: [{name: first, data_tests: [not_null]}]}]",
    )
    result = run(folder, resource, only="oldest")
    assert result.success
    assert [
        m.asset_key.to_user_string() for m in result.asset_materializations_for_node("build_sql_models")
    ] == ["oldest"]
    assert [e.asset_key.to_user_string() for e in result.get_asset_check_evaluations()] == ["oldest"]


def test_a_file_named_like_a_table_does_not_take_its_place_in_the_graph(folder: Path) -> None:
    write(folder, "marts/patients.sql", MODEL)
    specs, _ = graph(folder)
    assert "patients" not in specs
    assert "is a table of the warehouse" in (specs["patients_sql"].description or "")


def test_the_projects_own_models_are_assets_on_the_warehouses_tables() -> None:
    specs, checks = graph(WarehouseSettings().sql_dir)
    wanted = {
        "cohort_enrollment",
        "study_summary",
        "pain_level_balance",
        "participant_flow",
        "submission_adherence",
        "pain_scores_daily",
        "pain_score_correlations",
        "quality_by_patient",
        "quality_by_group",
        "audio_summary",
        "model_table",
        "patient_timeline",
    }
    assert wanted <= set(specs)
    for name, spec in specs.items():
        assert spec.group_name in ("staging", "marts")
        assert spec.tags.get("broken") is None
        assert {d.asset_key.to_user_string() for d in spec.deps} <= set(specs) | set(BY_NAME)
        assert any(asset == name for asset, _ in checks), f"{name} has no test"


def test_the_tables_of_a_deleted_file_are_removed_by_the_next_run_which_says_so(
    folder: Path, resource: WarehouseResource, capfd: pytest.CaptureFixture[str]
) -> None:
    write(folder, "marts/oldest.sql", "select min(sex) as first from patients")
    run(folder, resource)
    (folder / "marts/oldest.sql").unlink()
    capfd.readouterr()
    assert run(folder, resource).success
    assert "removed tables of models without a file: oldest" in capfd.readouterr().err
    names = resource.warehouse().query("select table_name from information_schema.tables")
    assert "oldest" not in names["table_name"].to_pylist()
    assert "patients_by_sex" in names["table_name"].to_pylist()
