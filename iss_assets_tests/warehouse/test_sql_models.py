import shutil
from pathlib import Path

import pytest

from iss_assets.schemas.intake import Patients
from iss_assets.settings import WarehouseSettings
from iss_assets.warehouse.database import Warehouse, WarehouseError
from iss_assets.warehouse.sql.build import build_models, built_models, run_tests, try_models
from iss_assets.warehouse.sql.errors import SqlModelError
from iss_assets.warehouse.sql.models import check_models, load_models

GOOD = """with chosen as (
    select patient_id, pain_target from patients
)
select patient_id, pain_target from chosen;
"""
"""A model; `described` says the rest."""


def described(name: str, materialized: str = "table") -> str:
    """Return what a schema.yml says of `GOOD`."""
    return f"""version: 2

models:
  - name: {name}
    description: One row per patient.
    config:
      materialized: {materialized}
    columns:
      - name: patient_id
        description: Patient id.
        data_tests:
          - unique
          - not_null
      - name: pain_target
        description: Worst pain.
        data_tests:
          - range:
              arguments: {{min: 0, max: 10}}
"""


def good(name: str, materialized: str = "table", folder: str = "marts") -> dict[str, str]:
    return {f"{folder}/{name}.sql": GOOD, f"{folder}/{name}.yml": described(name, materialized)}


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def only_error(folder: Path) -> SqlModelError:
    errors = check_models(folder)
    assert len(errors) == 1, [str(e) for e in errors]
    return errors[0]


def patient(number: int, target: int = 5) -> dict:
    return {
        "patient_id": f"{number:04d}",
        "cohort": "3A",
        "sex": "M",
        "skin_type": "II",
        "skin_group": "light",
        "pain_target": target,
        "pain_level": "Moderate",
    }


@pytest.fixture
def warehouse(tmp_path: Path, empty_warehouse: Path) -> Warehouse:
    made = Warehouse(Path(shutil.copy(empty_warehouse, tmp_path / "w.duckdb")))
    made.replace(Patients, Patients.from_rows([patient(1), patient(2)]), {})
    return made


def test_the_projects_own_models_have_no_fault_and_every_column_is_described() -> None:
    folder = WarehouseSettings().sql_dir
    assert check_models(folder) == []
    assert load_models(folder).undocumented == []


def test_a_model_knows_its_columns_tests_and_what_it_reads_besides_its_ctes(tmp_path: Path) -> None:
    model = load_models(write(tmp_path, good("severity"))).models["severity"]
    assert model.group == "marts"
    assert model.materialized == "table"
    assert model.depends_on == ("patients",)
    assert [(c.name, c.type, c.description) for c in model.columns] == [
        ("patient_id", "VARCHAR", "Patient id."),
        ("pain_target", "INTEGER", "Worst pain."),
    ]
    assert model.description == "One row per patient."
    assert [t.name for t in model.tests] == ["unique_patient_id", "not_null_patient_id", "range_pain_target"]
    assert [(t.file, t.line) for t in model.tests] == [("marts/severity.yml", n) for n in (12, 13, 17)]
    assert model.columns_promised("unique") == {"patient_id"}


def test_lineage_goes_down_to_columns_through_ctes_joins_and_stars(tmp_path: Path) -> None:
    models = load_models(
        write(
            tmp_path,
            {
                "staging/people.sql": "select patient_id, pain_target * 2 as goal from patients",
                "marts/joined.sql": "with a as (select * from people)\n"
                "select a.*, a.goal + s.mood as both, count(*) over () as n\n"
                "from a join bpi_scores as s using (patient_id)",
            },
        )
    )
    assert models.errors == []
    lineage = models.lineage("joined")
    assert lineage["goal"] == [("people", "goal")]
    assert lineage["both"] == [("bpi_scores", "mood"), ("people", "goal")]
    assert lineage["n"] == []
    assert models.lineage("people")["goal"] == [("patients", "pain_target")]
    assert list(models.models) == ["people", "joined"]


