"""The paper's Tables 2 and 4, number by number, out of a study with the paper's counts."""

import math
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from iss_assets.checks.scores import WEEKS
from iss_assets.checks.stages import STAGES
from iss_assets.checks.study import read_frames
from iss_assets.defs.checks.factory import evaluate
from iss_assets.defs.resources import WarehouseResource
from iss_assets.media.identity import MIN_FACES
from iss_assets.protocol import terms
from iss_assets.reports.measures import one_per_video, over_time
from iss_assets.schemas.identity import FaceIdentity
from iss_assets.schemas.intake import BpiScores, Patients
from iss_assets.schemas.prompts import PromptReadings
from iss_assets.settings import Settings, WarehouseSettings
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.sql.build import build_models, run_tests
from iss_assets.warehouse.sql.models import SqlModels, load_models
from iss_assets_tests.made_up import TABLE_2, TABLE_4_FRAMES, paper_study_in
from iss_assets_tests.times import time_columns


@pytest.fixture(scope="module")
def models() -> SqlModels:
    return load_models(WarehouseSettings().sql_dir)


@pytest.fixture(scope="module")
def study(models: SqlModels, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    made = paper_study_in(tmp_path_factory.mktemp("paper") / "warehouse.duckdb")
    build_models(made, models)
    yield made


def rows(warehouse: Warehouse, sql: str) -> list[dict[str, Any]]:
    return warehouse.query(sql).to_pylist()


def test_every_declared_test_of_every_model_passes_on_the_papers_study(
    study: Warehouse, models: SqlModels
) -> None:
    failed = [
        (name, r.test.name)
        for name, results in run_tests(study, models.models.values()).items()
        for r in results
        if not r.passed
    ]
    assert failed == []
    assert sum(len(m.tests) for m in models.models.values()) > 150


def test_rows_and_their_order_depend_neither_on_how_tables_lie_nor_on_threads(
    study: Warehouse, models: SqlModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Patients are written as they are done: sums of fractions must not depend on who was first."""
    shuffled = paper_study_in(tmp_path / "warehouse.duckdb")
    with shuffled.write() as writer:
        # faces and landmarks are only counted, and take long to write
        for name in {d for m in models.models.values() for d in m.depends_on} - {
            "faces", "landmarks", *models.models
        }:  # fmt: skip
            writer.execute(f"create temp table other as select * from {name} order by hash(rowid)")
            writer.execute(f"delete from {name}")
            writer.execute(f"insert into {name} select * from other")
            writer.execute("drop table other")
    monkeypatch.setattr("iss_assets.warehouse.engine._threads", 1)
    build_models(shuffled, models)
    for model in models.models.values():
        order = "" if model.materialized == "table" else "order by all"
        query = f"select * from {model.name} {order}"
        assert repr(rows(shuffled, query)) == repr(rows(study, query)), model.name
    suites = [read_frames(warehouse, Settings()) for warehouse in (study, shuffled)]
    assert suites[0].keys() == suites[1].keys()
    for name, frame in suites[0].items():
        assert frame.to_csv() == suites[1][name].to_csv(), name


def test_table_2_comes_out_cohort_by_cohort(study: Warehouse) -> None:
    found = {r["cohort"]: r for r in rows(study, "select * from cohort_enrollment")}
    # The text of section 3.1 says twelve cohorts; Table 2 lists sixteen, which 112 = 16 x 7 confirms.
    assert len(found) == 16
    assert {c: r["current"] for c, r in found.items()} == TABLE_2
    assert all(r["goal"] == 7 for r in found.values())
    assert all(r["to_go"] == 7 - r["current"] for r in found.values())
    assert sum(r["goal"] for r in found.values()) == 112
    assert sum(r["current"] for r in found.values()) == 30
    assert {k: found["2C"][k] for k in ("pain_target", "skin_types", "sex", "pain_level")} == {
        "pain_target": "1-3",
        "skin_types": "IV-VI",
        "sex": "M",
        "pain_level": "Low",
    }


def test_the_left_half_of_table_4_comes_out_number_by_number(study: Warehouse) -> None:
    (found,) = rows(study, "select * from study_summary")
    # Table 2 counts 30 patients with 0009, whose data were unusable; Table 4 the 29 others.
    assert found["enrolled"] == 30
    assert found["patients"] == 29
    assert (found["male"], found["female"]) == (20, 9)
    assert (found["skin_light"], found["skin_dark"]) == (17, 12)
    assert found["videos"] == 509
    assert found["frames"] == 189_999
    assert round(found["videos_per_patient"], 2) == 17.55
    # 189,999 / 29 = 6551.69: the paper cuts off and does not round.
    assert math.floor(found["frames_per_patient"]) == 6551
    # 509 x 37.32 s = 316.6 min: the paper cuts off here too.
    assert math.floor(found["total_minutes"]) == 316
    assert round(found["seconds_per_patient"]) == 655
    assert round(found["seconds_per_video"], 2) == 37.32
    # Table 4 says 3.52 - 135.79; Table 1 says 135.59 for the same figure.
    assert round(found["shortest_video_s"], 2) == 3.52
    assert round(found["longest_video_s"], 2) == 135.79


def test_the_right_half_of_table_4_comes_out_number_by_number(study: Warehouse) -> None:
    found = {
        (r["levels"], r["pain_level"]): (r["frames"], round(r["ratio"], 2), r["patients"])
        for r in rows(study, "select * from pain_level_balance")
    }
    assert found == {
        (4, "None"): (100_984, 1.00, 13),
        (4, "Low"): (11_784, 8.57, 4),
        (4, "Moderate"): (25_999, 3.88, 4),
        (4, "Severe"): (51_232, 1.97, 8),
        (2, "No Pain"): (100_984, 1.00, 13),
        (2, "Pain"): (89_015, 1.13, 16),
    }
    assert sum(TABLE_4_FRAMES.values()) == 189_999


def test_the_flow_from_frames_to_landmarks_is_the_papers(study: Warehouse) -> None:
    found = {r["stage"]: r for r in rows(study, "select * from participant_flow")}
    assert [found[s]["items"] for s in ("frame sampled", "face found", "landmarks found")] == [
        189_999,
        173_011,
        168_063,
    ]
    assert round(found["landmarks found"]["lost_share"] * 100, 2) == 2.86
    assert found["enrolled"]["patients"] == 30
    assert found["analyzed"]["patients"] == 29
    assert found["all nine scores answered"]["patients"] == 29  # all but 0015; 0009 did answer
    for stage in ("analyzed", "frames sampled", "frame sampled", "face found", "landmarks found"):
        assert found[stage]["items"] == found[stage]["paper_items"]


def test_the_projection_to_112_patients_is_the_papers_but_for_its_hours(study: Warehouse) -> None:
    (found,) = rows(study, "select * from study_projection")
    assert found["patients_to_come"] == 83
    assert math.floor(found["more_videos"]) == 1456
    # 83 x 6551, the cut-off average; unrounded it is 543,790
    assert abs(found["more_frames"] - 543_733) < 83
    # The paper says 3.8 hours; 83 patients of 655 s each are 15.1 hours.
    assert round(found["more_hours"], 1) == 15.1


def test_correlations_reach_the_papers_level_among_the_five_close_items(study: Warehouse) -> None:
    found = rows(study, "select * from pain_score_correlations")
    assert len(found) == 45
    close = [r for r in found if r["paper_above"] is not None]
    assert len(close) == 10
    assert all(r["pearson"] > 0.89 for r in close)
    # 509 submissions with a video, one of the unusable patient, less those of 0015 who gave no scores
    (answered,) = rows(study, "select count(*) as n from bpi_scores where missing_scores = 0")
    assert {r["submissions"] for r in found} == {answered["n"]}
    assert any(r["score_b"] == "pain_target" for r in found)


def test_correlations_agree_with_numpy(study: Warehouse) -> None:
    import numpy as np

    frame = study.query("select * from bpi_scores where missing_scores = 0").to_pandas()
    expected = np.corrcoef(frame["sleep"].astype(float), frame["mood"].astype(float))[0, 1]
    (found,) = rows(
        study, "select pearson from pain_score_correlations where score_a = 'mood' and score_b = 'sleep'"
    )
    assert found["pearson"] == pytest.approx(expected, abs=1e-9)


def test_enrollment_is_projected_to_its_goal_and_no_further(study: Warehouse) -> None:
    found = rows(study, "select * from enrollment_progress order by month")
    seen = [r for r in found if r["kind"] == "seen"]
    projected = [r for r in found if r["kind"] == "projected"]
    assert seen[0]["month"] == date(2020, 12, 1)
    assert sum(r["enrolled"] for r in seen) == 30
    assert seen[-1]["total"] == 30
    assert projected[-1]["total"] == 112
    assert all(a["total"] < b["total"] for a, b in pairwise(projected))
    assert projected[-2]["total"] < 112
    # the projection is one straight line from the last day seen
    days = [(r["as_of"] - seen[-1]["as_of"]).days for r in projected]
    assert [r["total"] for r in projected[:-1]] == pytest.approx(
        [30 + d * projected[0]["pace"] / 30.4375 for d in days[:-1]]
    )
    assert 0 <= 30 + days[-1] * projected[0]["pace"] / 30.4375 - 112 < projected[0]["pace"] / 30.4375
    (last,) = rows(study, "select max(submitted_on) as day from bpi_scores")
    assert seen[-1]["as_of"] == last["day"]
    assert all(r["as_of"] == date(r["month"].year + r["month"].month // 12, r["month"].month % 12 + 1, 1)
               - timedelta(days=1) for r in (*seen[:-1], *projected[:-1]))  # fmt: skip


def test_every_experiment_of_table_5_has_its_published_figures(study: Warehouse) -> None:
    found = {r["experiment"]: r for r in rows(study, "select * from model_table")}
    published = {e: r["paper_all_classes"] for e, r in found.items()}
    assert published == {
        "resnet50_4_static": 0.378,
        "resnet50_2_static": 0.568,
        "forest_landmarks": 0.373,
        "forest_pain": 0.650,
        "fusion_1": 0.513,
        "fusion_2": 0.631,
        "fusion_3": 0.657,
        "audio_static": 0.456,
    }
    assert (found["fusion_3"]["paper_no_pain"], found["fusion_3"]["paper_pain"]) == (0.582, 0.717)
    assert [found["resnet50_4_static"][f"paper_{n}"] for n in ("none", "low", "moderate", "severe")] == [
        0.583,
        0.168,
        0.252,
        0.213,
    ]
    assert all(r["all_classes"] is None for r in found.values())


def test_the_published_figures_are_those_that_the_report_uses(study: Warehouse) -> None:
    from iss_assets.protocol.published import TABLE_5

    found = {r["experiment"]: r for r in rows(study, "select * from model_table")}
    for published in TABLE_5:
        row = found[published.experiment]
        shown = {
            n: row[f"paper_{n}"]
            for n in ("all_classes", "none", "low", "moderate", "severe", "no_pain", "pain")
        }
        assert {n: v for n, v in shown.items() if v is not None} == published.figures
        assert row["model"] == published.label
        assert row["classes"] == published.classes


# ------------------------------------------------------------------ small studies, rule by rule


def patient(
    number: int, enrolled_on: date | None = date(2021, 3, 1), offset: int | None = 0
) -> dict[str, Any]:
    return {
        "patient_id": f"{number:04d}",
        "cohort": "1A",
        "sex": "M",
        "skin_type": "I",
        "skin_group": "light",
        "pain_target": 0,
        "pain_level": "None",
        "enrolled_on": enrolled_on,
        "utc_offset_minutes": offset,
    }


def survey(name: str, patient_id: str, at: datetime, offset: int = 0, **scores: int) -> dict[str, Any]:
    return {
        "submission_id": name,
        "patient_id": patient_id,
        **time_columns(at, offset),
        "setting": "home",
        "missing_scores": 9 - len(scores),
        **scores,
    }


def small_study(
    warehouse: Warehouse, models: SqlModels, patients: list[dict[str, Any]], surveys: list[dict[str, Any]]
) -> Warehouse:
    warehouse.replace(Patients, Patients.from_rows(patients), {})
    warehouse.replace(BpiScores, BpiScores.from_rows(surveys), {})
    build_models(warehouse, models, ["submission_adherence", "pain_scores_daily", "patient_timeline"])
    return warehouse


def test_an_empty_study_gives_empty_marts_and_no_error(warehouse: Warehouse, models: SqlModels) -> None:
    built = build_models(warehouse, models)
    assert built["cohort_enrollment"] == 16
    assert built["patient_timeline"] == built["enrollment_progress"] == 0
    (summary,) = rows(warehouse, "select * from study_summary")
    assert summary["patients"] == 0
    assert summary["videos_per_patient"] is None
    failed = [
        (name, r.test.name)
        for name, results in run_tests(warehouse, models.models.values()).items()
        for r in results
        if not r.passed
    ]
    assert failed == []


def test_weeks_run_from_enrollment_on_the_patients_own_calendar(
    warehouse: Warehouse, models: SqlModels
) -> None:
    # 03:00 UTC on the 8th is still the evening of the 7th, week one, where the clock is five hours behind
    small_study(
        warehouse,
        models,
        [patient(1, offset=-300)],
        [
            survey("a", "0001", datetime(2021, 3, 8, 3, tzinfo=UTC), -300),
            survey("b", "0001", datetime(2021, 3, 8, 15, tzinfo=UTC), -300),
        ],
    )
    found = rows(warehouse, "select study_day, study_week from stg_submissions order by submission_id")
    assert found == [{"study_day": 6, "study_week": 1}, {"study_day": 7, "study_week": 2}]


def test_adherence_counts_days_and_spares_a_week_that_still_runs(
    warehouse: Warehouse, models: SqlModels
) -> None:
    at = [datetime(2021, 3, day, hour, tzinfo=UTC) for day, hour in ((1, 9), (1, 20), (3, 9), (10, 9))]
    small_study(warehouse, models, [patient(1)], [survey(f"s{i}", "0001", when) for i, when in enumerate(at)])
    found = rows(warehouse, "select * from submission_adherence order by study_week")
    assert [(r["submissions"], r["days"], r["missing"], r["complete"]) for r in found] == [
        (3, 2, 1, True),
        (1, 1, 0, False),
    ]
    assert found[0]["adherence"] == pytest.approx(2 / 3)


def test_a_patient_without_a_day_of_enrollment_starts_with_the_first_submission(
    warehouse: Warehouse, models: SqlModels
) -> None:
    small_study(
        warehouse,
        models,
        [patient(1, enrolled_on=None)],
        [survey("a", "0001", datetime(2021, 5, 4, 9, tzinfo=UTC))],
    )
    (found,) = rows(warehouse, "select study_day, study_week, started_on from stg_submissions")
    assert found == {"study_day": 0, "study_week": 1, "started_on": date(2021, 5, 4)}
    assert [r["event"] for r in rows(warehouse, "select event from patient_timeline")] == ["submission"]


def test_answers_left_out_count_nowhere_and_never_as_zero(warehouse: Warehouse, models: SqlModels) -> None:
    day = datetime(2021, 3, 2, 9, tzinfo=UTC)
    small_study(
        warehouse,
        models,
        [patient(1)],
        [survey("a", "0001", day, mood=8), survey("b", "0001", day.replace(hour=12), mood=6, sleep=2)],
    )
    (daily,) = rows(warehouse, "select * from pain_scores_daily")
    assert (daily["mood"], daily["sleep"], daily["pain_now"]) == (7, 2, None)
    assert daily["submissions"] == 2
    assert daily["interference"] == pytest.approx(4.5)
    events = rows(
        warehouse,
        "select interference, has_video from patient_timeline where event = 'submission' order by event_number",
    )
    assert [e["interference"] for e in events] == [8, 4]
    assert not any(e["has_video"] for e in events)


def test_the_timeline_begins_with_enrollment_even_when_a_submission_came_on_the_same_day(
    warehouse: Warehouse, models: SqlModels
) -> None:
    small_study(warehouse, models, [patient(1)], [survey("a", "0001", datetime(2021, 3, 1, 9, tzinfo=UTC))])
    found = rows(
        warehouse, "select event, event_number, days_since_last from patient_timeline order by event_number"
    )
    assert [(r["event"], r["days_since_last"]) for r in found] == [("enrolled", None), ("submission", 0)]


def test_marts_hold_no_free_text(models: SqlModels) -> None:
    words = {"problem", "reason", "file"}
    for model in models.models.values():
        assert not words & {c.name for c in model.columns}
        assert not any(
            source in words for pairs in models.lineage(model.name).values() for _, source in pairs
        )


def test_columns_have_types_that_every_reader_knows(models: SqlModels) -> None:
    known = {
        "VARCHAR",
        "BIGINT",
        "INTEGER",
        "DOUBLE",
        "FLOAT",
        "DATE",
        "BOOLEAN",
        "TIMESTAMP",
        "TIMESTAMP WITH TIME ZONE",
        "VARCHAR[]",
    }
    assert {c.type for m in models.models.values() for c in m.columns} <= known


def test_the_sql_folder_is_found_next_to_the_package() -> None:
    assert (WarehouseSettings().sql_dir / "marts").is_dir()
    assert WarehouseSettings(sql_dir=Path("elsewhere")).sql_dir == Path("elsewhere")


def test_the_goals_of_the_protocol_are_those_of_its_one_owner(study: Warehouse) -> None:
    """SQL cannot read Python: the numbers stand in both, and this holds them together."""
    assert {r["goal"] for r in rows(study, "select goal from enrollment_progress")} == {terms.ENROLLMENT_GOAL}
    assert {r["goal"] for r in rows(study, "select goal from cohort_enrollment")} == {terms.COHORT_GOAL}
    (projection,) = rows(study, "select patients + patients_to_come as goal from study_projection")
    assert projection["goal"] == terms.ENROLLMENT_GOAL
    (weeks,) = rows(study, "select max(study_week) as most, max(expected) as days from submission_adherence")
    assert (weeks["most"], weeks["days"]) == (WEEKS, terms.WEEKLY_SUBMISSIONS)


def test_the_mart_and_the_check_call_the_same_weeks_short(study: Warehouse) -> None:
    resource = WarehouseResource(study=str(study.path.parent / "study"), home=str(study.path.parent))
    stage = next(s for s in STAGES if "bpi_scores" in s.tables)
    short: dict[str, list[int]] = {}
    for row in rows(study, "select * from submission_adherence where missing > 0 order by study_week"):
        short.setdefault(row["patient_id"], []).append(row["study_week"])
    patients = [r["patient_id"] for r in rows(study, "select patient_id from patients")]
    found = {}
    for patient in patients:
        ((_, finding),) = evaluate(
            stage, patient, resource, {("bpi_scores", "fewer_than_three_a_week")}, print
        )
        if not finding.passed:
            found[patient] = finding.numbers["numbers of the short weeks"]
    assert found == short
    assert len(short) > 0


def test_a_submission_on_an_unknown_day_counts_on_no_day_and_makes_no_week_short(
    warehouse: Warehouse, models: SqlModels
) -> None:
    unknown = {
        "submission_id": "u",
        "patient_id": "0001",
        "written_time": datetime(2021, 3, 5, 9),
        "utc_offset_source": "unknown",
        "pain_now": 4,
        "missing_scores": 8,
    }
    at = [datetime(2021, 3, day, 9, tzinfo=UTC) for day in (1, 3, 20)]
    known = [survey(f"s{i}", "0001", when) for i, when in enumerate(at)]
    small_study(warehouse, models, [patient(1, offset=None)], [*known, unknown])
    found = rows(warehouse, "select * from submission_adherence order by study_week")
    assert [(r["submissions"], r["days"], r["unknown_days"], r["missing"]) for r in found] == [
        (2, 2, 1, 0),
        (0, 0, 1, 2),
        (1, 1, 1, 0),
    ]
    assert [r["adherence"] for r in found] == [None, None, None]
    assert "u" not in {
        r["submission_id"] for r in rows(warehouse, "select * from stg_submissions") if r["submitted_on"]
    }
    timeline = rows(warehouse, "select * from patient_timeline order by event_number")
    assert [r["submission_id"] for r in timeline] == [None, "s0", "s1", "u", "s2"]
    (own,) = (r for r in timeline if r["submission_id"] == "u")
    assert (own["happened_on"], own["timeframe"], own["pain_now"]) == (None, None, 4)
    assert sum(r["submissions"] for r in rows(warehouse, "select submissions from pain_scores_daily")) == 3
    built = ("stg_submissions", "submission_adherence", "pain_scores_daily", "patient_timeline")
    results = run_tests(warehouse, [models.models[name] for name in built])
    assert [r.test.name for own in results.values() for r in own if not r.passed] == []


def test_age_groups_are_counted_where_the_study_has_them_and_are_empty_where_not(
    study: Warehouse, models: SqlModels, tmp_path: Path
) -> None:
    without = rows(study, "select adult, pediatric from study_summary")
    assert without == [{"adult": None, "pediatric": None}]
    assert rows(study, "select distinct adult, pediatric from cohort_enrollment") == without
    assert rows(study, "from quality_by_group where grouping = 'age_group'") == []

    with_ages = paper_study_in(tmp_path / "warehouse.duckdb")
    with with_ages.write() as writer:
        # 0009 is pediatric and not analyzed; of 0001 nothing is known
        writer.execute(
            "update patients set age_group = case when patient_id in ('0009', '0015', '0020') then 'pediatric' "
            "else 'adult' end where patient_id <> '0001'"
        )
    build_models(with_ages, models)
    assert rows(with_ages, "select patients, adult, pediatric from study_summary") == [
        {"patients": 29, "adult": 26, "pediatric": 2}
    ]
    enrolled = (
        "select sum(current)::int as c, sum(adult)::int as a, sum(pediatric)::int as p from cohort_enrollment"
    )
    assert rows(with_ages, enrolled) == [{"c": 30, "a": 26, "p": 3}]
    groups = "select group_name, patients from quality_by_group where grouping = 'age_group' order by 1"
    # videos of 0009 were submitted, too
    assert rows(with_ages, groups) == [
        {"group_name": "adult", "patients": 26},
        {"group_name": "pediatric", "patients": 3},
    ]
    assert "age" not in set(read_frames(study, Settings())["study_groups"]["attribute"])
    settings = Settings()
    few = settings.model_copy(update={"checks": settings.checks.model_copy(update={"group_patients": 2})})
    compared = read_frames(with_ages, few)["study_groups"].query("attribute == 'age'")
    assert set(compared["first_group"] + compared["second_group"]) == {"adultpediatric"}


def test_temperatures_over_time_are_those_of_pictures_that_could_be_read_beside_the_days_pain(
    study: Warehouse,
) -> None:
    found = rows(study, "select * from thermal_over_time")
    (stored,) = rows(study, "select count(*) as n, count_if(status = 'ok') as ok from thermal")
    measured = [r for r in found if r["forehead_c"] is not None]

    assert len(found) == stored["ok"] < stored["n"] and 0 < len(measured) < len(found)
    assert all(r["forehead_above_nose_c"] == pytest.approx(r["forehead_c"] - r["nose_c"]) for r in measured)
    assert {r["pair_gap_s"] for r in found} == {2.0}
    assert sum(r["pain_now"] is not None for r in found) > 20


def test_a_patients_temperatures_are_medians_over_pictures(study: Warehouse) -> None:
    summaries = rows(study, "select * from thermal_summary")
    for summary in summaries:
        own = rows(study, f"select * from thermal_over_time where patient_id = '{summary['patient_id']}'")
        foreheads = [r["forehead_c"] for r in own if r["forehead_c"] is not None]
        assert (summary["pictures"], summary["measured"]) == (len(own), len(foreheads))
        assert summary["paired"] == len(own)
        if foreheads:
            assert summary["forehead_c"] == pytest.approx(median(foreheads))
            assert summary["forehead_change_c"] == pytest.approx(max(foreheads) - min(foreheads))
            changes = sorted(r["forehead_change_c"] for r in own if r["forehead_c"] is not None)
            assert median(changes) == pytest.approx(0, abs=1e-9)
    assert len(summaries) > 10 and any(s["measured"] >= 2 for s in summaries)


def test_pages_draw_a_patients_temperatures_by_the_time_of_the_check_in(study: Warehouse) -> None:
    pictures = study.query(one_per_video("thermal")).to_pandas()
    patient = pictures.dropna(subset=["forehead_c"])["patient_id"].value_counts().index[0]
    own = pictures[pictures["patient_id"] == patient]
    times = {r["submission_id"]: r["submitted_local"] for r in rows(study, "select * from stg_submissions")}
    (drawn,) = over_time({"thermal": own}, times)
    assert drawn.heading == "Temperature of the face"
    assert [(title, unit) for title, unit, _ in drawn.plots] == [
        ("Forehead", "median, °C"),
        ("Nose", "median, °C"),
    ]
    chart = str(drawn.plots[0][2])
    assert f"Forehead: {own['forehead_c'].notna().sum()} value" in chart
    # 10 px high digits are no wider than 6 px: none is cut off at the left edge
    beside = re.findall(r'<text x="([\d.]+)"[^>]* text-anchor="end" class="tick" >([^<]+)</text>', chart)
    assert len(beside) == 4 and all(float(x) >= 6 * len(words) for x, words in beside)


def test_a_voice_over_time_is_the_row_of_the_whole_video_beside_the_days_pain(study: Warehouse) -> None:
    found = rows(study, "select * from voice_over_time")
    spoken = [r for r in found if r["f0_median_hz"] is not None]

    assert len(found) == 509 and len({r["video_id"] for r in found}) == 509
    assert len(spoken) == 509 - 73  # every seventh is silent
    assert {r["pauses_per_minute"] for r in spoken} == {3 / (8.0 + 2.0) * 60}
    assert {r["pauses_per_minute"] for r in found if r not in spoken} == {None}
    assert sum(r["pain_now"] is not None for r in found) > 400


def test_a_patients_voice_is_the_median_over_videos_and_compared_with_the_patients_own(
    study: Warehouse,
) -> None:
    over_time = rows(study, "select * from voice_over_time where patient_id = '0003' order by f0_median_hz")
    (summary,) = rows(study, "select * from voice_summary where patient_id = '0003'")
    pitches = [r["f0_median_hz"] for r in over_time if r["f0_median_hz"] is not None]

    assert (summary["videos"], summary["measured"]) == (len(over_time), len(pitches))
    assert summary["f0_median_hz"] == pytest.approx(median(pitches))
    assert summary["f0_change_semitones"] == pytest.approx(12 * math.log2(pitches[-1] / pitches[0]))
    assert over_time[0]["f0_change_semitones"] == pytest.approx(12 * math.log2(pitches[0] / median(pitches)))
    assert summary["speech_minutes"] == pytest.approx(len(pitches) * 8 / 60)


def test_behavior_over_time_and_of_a_patient_is_that_of_whole_videos(study: Warehouse) -> None:
    found = rows(study, "select * from behavior_over_time where patient_id = '0003'")
    (summary,) = rows(study, "select * from behavior_summary where patient_id = '0003'")
    still = [r["still_share"] for r in found if r["still_share"] is not None]

    assert len({r["video_id"] for r in found}) == len(found) == summary["videos"]
    assert summary["measured"] == len(still) < len(found)
    assert summary["still_share"] == pytest.approx(median(still))
    assert summary["minutes"] == pytest.approx(3 * len(still) / 60)


def test_faces_of_two_videos_are_compared_where_a_moment_has_enough_of_them(
    models: SqlModels, tmp_path: Path
) -> None:
    """Vectors at known angles: 0, 60 and 90 degrees from one another are 0, 1/2 and 1 apart."""
    store = Warehouse(tmp_path / "warehouse.duckdb")
    store.create()

    def moment(
        video: str, number: int, degrees: float, faces: int = MIN_FACES, method: str = "sface"
    ) -> dict[str, Any]:
        angle = math.radians(degrees)
        vector = [math.cos(angle), math.sin(angle), *[0.0] * 126]
        times = {"start_s": float(number), "end_s": number + 1.0, "distance": 0.0, "fingerprint": "made-up"}
        keys = {"video_id": video, "patient_id": video[:4], "moment": number}
        return {**keys, **times, "faces": faces, "method": method, "vector": vector}

    found = [
        moment("0001-1", 0, 0),
        moment("0001-2", 0, 60),
        moment("0001-2", 1, 60),
        moment("0001-2", 2, 90),
        # with these, too few faces each, the median would be 1
        *(moment("0001-2", 3 + n, 90, MIN_FACES - 1) for n in range(4)),
        # another patient, whose videos are compared with each other only
        moment("0002-1", 0, 0),
        moment("0002-2", 0, 90),
        # vectors of two networks cannot be compared
        moment("0003-1", 0, 0),
        moment("0003-2", 0, 0, method="vggface2"),
        moment("0003-3", 0, 60, method="vggface2"),
        moment("0004-1", 0, 0),
        moment("0004-2", 0, 60, MIN_FACES - 1),
    ]
    store.replace(FaceIdentity, FaceIdentity.from_rows(found), {})
    build_models(store, models)
    assert [
        (r["patient_id"], r["video_id"], r["other_video_id"], r["method"], round(r["distance"], 6))
        for r in rows(store, "select * from face_distances order by all")
    ] == [
        ("0001", "0001-1", "0001-2", "sface", 0.5),
        ("0002", "0002-1", "0002-2", "sface", 1.0),
        ("0003", "0003-2", "0003-3", "vggface2", 0.5),
    ]
    over_time = rows(store, "select * from identity_over_time")
    assert [
        (r["video_id"], r["method"], r["moments"], r["compared"], r["other_videos"], r["distance_to_others"])
        for r in over_time
    ] == [
        ("0001-1", "sface", 1, 1, 1, pytest.approx(0.5)),
        ("0001-2", "sface", 7, 3, 1, pytest.approx(0.5)),
        ("0002-1", "sface", 1, 1, 1, pytest.approx(1.0)),
        ("0002-2", "sface", 1, 1, 1, pytest.approx(1.0)),
        ("0003-1", "sface", 1, 1, 0, None),
        ("0003-2", "vggface2", 1, 1, 1, pytest.approx(0.5)),
        ("0003-3", "vggface2", 1, 1, 1, pytest.approx(0.5)),
        ("0004-1", "sface", 1, 1, 0, None),
        # nothing is known of a video whose moments have too few faces
        ("0004-2", "sface", 1, 0, 0, None),
    ]
    assert over_time[-1]["widest_distance"] is None


def test_faces_and_readings_of_a_patient_are_summed_up_over_the_videos(
    warehouse: Warehouse, models: SqlModels
) -> None:
    def turned(video: str, degrees: float, faces: int, widest: float) -> dict[str, Any]:
        angle = math.radians(degrees)
        keys = {"video_id": video, "patient_id": video[:4], "moment": 0, "start_s": 0.0, "end_s": 1.0}
        vector = [math.cos(angle), math.sin(angle), *[0.0] * 126]
        return {
            **keys,
            "faces": faces,
            "method": "sface",
            "distance": widest,
            "vector": vector,
            "fingerprint": "f",
        }

    def reading(
        number: int, read: bool | None, cut_short: bool | None, errors: float | None
    ) -> dict[str, Any]:
        keys = {"video_id": f"0001-{number}", "patient_id": "0001", "fingerprint": "f"}
        return {**keys, "read": read, "cut_short": cut_short, "word_error_rate": errors}

    faces = [turned("0001-1", 0, 5, 0.1), turned("0001-2", 60, 5, 0.2), turned("0001-3", 90, 2, 0.9)]
    readings = [
        reading(1, True, False, 0.05),
        reading(2, True, True, 0.3),
        reading(3, False, None, 0.95),
        reading(4, None, None, None),
    ]
    warehouse.replace(FaceIdentity, FaceIdentity.from_rows(faces), {})
    warehouse.replace(PromptReadings, PromptReadings.from_rows(readings), {})
    small_study(warehouse, models, [patient(1)], [])
    build_models(warehouse, models, ["identity_summary", "readings_summary"])
    (person,) = rows(warehouse, "select * from identity_summary")
    # the third has too few faces to be compared with
    assert (person["videos"], person["compared"], person["moments"]) == (3, 2, 3)
    assert person["widest_distance"] == pytest.approx(0.2)
    assert person["distance_to_others"] == person["largest_distance_to_others"] == pytest.approx(0.5)
    (read,) = rows(warehouse, "select * from readings_summary")
    assert (read["readings"], read["assessed"], read["read"], read["cut_short"], read["not_read"]) == (
        4,
        3,
        2,
        1,
        1,
    )
    assert read["word_error_rate"] == pytest.approx(0.175)


def test_figures_about_words_are_per_hundred_words_and_empty_where_nothing_is_said(study: Warehouse) -> None:
    found = rows(study, "select * from text_over_time where patient_id = '0003'")
    (summary,) = rows(study, "select * from text_summary where patient_id = '0003'")
    said = [r for r in found if r["words"]]

    assert {r["hesitations_per_100_words"] for r in said} == {2.5}
    assert {r["hesitations_per_100_words"] for r in found if not r["words"]} == {None}
    assert len(said) < len(found)
    assert (summary["videos"], summary["with_words"]) == (len(found), len(said))
    assert summary["words"] == 80 * len(said)
    assert summary["pain_word_share"] == pytest.approx(median(r["pain_word_share"] for r in said))
