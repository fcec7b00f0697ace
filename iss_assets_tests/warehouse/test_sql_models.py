import shutil
from pathlib import Path

import pytest

from iss_assets.settings import WarehouseSettings
from iss_assets.warehouse.database import Warehouse, WarehouseError
from iss_assets.warehouse.sql_build import build_models, built_models, run_tests, try_models
from iss_assets.warehouse.sql_head import SqlModelError, parse_head
from iss_assets.warehouse.sql_models import check_models, load_models
from iss_assets.warehouse.tables import Patients

GOOD = """-- One row a patient.
--
-- materialized: table
-- column patient_id: Patient id. [unique, not_null]
-- column pain_target: Worst pain. [range: 0..10]
with chosen as (
    select patient_id, pain_target from patients
)
select patient_id, pain_target from chosen;
"""


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


def test_the_projects_own_models_have_no_fault() -> None:
    assert check_models(WarehouseSettings().sql_dir) == []


def test_a_model_knows_its_columns_tests_and_what_it_reads_besides_its_ctes(tmp_path: Path) -> None:
    model = load_models(write(tmp_path, {"marts/severity.sql": GOOD})).models["severity"]
    assert model.group == "marts"
    assert model.materialized == "table"
    assert model.depends_on == ("patients",)
    assert [(c.name, c.type, c.description) for c in model.columns] == [
        ("patient_id", "VARCHAR", "Patient id."),
        ("pain_target", "INTEGER", "Worst pain."),
    ]
    assert [t.name for t in model.tests] == ["unique_patient_id", "not_null_patient_id", "range_pain_target"]