def test_a_syntax_error_is_reported_with_its_line_and_the_other_models_load(tmp_path: Path) -> None:
    broken = GOOD.replace(
        "select patient_id, pain_target from chosen", "select patient_id,\n  from from chosen"
    )
    folder = write(tmp_path, {"marts/good.sql": GOOD, "marts/broken.sql": broken})
    models = load_models(folder)
    assert list(models.models) == ["good"]
    (error,) = models.errors
    assert error.file == "marts/broken.sql"
    assert error.line in (4, 5)


def test_an_unclosed_quote_is_reported_with_its_line(tmp_path: Path) -> None:
    error = only_error(write(tmp_path, {"marts/x.sql": "select\n  'open as a from patients"}))
    assert error.line == 2


def test_an_unknown_table_is_reported_with_its_line_and_the_name_that_was_meant(tmp_path: Path) -> None:
    error = only_error(write(tmp_path, {"marts/x.sql": GOOD.replace("from patients", "from patiens")}))
    assert (error.file, error.line) == ("marts/x.sql", 2)
    assert "unknown table patiens; did you mean patients?" in str(error)


def test_an_unknown_column_and_an_unknown_function_are_reported_with_their_line(tmp_path: Path) -> None:
    error = only_error(
        write(tmp_path / "a", {"marts/x.sql": GOOD.replace("select patient_id, p", "select patient, p", 1)})
    )
    assert error.line == 2
    assert "patient" in error.problem
    wrong = GOOD.replace("pain_target from chosen", "\n  no_such(pain_target) as pain_target from chosen")
    error = only_error(write(tmp_path / "b", {"marts/x.sql": wrong}))
    assert error.line == 5


def test_models_that_read_each_other_are_reported_as_a_cycle(tmp_path: Path) -> None:
    def reads(table: str) -> str:
        return f"select a\nfrom {table}"

    folder = write(
        tmp_path,
        {
            "marts/a.sql": reads("b"),
            "marts/b.sql": reads("c"),
            "marts/c.sql": reads("a"),
            "marts/good.sql": GOOD,
        },
    )
    models = load_models(folder)
    assert list(models.models) == ["good"]
    assert [(e.file, e.line) for e in models.errors] == [
        ("marts/a.sql", 2),
        ("marts/b.sql", 2),
        ("marts/c.sql", 2),
    ]
    assert "a → b → c → a" in str(models.errors[0])


def test_a_model_that_reads_a_broken_one_says_which_and_where(tmp_path: Path) -> None:
    models = load_models(
        write(
            tmp_path,
            {
                "staging/base.sql": "select nothing as a from patients",
                "marts/top.sql": "select a\nfrom base",
            },
        )
    )
    assert models.models == {}
    top = models.broken["top"]
    assert top.line == 2
    assert "reads base, which is broken: staging/base.sql:1" in str(top)


def test_two_models_of_one_name_and_a_model_named_like_a_table_are_refused(tmp_path: Path) -> None:
    models = load_models(
        write(
            tmp_path,
            {"marts/x.sql": GOOD, "staging/x.sql": GOOD, "marts/patients.sql": GOOD, "marts/y.sql": GOOD},
        )
    )
    assert list(models.models) == ["y"]
    assert "has the same name" in str(models.broken["x"])
    assert "is a table of the warehouse" in str(models.broken["patients"])


def test_a_column_described_but_not_selected_is_an_error(tmp_path: Path) -> None:
    extra = described("x").replace(
        "      - name: pain_target",
        "      - name: gone\n        description: Not there.\n      - name: pain_target",
    )
    error = only_error(write(tmp_path, {"marts/x.sql": GOOD, "marts/schema.yml": extra}))
    assert (error.file, error.line) == ("marts/schema.yml", 14)
    assert "gone of x is described but not selected" in str(error)


