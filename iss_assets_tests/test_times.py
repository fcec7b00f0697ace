"""The time of a check-in from the csv file to the export, against Python's datetime."""

from __future__ import annotations

import csv
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iss_assets.checks.stages import STAGES
from iss_assets.defs.checks.factory import evaluate
from iss_assets.defs.resources import WarehouseResource
from iss_assets.intake.folder import patient_rows, read_study, score_rows
from iss_assets.protocol.terms import SCORES
from iss_assets.schemas.intake import BpiScores, Patients
from iss_assets.settings import ReadingSettings, Settings
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.export import export_tables
from iss_assets.warehouse.sql.build import build_models
from iss_assets.warehouse.sql.models import load_models
from iss_assets_tests.intake.conftest import ENROLLMENT_HEADER
from iss_assets_tests.times import TIMEFRAMES

NOW = datetime(2030, 1, 1, tzinfo=UTC)

OFFSETS = st.one_of(
    st.integers(-14 * 60, 14 * 60), st.sampled_from([-840, -300, -240, -30, 0, 30, 330, 345, 540, 840])
)
"""Minutes from UTC."""
CLOCKS = st.one_of(
    st.datetimes(datetime(2015, 1, 1), datetime(2029, 12, 30)),
    # around midnight, six-hour borders and the turn of the year
    st.builds(
        lambda day, hour, seconds: (
            datetime.combine(day, datetime.min.time()) + timedelta(hours=hour, seconds=seconds)
        ),
        st.sampled_from(
            [date(2020, 12, 31), date(2021, 1, 1), date(2024, 2, 29), date(2021, 3, 14), date(2021, 11, 7)]
        ),
        st.sampled_from([0, 6, 12, 18, 24]),
        st.integers(-2, 2),
    ),
)
ZONES = st.sampled_from(["written", "patient", "study"])


def written(clock: datetime, offset: int, form: int, zone: str) -> str:
    """Write a time in one of the forms that exports use."""
    precision = ("minutes", "seconds", "milliseconds", "microseconds")[form % 4]
    text = clock.isoformat(sep="T" if form % 3 else " ", timespec=precision)
    if zone != "written":
        return text
    if offset == 0 and form % 2:
        return text + ("Z", "z", " UTC")[form % 3]
    hours, minutes = divmod(abs(offset), 60)
    sign = "-" if offset < 0 else "+"
    return text + (" " if form % 5 == 0 else "") + sign + f"{hours:02d}{':' if form % 2 else ''}{minutes:02d}"