def test_lineage_goes_down_to_columns_through_ctes_joins_and_stars(tmp_path: Path) -> None:
    models = load_models(
        write(
            tmp_path,
            {
                "staging/people.sql": "-- P.\n-- column patient_id: i\n-- column goal: g\n"
                "select patient_id, pain_target * 2 as goal from patients",
                "marts/joined.sql": "-- J.\n-- column patient_id: i\n-- column goal: g\n-- column both: b\n-- column n: n\n"
                "with a as (select * from people)\n"
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


def test_a_syntax_error_is_told_with_its_line_and_the_other_models_load(tmp_path: Path) -> None:
    broken = GOOD.replace(
        "select patient_id, pain_target from chosen", "select patient_id,\n  from from chosen"
    )
    folder = write(tmp_path, {"marts/good.sql": GOOD, "marts/broken.sql": broken})
    models = load_models(folder)
    assert list(models.models) == ["good"]
    (error,) = models.errors
    assert error.file == "marts/broken.sql"
    assert error.line in (9, 10)


def test_an_unclosed_quote_is_told_with_its_line(tmp_path: Path) -> None:
    error = only_error(
        write(tmp_path, {"marts/x.sql": "-- X.\n-- column a: a\nselect\n  'open as a from patients"})
    )
    assert error.line == 4


def test_an_unknown_table_is_told_with_its_line_and_the_name_that_was_meant(tmp_path: Path) -> None:
    error = only_error(write(tmp_path, {"marts/x.sql": GOOD.replace("from patients", "from patiens")}))
    assert (error.file, error.line) == ("marts/x.sql", 7)
    assert "unknown table patiens; did you mean patients?" in str(error)


def test_an_unknown_column_and_an_unknown_function_are_told_with_their_line(tmp_path: Path) -> None:
    error = only_error(
        write(tmp_path / "a", {"marts/x.sql": GOOD.replace("select patient_id, p", "select patient, p", 1)})
    )
    assert error.line == 7
    assert "patient" in error.problem
    wrong = GOOD.replace("pain_target from chosen", "\n  no_such(pain_target) as pain_target from chosen")
    error = only_error(write(tmp_path / "b", {"marts/x.sql": wrong}))
    assert error.line == 10


def test_models_that_read_each_other_are_told_as_a_cycle(tmp_path: Path) -> None:
    def reads(table: str) -> str:
        return f"-- C.\n-- column a: a\nselect a\nfrom {table}"

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
        ("marts/a.sql", 4),
        ("marts/b.sql", 4),
        ("marts/c.sql", 4),
    ]
    assert "a → b → c → a" in str(models.errors[0])


def test_a_model_that_reads_a_broken_one_says_which_and_where(tmp_path: Path) -> None:
    models = load_models(
        write(
            tmp_path,
            {
                "staging/base.sql": "-- B.\n-- column a: a\nselect nothing as a from patients",
                "marts/top.sql": "-- T.\n-- column a: a\nselect a\nfrom base",
            },
        )
    )
    assert models.models == {}
    top = models.broken["top"]
    assert top.line == 4
    assert "reads base, which is broken: staging/base.sql:3" in str(top)


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


def test_a_column_documented_but_not_selected_or_selected_but_not_documented_is_an_error(
    tmp_path: Path,
) -> None:
    extra = GOOD.replace("-- column pain_target", "-- column gone: Not there.\n-- column pain_target")
    error = only_error(write(tmp_path / "a", {"marts/x.sql": extra}))
    assert error.line == 5
    assert "gone is documented but not selected" in str(error)
    error = only_error(
        write(
            tmp_path / "b",
            {"marts/x.sql": GOOD.replace("-- column pain_target: Worst pain. [range: 0..10]\n", "")},
        )
    )
    assert error.line == 8
    assert "pain_target is selected but not documented" in str(error)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("-- materialised: table", "none of"),
        ("-- materialized: tabel", "'table' or 'view'"),
        ("-- column sex: Sex. [acepted_values: M]", "unknown test"),
        ("-- column sex: Sex. [unique: yes]", "takes no argument"),
        ("-- column sex: Sex. [accepted_values]", "needs values"),
        ("-- column sex: Sex. [range: low..high]", "range needs"),
        ("-- column sex: Sex. [relationships: patients]", "relationships needs"),
        ("-- column sex:", "has no description"),
        ("-- test nothing:", "has no SELECT"),
        ("-- column Sex: Sex.", "a name is"),
    ],
)
def test_a_wrong_line_in_the_head_comment_is_told_with_its_number(line: str, problem: str) -> None:
    with pytest.raises(SqlModelError, match=problem) as caught:
        parse_head(f"-- One row.\n--\n-- materialized: view\n{line}\nselect 1", "x.sql")
    assert caught.value.line == 4


def test_long_lines_of_the_head_comment_continue_indented(tmp_path: Path) -> None:
    head = parse_head(
        "-- One row a thing,\n-- told at length.\n--\n-- column a: First half\n--   second half. [not_null]\nselect 1 as a",
        "x",
    )
    assert head.description == "One row a thing, told at length."
    assert head.columns[0].description == "First half second half."
    assert [t.name for t in head.tests] == ["not_null_a"]


@pytest.mark.parametrize(
    "query",
    [
        "select a from read_csv('/etc/passwd') as r(a)",
        "select a from '/etc/passwd' as r(a)",
        "select a from main.patients as r(a)",
    ],
)
def test_a_model_reads_tables_of_the_warehouse_and_nothing_else(tmp_path: Path, query: str) -> None:
    error = only_error(write(tmp_path, {"marts/x.sql": f"-- X.\n-- column a: a\n{query}"}))
    assert error.line == 3


def test_a_file_with_two_statements_or_none_that_selects_is_refused(tmp_path: Path) -> None:
    error = only_error(write(tmp_path / "a", {"marts/x.sql": GOOD + "\ndrop table patients;"}))
    assert "one file is one SELECT" in str(error)
    error = only_error(write(tmp_path / "b", {"marts/x.sql": "-- X.\ndelete from patients"}))
    assert (error.line, error.problem) == (2, "the file is not a SELECT")


def test_a_folder_that_is_not_there_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(SqlModelError, match="ISS_WAREHOUSE__SQL_DIR"):
        load_models(tmp_path / "nowhere")