def test_a_column_or_model_that_nobody_describes_loads_and_is_listed(tmp_path: Path) -> None:
    partly = described("x").partition("      - name: pain_target")[0]
    models = load_models(
        write(tmp_path, {"marts/x.sql": GOOD, "marts/x.yml": partly, "marts/y.sql": "select 1 as a"})
    )
    assert models.errors == []
    assert [c.description for c in models.models["x"].columns] == ["Patient id.", ""]
    found = [str(e) for e in models.undocumented]
    assert found == [
        "marts/x.sql:4: column pain_target is selected but not described in schema.yml",
        "marts/y.sql:1: no schema.yml describes y",
        "marts/y.sql:1: column a is selected but not described in schema.yml",
    ]


TOP = """version: 2
models:
  - name: x
    description: One row.
    columns:
      - name: sex
        description: Sex.
"""


@pytest.mark.parametrize(
    ("lines", "line", "problem"),
    [
        (
            "        data_tests: [acepted_values]",
            8,
            "unknown test 'acepted_values'; did you mean accepted_values",
        ),
        (
            "        data_tests:\n          - unique: {arguments: {yes_please: 1}}",
            9,
            "unknown key 'yes_please'",
        ),
        (
            "        data_tests:\n          - accepted_values:\n              arguments: {}",
            10,
            "'values' is missing",
        ),
        ("        data_tests:\n          - accepted_values", 9, "'values' is missing"),
        ("        data_tests:\n          - range: {min: low}", 9, "min: Input should be a valid number"),
        ("        data_tests:\n          - range: {}", 9, "range needs min, max or both"),
        ("        data_tests:\n          - relationships: {to: patients}", 9, "'field' is missing"),
        ("        data_tests:\n          - relationships: {to: read_csv('x'), field: a}", 9, "'to' is ref"),
        ("        data_tests:\n          - relationships: {to: patients, field: a b}", 9, "a name is"),
        ("        data_tests:\n          - not_null: {config: {severity: fatal}}", 9, "'error' or 'warn'"),
        (
            "        data_tests:\n          - not_null\n          - not_null",
            10,
            "two tests are called not_null_sex",
        ),
        ("        data_tets: [unique]", 8, "unknown key 'data_tets'; did you mean 'data_tests'"),
        ("      - name: Sex", 8, "a name is"),
        ("      - name: sex", 8, "described twice"),
        ("        description: Again.", 8, "'description' is given twice"),
        ("    config: {materialized: tabel}", 8, "'table' or 'view', not 'tabel'"),
        ("    config: {materialized: incremental}", 8, "'table' or 'view', not 'incremental'"),
        ("  - name: x", 8, "described in marts/schema.yml:3 already"),
        ("  - name: y", 8, "unknown model y"),
        ("  - description: Nameless.", 8, "'name' is missing"),
        ("   oops: [", 8, "not valid YAML"),
    ],
)
def test_a_fault_in_the_yaml_is_reported_with_file_and_line(
    tmp_path: Path, lines: str, line: int, problem: str
) -> None:
    folder = write(
        tmp_path, {"marts/x.sql": "select sex from patients", "marts/schema.yml": TOP + lines + "\n"}
    )
    error = only_error(folder)
    assert error.file == "marts/schema.yml"
    assert problem in error.problem
    assert error.line == line


def test_a_yaml_file_that_cannot_be_read_breaks_the_models_of_its_folder_only(tmp_path: Path) -> None:
    folder = write(tmp_path, {"marts/schema.yml": "models: [", "marts/x.sql": GOOD, "staging/y.sql": GOOD})
    models = load_models(folder)
    assert list(models.models) == ["y"]
    assert models.broken["x"].file == "marts/schema.yml"
    (folder / "marts/schema.yml").write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in str(load_models(folder).broken["x"])


def test_yes_and_no_are_words_and_long_texts_are_one_line(tmp_path: Path) -> None:
    text = TOP.replace("One row.", ">-\n      One row,\n      reported at length.") + (
        "        data_tests:\n          - accepted_values: {values: [yes, no, None, 2, true]}\n"
    )
    model = load_models(
        write(tmp_path, {"marts/x.sql": "select sex from patients", "marts/schema.yml": text})
    ).models["x"]
    assert model.description == "One row, reported at length."
    assert model.tests[0].description == "sex is one of yes, no, None, 2, true."