def cut(clock: datetime, form: int) -> datetime:
    """Return what is left of a time in that form."""
    return (
        clock.replace(second=0, microsecond=0),
        clock.replace(microsecond=0),
        clock.replace(microsecond=clock.microsecond // 1000 * 1000),
        clock,
    )[form % 4]


CHECK_INS = st.lists(st.tuples(CLOCKS, OFFSETS, st.integers(0, 59), ZONES), min_size=30, max_size=60)


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(check_ins=CHECK_INS, own=st.lists(OFFSETS, min_size=2, max_size=2), study_offset=OFFSETS)
def test_every_stored_time_is_what_pythons_datetime_makes_of_the_csv(
    tmp_path_factory: pytest.TempPathFactory,
    check_ins: list[tuple[datetime, int, int, str]],
    own: list[int],
    study_offset: int,
) -> None:
    root = tmp_path_factory.mktemp("times")
    enrolled = {"0001": date(2020, 12, 31), "0002": date(2021, 3, 13), "0003": None, "0004": date(2021, 1, 1)}
    offsets = {"0001": own[0], "0002": own[1]}
    expected: dict[str, tuple[str, datetime]] = {}
    rows = []
    for number, (clock, offset, form, zone) in enumerate(check_ins):
        # a patient with an offset borrows it; one without takes the study's
        patient = ("0001", "0002") if zone == "patient" else ("0003", "0004")
        name, who = f"s{number:03d}", patient[number % 2]
        used = offset if zone == "written" else offsets[who] if zone == "patient" else study_offset
        expected[name] = (who, cut(clock, form).replace(tzinfo=timezone(timedelta(minutes=used))))
        rows.append(f"{name},{who},{written(clock, offset, form, zone)},home,3,yes,,,,,,,")
    people = [
        f"{p},1A,M,I,0,{day or ''},{_offset_text(offsets[p]) if p in offsets else ''}"
        for p, day in enrolled.items()
    ]
    study = root / "study"
    (study / "videos").mkdir(parents=True)
    (study / "enrollment.csv").write_text("\n".join([ENROLLMENT_HEADER, *people]), "utf-8")
    header = ",".join(["submission_id,patient_id,submitted_at,setting", *SCORES])
    (study / "surveys.csv").write_text("\n".join([header, *rows]), "utf-8")

    reading = ReadingSettings(utc_offset=_offset_text(study_offset))
    folder = read_study(study, reading, now=NOW)
    assert folder.rejected == ()
    config = Settings(study=study, home=root / "home", reading=reading)
    warehouse = Warehouse(config.warehouse_path)
    warehouse.replace(Patients, Patients.from_rows(patient_rows(folder)), {})
    warehouse.replace(BpiScores, BpiScores.from_rows(score_rows(folder)), {})

    stored = {r["submission_id"]: r for r in warehouse.query("select * from bpi_scores").to_pylist()}
    assert stored.keys() == expected.keys()
    for name, (_, at) in expected.items():
        row = stored[name]
        assert row["submitted_at"] == at
        assert row["written_time"] == at.replace(tzinfo=None)
        assert row["submitted_on"] == at.date()
        assert row["timeframe"] == TIMEFRAMES[at.hour // 6]
        assert row["utc_offset_minutes"] * timedelta(minutes=1) == at.utcoffset()
    _compare_marts(warehouse, expected, enrolled)
    _compare_checks(config, expected)
    _compare_exports(warehouse, root / "out", expected)


def _offset_text(minutes: int) -> str:
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"


def _compare_marts(
    warehouse: Warehouse, expected: dict[str, tuple[str, datetime]], enrolled: dict[str, date | None]
) -> None:
    build_models(
        warehouse,
        load_models(warehouse.settings.sql_dir),
        ["submission_adherence", "pain_scores_daily", "patient_timeline"],
    )
    days: dict[str, list[date]] = {}
    for who, at in expected.values():
        days.setdefault(who, []).append(at.date())
    starts = {who: enrolled[who] or min(own) for who, own in days.items()}
    rows = warehouse.query("select * from stg_submissions").to_pylist()
    assert len(rows) == len(expected)
    for row in rows:
        who, at = expected[row["submission_id"]]
        day = (at.date() - starts[who]).days
        assert row["submitted_at"] == at
        assert row["submitted_local"] == at.replace(tzinfo=None)
        assert (row["submitted_on"], row["study_day"], row["study_week"]) == (at.date(), day, day // 7 + 1)
    for row in warehouse.query("select * from submission_adherence").to_pylist():
        own = [
            d
            for d in days.get(row["patient_id"], [])
            if (d - starts[row["patient_id"]]).days // 7 + 1 == row["study_week"]
        ]
        assert (row["submissions"], row["days"]) == (len(own), len(set(own)))
    daily = warehouse.query("select patient_id, submitted_on, submissions from pain_scores_daily").to_pylist()
    assert {(r["patient_id"], r["submitted_on"]): r["submissions"] for r in daily} == {
        (who, day): own.count(day) for who, own in days.items() for day in own
    }
    for who in days:
        reported = warehouse.query(
            "select submission_id, happened_on, happened_at from patient_timeline "
            "where event = 'submission' and patient_id = ? order by event_number",
            [who],
        ).to_pylist()
        order = sorted((at, name) for name, (p, at) in expected.items() if p == who)
        assert [(r["submission_id"], r["happened_on"]) for r in reported] == [
            (name, at.date()) for at, name in order
        ]
        assert [r["happened_at"] for r in reported] == [at.replace(tzinfo=None) for at, _ in order]


def _compare_checks(config: Settings, expected: dict[str, tuple[str, datetime]]) -> None:
    stage = next(s for s in STAGES if s.name == "check_scores")
    resource = WarehouseResource(study=str(config.study), home=str(config.home))
    for who in {who for who, _ in expected.values()}:
        wanted = {("bpi_scores", "more_than_one_a_day"), ("bpi_scores", "unknown_time")}
        found = {check.name: f for check, f in evaluate(stage, who, resource, wanted, print)}
        days = [at.date() for p, at in expected.values() if p == who]
        crowded = {n for n, (p, at) in expected.items() if p == who and days.count(at.date()) > 1}
        assert set(found["more_than_one_a_day"].affected) == crowded
        assert found["unknown_time"].passed


def _compare_exports(warehouse: Warehouse, to: Path, expected: dict[str, tuple[str, datetime]]) -> None:
    def check(rows: list[dict[str, Any]]) -> None:
        assert {r["submission_id"]: r["submitted_at"] for r in rows} == {
            n: at for n, (_, at) in expected.items()
        }
        assert {r["submission_id"]: r["submitted_on"] for r in rows} == {
            n: at.date() for n, (_, at) in expected.items()
        }

    export_tables(warehouse, ["bpi_scores"], "parquet", to)
    check(parquet.read_table(to / "bpi_scores.parquet").to_pylist())
    export_tables(warehouse, ["bpi_scores"], "csv", to)
    with (to / "bpi_scores.csv").open(encoding="utf-8-sig", newline="") as file:
        check(
            [
                r
                | {
                    "submitted_at": datetime.fromisoformat(r["submitted_at"]),
                    "submitted_on": date.fromisoformat(r["submitted_on"]),
                }
                for r in csv.DictReader(file)
            ]
        )
    reported = pd.read_csv(to / "bpi_scores.csv", parse_dates=["submitted_at"])
    moments = dict(zip(reported["submission_id"], reported["submitted_at"], strict=True))
    assert {n: m.to_pydatetime() for n, m in moments.items()} == {n: at for n, (_, at) in expected.items()}
