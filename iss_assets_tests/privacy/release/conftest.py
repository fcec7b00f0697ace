"""A small study with something to hide in every table, and releases of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from iss_assets.privacy.release.columns import Tier
from iss_assets.privacy.release.make import Released, Request, make_release
from iss_assets.privacy.release.pseudonyms import release_key
from iss_assets.schemas.base import Table
from iss_assets.schemas.evaluation import ConfusionCounts, PatientAccuracy, SubgroupResults
from iss_assets.schemas.intake import Reviews
from iss_assets.schemas.modeling import FoldModels
from iss_assets.settings import ReleaseSettings, Settings
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.made_up import tiny_study

PATIENTS = 12
MARK = "Xq7MarkZ"
"""A word in everything that must never be released: ids, file names, sentences, hashes."""

FACTS = {
    "title": "Invented faces and voices",
    "creator": "Invented group",
    "publisher": "Invented institute",
    "contact": "data@example.org",
    "url": "https://example.org/data",
    "license": "https://example.org/terms",
    "citation": "Invented group (2026). Invented faces and voices.",
    "ethics_approval": "Invented board, number 7",
    "date_published": "2026",
    "use_cases": "Research on pain; not for identifying people.",
}

Make = Callable[..., Released]


def fill(home: Path) -> Warehouse:
    """Fill a home with patients whose ids, files and comments carry the mark."""
    home.mkdir(mode=0o700, parents=True)
    warehouse = Warehouse(home / "warehouse.duckdb")
    tiny_study(warehouse, patients=PATIENTS)
    ids = warehouse.query("select patient_id from patients order by all")["patient_id"].to_pylist()
    with warehouse.write() as writer:
        tables = writer.query(
            "select table_name as t, list(column_name) as c from information_schema.columns where table_schema = 'main' "
            "and column_name in ('patient_id', 'video_id', 'submission_id') and table_catalog = current_database() group by all"
        )
        for name, columns in zip(tables["t"].to_pylist(), tables["c"].to_pylist(), strict=True):
            for column in columns:
                writer.execute(f"update {name} set {column} = '{MARK}-' || {column}")
        writer.execute(
            f"update videos set file = 'videos/{MARK}.mp4', problem = 'Patient {MARK} cried.', sha256 = '{MARK}'"
        )
        writer.execute(f"update faces set fingerprint = '{MARK}'")
        writer.execute(
            f"""update video_quality set measures = '{{"dark_share": 0.25, "{MARK}": 1, "like": "{MARK}-0001"}}'"""
        )
        first = [f"{MARK}-{p}" for p in ids[:2]]
        rows: dict[type[Table], list[dict[str, object]]] = {
            Reviews: [
                {
                    "patient_id": first[0],
                    "line": 2,
                    "reviewed_at": datetime(2021, 3, 1, 12, tzinfo=UTC),
                    "reviewer": MARK,
                    "decision": "include",
                    "reason": f"{MARK} called me",
                }
            ],
            FoldModels: [
                {
                    "experiment": "forest_pain",
                    "split": 1,
                    "trained_at": datetime(2021, 4, 1, tzinfo=UTC),
                    "train_patients": [first[1]],
                    "test_patients": [first[0]],
                    "train_items": 2,
                    "settings": f'{{"seed": 3, "weights": "{MARK}"}}',
                    "profile": "paper",
                    "seed": 3,
                    "weights_origin": "none",
                    "device": MARK,
                    "cohort_hash": MARK,
                    "data_hash": MARK,
                    "code_version": MARK,
                }
            ],
            PatientAccuracy: [
                {
                    "experiment": "forest_pain",
                    "patient_id": f"{MARK}-{patient}",
                    "split": 1,
                    "pain_level": "None",
                    "classes": 2,
                    "target": "No Pain",
                    "predicted": "Pain",
                    "items": 2,
                    "weight": 2.0,
                    "accuracy": 0.5,
                    "pain_probability": 0.5,
                    "predicted_shares": '{"No Pain": 0.5, "Pain": 0.5}',
                }
                for patient in ids
            ],
            ConfusionCounts: [
                {"experiment": "forest_pain", "target": t, "predicted": p, "patients": n}
                for t, p, n in (
                    ("No Pain", "No Pain", 5),
                    ("No Pain", "Pain", 1),
                    ("Pain", "No Pain", 2),
                    ("Pain", "Pain", 4),
                )
            ],
            SubgroupResults: [
                {
                    "experiment": "forest_pain",
                    "attribute": attribute,
                    "group_name": group,
                    "patients": 6,
                    "small": False,
                    "accuracy": 0.5,
                    "pain_share": 0.5,
                    "predicted_pain_share": 0.5,
                }
                for attribute, group in (("sex", "F"), ("sex", "M"), ("cohort", "1A"), ("cohort", "4D"))
            ],
        }
        for table, made in rows.items():
            writer.replace(table, table.check_rows(table.from_rows(made)), {})
    return warehouse


@pytest.fixture(scope="session")
def study_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("release") / "home"
    fill(home)
    # copies of the home have its key, whichever test comes first
    release_key(Settings(home=home).release_key_path)
    return home


@pytest.fixture(scope="session")
def release(study_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Make a release of the study into a new folder; settings and request by name."""

    def make(
        tier: str, agreement: str = "A1", home: Path = study_home, to: Path | None = None, **settings: object
    ) -> Released:
        chosen = Settings(
            study=home / "none", home=home, release=ReleaseSettings(**{**FACTS, "k": 3, **settings})
        )
        folder = to or tmp_path_factory.mktemp(tier) / "out"
        request = Request(Tier(tier), folder, agreement, "Dr. Invented", "testing")
        return make_release(chosen, Warehouse(chosen.warehouse_path, chosen.warehouse), request, "tester")

    return make


@pytest.fixture(scope="session")
def released(release: Make) -> dict[str, Released]:
    """One release of each tier under one agreement."""
    return {str(tier): release(str(tier)) for tier in Tier}


def read(folder: Path) -> dict[str, pa.Table]:
    """Read every table of a release."""
    return {path.stem: pq.read_table(path) for path in sorted(folder.glob("*.parquet"))}


def days(table: pa.Table, column: str) -> list[date]:
    return [d for d in table[column].to_pylist() if d is not None]