@pytest.mark.parametrize(
    "query",
    [
        "select a from read_csv('/etc/passwd') as r(a)",
        "select a from '/etc/passwd' as r(a)",
        "select a from main.patients as r(a)",
    ],
)
def test_a_model_reads_tables_of_the_warehouse_and_nothing_else(tmp_path: Path, query: str) -> None:
    error = only_error(write(tmp_path, {"marts/x.sql": query}))
    assert error.line == 1


def test_a_file_with_two_statements_or_none_that_selects_is_refused(tmp_path: Path) -> None:
    error = only_error(write(tmp_path / "a", {"marts/x.sql": GOOD + "\ndrop table patients;"}))
    assert "one file is one SELECT" in str(error)
    error = only_error(write(tmp_path / "b", {"marts/x.sql": "delete from patients"}))
    assert (error.line, error.problem) == (1, "the file is not a SELECT")


def test_a_folder_that_is_not_there_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(SqlModelError, match="ISS_WAREHOUSE__SQL_DIR"):
        load_models(tmp_path / "nowhere")


def test_a_test_with_a_fault_is_reported_with_its_line(tmp_path: Path) -> None:
    folder = write(tmp_path, {**good("x"), "tests/t.sql": "select *\nfrom x\nwhere gone = 1"})
    error = only_error(folder)
    assert (error.file, error.line) == ("tests/t.sql", 3)
    assert "test t" in str(error)
    assert "x" in load_models(folder).broken


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"tests/t.sql": "select * from patients"}, "tests/t.sql:1: the test belongs to no model"),
        ({"tests/t.sql": "delete from x"}, "tests/t.sql:1: the file is not a SELECT"),
        ({"tests/T.sql": "select * from x"}, "tests/T.sql:1: a test's file name"),
        ({"tests/range_pain_target.sql": "select * from x"}, "x has a test called range_pain_target already"),
        ({"tests/t.yml": "data_tests: [{name: t}]"}, "test t is described, and there is no t.sql"),
        ({"tests/t.sql": "{{ config(severity='fatal') }}select * from x"}, "'error' or 'warn', not 'fatal'"),
    ],
)
def test_a_test_file_that_cannot_be_used_is_an_error_and_its_model_stays(
    tmp_path: Path, files: dict[str, str], problem: str
) -> None:
    folder = write(tmp_path, {**good("x"), **files})
    assert problem in str(only_error(folder))
    assert list(load_models(folder).models) == ["x"]


def test_a_test_file_belongs_to_the_last_model_built_that_it_reads_or_to_the_one_it_names(
    tmp_path: Path,
) -> None:
    models = load_models(
        write(
            tmp_path,
            {
                **good("base", folder="staging"),
                "marts/top.sql": "select count(*) as n from base",
                "tests/both.sql": "select * from base cross join top where n < 1",
                "tests/named.sql": "{{ config(meta={'dagster': {'ref': {'name': 'base'}}}) }}\nselect * from base, top",
                "tests/listed.sql": "select * from base, top",
                "tests/schema.yml": "data_tests:\n  - name: listed\n    description: Must hold.\n"
                "    config: {severity: WARN, meta: {dagster: {ref: {name: base}}}}\n",
            },
        )
    )
    assert models.errors == []
    assert [t.name for t in models.models["top"].tests] == ["both"]
    own = {t.name: t for t in models.models["base"].tests if t.column is None}
    assert own.keys() == {"named", "listed"}
    assert (own["listed"].severity, own["listed"].description) == ("warn", "Must hold.")