def test_a_test_with_a_fault_is_told_with_its_line(tmp_path: Path) -> None:
    error = only_error(
        write(
            tmp_path,
            {
                "marts/x.sql": GOOD.replace(
                    "with chosen", "-- test t: select * from {this} where gone = 1\nwith chosen"
                )
            },
        )
    )
    assert error.line == 6
    assert "test t" in str(error)


def test_a_built_table_can_be_queried_and_carries_its_documentation(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    models = load_models(write(tmp_path / "sql", {"marts/severity.sql": GOOD}))
    assert build_models(warehouse, models) == {"severity": 2}
    assert built_models(warehouse, models) == ["severity"]
    assert warehouse.query("select * from severity order by 1")["patient_id"].to_pylist() == ["0001", "0002"]
    comment = warehouse.query("select comment from duckdb_tables() where table_name = 'severity'")
    assert comment["comment"].to_pylist() == ["One row a patient."]


def test_a_build_that_fails_leaves_the_old_table(warehouse: Warehouse, tmp_path: Path) -> None:
    folder = write(tmp_path / "sql", {"marts/severity.sql": GOOD})
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
                "marts/top.sql": "-- T.\n-- column n: n\nselect count(*) as n from severity",
                "marts/people.sql": "-- P.\n-- column n: n\nselect count(*) as n from patients",
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
                "staging/severity.sql": GOOD.replace("materialized: table", "materialized: view"),
                "marts/top.sql": "-- T.\n-- column n: n\nselect count(*) as n from severity",
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
        folder = write(
            tmp_path / "sql",
            {"marts/severity.sql": GOOD.replace("materialized: table", f"materialized: {kind}")},
        )
        assert build_models(warehouse, load_models(folder)) == {"severity": 2}


def test_a_model_whose_upstream_is_not_built_says_so(warehouse: Warehouse, tmp_path: Path) -> None:
    models = load_models(
        write(
            tmp_path / "sql",
            {
                "marts/severity.sql": GOOD,
                "marts/top.sql": "-- T.\n-- column n: n\nselect count(*) as n from severity",
            },
        )
    )
    error = try_models(warehouse, models, ["top"]).outcomes["top"]
    assert isinstance(error, WarehouseError)
    assert "build its upstream models first" in str(error)
    assert build_models(warehouse, models, ["top"]) == {"severity": 2, "top": 1}


def test_every_kind_of_test_finds_the_rows_that_break_it(warehouse: Warehouse, tmp_path: Path) -> None:
    text = """-- One row.
--
-- key: letter, number
-- column letter: Letter. [unique, not_null, accepted_values: a, b]
-- column number: Number. [range: 0..3, not_null]
-- column patient_id: Patient. [relationships: patients.patient_id]
-- test small: select * from {this} where number > 1
-- warn few: select 1 from {this} having count(*) > 2
select * from (values ('a', 1, '0001'), ('a', 1, '0009'), ('c', 9, null), (null, -1, '0002')) as v (letter, number, patient_id)
"""
    models = load_models(write(tmp_path / "sql", {"marts/x.sql": text}))
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

PEOPLE = "-- P.\n-- column n: n\nselect count(*) as n from patients"
SEVERITY_VIEW = GOOD.replace("materialized: table", "materialized: view")


@pytest.fixture
def three(warehouse: Warehouse, tmp_path: Path) -> Path:
    """A folder with a table and a view that are built, and one more model that stays."""
    files = {"marts/severity.sql": GOOD, "marts/views.sql": SEVERITY_VIEW, "marts/people.sql": PEOPLE}
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
    write(three, {"marts/people.sql": "-- P.\n-- column n: n\nselect error('no') as n from patients"})
    build = try_models(warehouse, load_models(three), ["people"])
    assert isinstance(build.outcomes["people"], Exception)
    assert build.removed == ()
    assert "views" in names_in(warehouse)