def test_a_folder_written_for_dbt_loads_as_it_is(warehouse: Warehouse, tmp_path: Path) -> None:
    schema = """version: 2
sources:
  - name: iss
    tables: [{name: patients}]
models:
  - name: stg_people
    description: "One row per patient."
    meta: {owner: someone}
    docs: {show: true}
    config:
      tags: [nightly]
      materialized: view
    columns:
      - name: patient_id
        data_type: varchar
        tests: [unique, not_null]
      - name: sex
        description: Sex.
        data_tests:
          - accepted_values:
              values: ["M"]
              config: {severity: warn}
      - name: pain_target
        data_tests:
          - dbt_utils.accepted_range: {min_value: 5, inclusive: false}
          - not_null:
              name: target_of_men
              config: {where: "sex = 'M'"}
    tests:
      - dbt_utils.unique_combination_of_columns:
          combination_of_columns: [patient_id, sex]
  - name: people_by_sex
exposures: [{name: page, type: dashboard}]
"""
    folder = write(
        tmp_path / "sql",
        {
            "staging/schema.yaml": schema,
            "staging/stg_people.sql": "{# the people #}\nselect patient_id, sex, pain_target\nfrom {{ source('iss', 'patients') }}\n",
            "marts/people_by_sex.sql": "{{\n  config(\n    materialized='table'\n  )\n}}\n"
            "select sex, count(*) as n\nfrom {{ ref('stg_people') }}\ngroup by sex order by sex",
            "tests/somebody.sql": "select 1 from {{ ref('people_by_sex') }} having count(*) = 0",
        },
    )
    models = load_models(folder)
    assert models.errors == []
    assert models.models["stg_people"].materialized == "view"
    assert models.models["people_by_sex"].materialized == "table"
    assert models.models["people_by_sex"].depends_on == ("stg_people",)
    build_models(warehouse, models)
    found = {
        r.test.name: (r.failing_rows, r.test.severity)
        for results in run_tests(warehouse, models.models.values()).values()
        for r in results
    }
    assert found == {
        "key": (0, "error"),
        "unique_patient_id": (0, "error"),
        "not_null_patient_id": (0, "error"),
        "accepted_values_sex": (0, "warn"),
        "range_pain_target": (2, "error"),
        "target_of_men": (0, "error"),
        "somebody": (0, "error"),
    }
    assert models.models["stg_people"].columns_promised("not_null") == {"patient_id"}


@pytest.mark.parametrize(
    ("sql", "line"),
    [
        ("select 1 as a\n{% if true %}\n{% endif %}", 2),
        ("select\n  {{ var('x') }} as a", 2),
        ("select a from\n\n{{ ref('../etc') }}", 3),
        ("select {{ ().__class__.__mro__ }} as a", 1),
    ],
)
def test_what_only_dbt_can_do_is_an_error_with_its_line(tmp_path: Path, sql: str, line: int) -> None:
    error = only_error(write(tmp_path, {"marts/x.sql": sql}))
    assert (error.file, error.line) == ("marts/x.sql", line)
    assert "Jinja" in error.problem


def test_a_fault_below_a_jinja_block_keeps_its_line(tmp_path: Path) -> None:
    sql = "{{\n  config(materialized='table')\n}}\nselect gone\nfrom {{ ref('patients') }}"
    assert only_error(write(tmp_path, {"marts/x.sql": sql})).line == 4


def test_a_built_table_can_be_queried_and_carries_its_documentation(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    models = load_models(write(tmp_path / "sql", good("severity")))
    assert build_models(warehouse, models) == {"severity": 2}
    assert built_models(warehouse, models) == ["severity"]
    assert warehouse.query("select * from severity order by 1")["patient_id"].to_pylist() == ["0001", "0002"]
    comment = warehouse.query("select comment from duckdb_tables() where table_name = 'severity'")
    assert comment["comment"].to_pylist() == ["One row per patient."]


def test_a_build_that_fails_leaves_the_old_table(warehouse: Warehouse, tmp_path: Path) -> None:
    folder = write(tmp_path / "sql", good("severity"))
    build_models(warehouse, load_models(folder))
    write(
        folder,
        {
            "marts/severity.sql": GOOD.replace(
                "select patient_id, pain_target from chosen",
                "select patient_id, cast(patient_id || 'x' as integer) as pain_target from chosen",
            )
        },
    )
    with pytest.raises(Exception, match="Could not convert"):
        build_models(warehouse, load_models(folder))
    assert warehouse.query("select * from severity").num_rows == 2


def test_a_model_that_fails_stops_what_reads_it_and_nothing_else(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    wrong = GOOD.replace(
        "select patient_id, pain_target from chosen",
        "select patient_id, cast(patient_id || 'x' as integer) as pain_target from chosen",
    )
    models = load_models(
        write(
            tmp_path / "sql",
            {
                "marts/severity.sql": wrong,
                "marts/top.sql": "select count(*) as n from severity",
                "marts/people.sql": "select count(*) as n from patients",
            },
        )
    )
    made = try_models(warehouse, models, models.models).outcomes
    assert "Could not convert" in str(made["severity"])
    assert "reads severity, which could not be built" in str(made["top"])
    assert built_models(warehouse, models) == ["people"]


def test_models_that_read_each_other_change_together(warehouse: Warehouse, tmp_path: Path) -> None:
    """What is built is read by the next model at once, and seen by others only when all is there."""
    models = load_models(
        write(
            tmp_path / "sql",
            {
                **good("severity", "view", "staging"),
                "marts/top.sql": "select count(*) as n from severity",
            },
        )
    )
    build_models(warehouse, models)
    one = {"patient_id": "0009", "cohort": "3B", "sex": "F", "skin_type": "II", "skin_group": "light"}
    row = {**one, "pain_target": 5, "pain_level": "Moderate"}
    warehouse.replace(Patients, Patients.from_rows([row]), {"patient_id": "0009"})
    assert build_models(warehouse, models) == {"severity": 3, "top": 1}
    assert warehouse.query("select n from top")["n"].to_pylist() == [3]


def test_a_model_may_turn_from_view_to_table_and_back(warehouse: Warehouse, tmp_path: Path) -> None:
    for kind in ("table", "view", "table"):
        folder = write(tmp_path / "sql", good("severity", kind))
        assert build_models(warehouse, load_models(folder)) == {"severity": 2}


def test_a_model_whose_upstream_is_not_built_says_so(warehouse: Warehouse, tmp_path: Path) -> None:
    models = load_models(
        write(
            tmp_path / "sql",
            {
                **good("severity"),
                "marts/top.sql": "select count(*) as n from severity",
            },
        )
    )
    error = try_models(warehouse, models, ["top"]).outcomes["top"]
    assert isinstance(error, WarehouseError)
    assert "build its upstream models first" in str(error)
    assert build_models(warehouse, models, ["top"]) == {"severity": 2, "top": 1}


def test_every_kind_of_test_finds_the_rows_that_break_it(warehouse: Warehouse, tmp_path: Path) -> None:
    schema = """models:
  - name: x
    description: One row.
    data_tests:
      - unique_combination_of_columns: {arguments: {combination_of_columns: [letter, number]}}
    columns:
      - name: letter
        data_tests: [unique, not_null, accepted_values: {arguments: {values: [a, b]}}]
      - name: number
        data_tests: [range: {arguments: {min: 0, max: 3}}, not_null]
      - name: patient_id
        data_tests: [relationships: {arguments: {to: ref('patients'), field: patient_id}}]
"""
    sql = """select * from (values ('a', 1, '0001'), ('a', 1, '0009'), ('c', 9, null), (null, -1, '0002'))
as v (letter, number, patient_id)
"""
    files = {
        "marts/x.sql": sql,
        "marts/schema.yml": schema,
        "tests/small.sql": "select * from x where number > 1",
        "tests/few.sql": "{{ config(severity='warn') }}\nselect 1 from x having count(*) > 2 -- too many",
    }
    models = load_models(write(tmp_path / "sql", files))
    assert models.errors == []
    build_models(warehouse, models)
    found = {r.test.name: r.failing_rows for r in run_tests(warehouse, models.models.values())["x"]}
    assert found == {
        "key": 1,
        "unique_letter": 1,
        "not_null_letter": 1,
        "accepted_values_letter": 1,
        "range_number": 2,
        "not_null_number": 0,
        "relationships_patient_id": 1,
        "small": 1,
        "few": 1,
    }


# ------------------------------------------------------------------ models whose file is gone

PEOPLE = "select count(*) as n from patients"


@pytest.fixture
def three(warehouse: Warehouse, tmp_path: Path) -> Path:
    """A folder with a table and a view that are built, and one more model that stays."""
    files = {**good("severity"), **good("views", "view"), "marts/people.sql": PEOPLE}
    folder = write(tmp_path / "sql", files)
    build_models(warehouse, load_models(folder))
    return folder


def names_in(warehouse: Warehouse) -> set[str]:
    found = warehouse.query("select table_name from information_schema.tables where table_schema = 'main'")
    return set(found["table_name"].to_pylist())


@pytest.mark.parametrize(("file", "name"), [("marts/severity.sql", "severity"), ("marts/views.sql", "views")])
def test_what_a_deleted_file_had_made_goes_with_the_next_build_of_any_model(
    warehouse: Warehouse, three: Path, file: str, name: str
) -> None:
    before = names_in(warehouse)
    (three / file).unlink()
    build = try_models(warehouse, load_models(three), ["people"])
    assert build.removed == (name,)
    assert names_in(warehouse) == before - {name}
    assert try_models(warehouse, load_models(three), ["people"]).removed == ()


def test_a_file_that_is_there_but_wrong_keeps_what_it_made(warehouse: Warehouse, three: Path) -> None:
    write(three, {"marts/severity.sql": GOOD.replace("from patients", "from nowhere")})
    assert try_models(warehouse, load_models(three), ["people"]).removed == ()
    assert "severity" in names_in(warehouse)


def test_a_table_that_somebody_put_in_a_models_place_is_theirs(warehouse: Warehouse, three: Path) -> None:
    with warehouse.write() as writer:
        writer.execute(
            "create or replace table severity as select 'mine' as patient_id, 1::integer as pain_target"
        )
        writer.execute("alter view views rename to kept_by_me")
    for file in ("severity", "views"):
        (three / f"marts/{file}.sql").unlink()
    assert try_models(warehouse, load_models(three), ["people"]).removed == ()
    assert warehouse.query("select patient_id from severity")["patient_id"].to_pylist() == ["mine"]
    assert "kept_by_me" in names_in(warehouse)


def test_tables_that_no_model_made_are_never_removed(warehouse: Warehouse, three: Path) -> None:
    with warehouse.write() as writer:
        writer.execute("create table my_notes as select 1 as n")
        writer.execute("create view my_view as select * from patients")
        # a record that was tampered with does not reach the pipeline's own tables either
        writer.execute("update loader.models_made set name = 'patients' where name = 'severity'")
    for file in ("severity", "views", "people"):
        (three / f"marts/{file}.sql").unlink()
    write(three, {"marts/other.sql": PEOPLE})
    assert try_models(warehouse, load_models(three), ["other"]).removed == ("people", "views")
    assert {"my_notes", "my_view", "patients", "severity"} <= names_in(warehouse)


def test_models_of_another_folder_are_not_missed_in_this_one(
    warehouse: Warehouse, three: Path, tmp_path: Path
) -> None:
    other = write(tmp_path / "own", {"marts/mine.sql": PEOPLE})
    assert try_models(warehouse, load_models(other), ["mine"]).removed == ()
    assert {"severity", "views", "people", "mine"} <= names_in(warehouse)


def test_a_build_in_which_nothing_works_removes_nothing(warehouse: Warehouse, three: Path) -> None:
    (three / "marts/views.sql").unlink()
    write(three, {"marts/people.sql": "select error('no') as n from patients"})
    build = try_models(warehouse, load_models(three), ["people"])
    assert isinstance(build.outcomes["people"], Exception)
    assert build.removed == ()
    assert "views" in names_in(warehouse)
