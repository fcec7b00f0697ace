"""The report pages as assets: collect a page's tables, write it, link it.

What a page says and how it looks is decided in ``iss_assets.reports``.
"""

from pathlib import Path
from typing import Any

import dagster as dg

from iss_assets.datasets.items import without_consent
from iss_assets.defs.assets.common import OWNERS
from iss_assets.defs.assets.evaluation import EVALUATION_TABLES
from iss_assets.defs.partitions import patients_partitions
from iss_assets.defs.resources import WarehouseResource
from iss_assets.pipeline.staleness import relabelled_experiments
from iss_assets.pipeline.training import untrained_experiments
from iss_assets.reports.attention import read_attention
from iss_assets.reports.behavior import read_newest
from iss_assets.reports.clinic_report import ClinicReportInputs, write_clinic_report
from iss_assets.reports.comparisons import read_comparisons
from iss_assets.reports.gallery import MartFigure, mart_figures
from iss_assets.reports.measures import SHOWN, one_per_video
from iss_assets.reports.patient_report import PatientReportInputs, write_patient_report
from iss_assets.reports.quality_page import write_quality_page
from iss_assets.reports.quality_report import quality_report
from iss_assets.reports.readings import read_readings
from iss_assets.reports.report_inputs import StudyReportInputs
from iss_assets.reports.review_summary import review_summary
from iss_assets.reports.study_page import MARTS, read_marts, write_study_page
from iss_assets.reports.study_report import write_study_report
from iss_assets.schemas.check_ins import CHECK_INS
from iss_assets.schemas.external import EXTERNAL
from iss_assets.settings import Settings
from iss_assets.synthetic.marker import is_sample_study
from iss_assets.version import installed_version
from iss_assets.warehouse.database import Warehouse

PACKAGES = (
    "iss-assets",
    "dagster",
    "duckdb",
    "torch",
    "facenet-pytorch",
    "mediapipe",
    "librosa",
    "scikit-learn",
)

_EXTRACTED = """
select v.video_id, v.patient_id, coalesce(f.n, 0) as frames, coalesce(a.n, 0) as faces, coalesce(l.n, 0) as landmarks
from videos v
left join (select video_id, count(*) as n from frames group by all) f using (video_id)
left join (select video_id, count(*) as n from faces group by all) a using (video_id)
left join (select video_id, count(*) as n from landmarks where detected group by all) l using (video_id)
order by all
"""


STUDY_FIGURES = (
    ("Enrollment", ("cohort_enrollment", "enrollment_progress")),
    ("What patients sent (the paper's Figure 2)", ("patient_summary",)),
    ("Submissions", ("submission_adherence",)),
    ("Pain scores", ("pain_score_correlations",)),
    ("Quality over time", ("quality_over_time",)),
    ("Voice", ("voice_summary",)),
    ("Head and face", ("behavior_summary",)),
    ("Words", ("text_summary",)),
    ("Temperature of the face", ("thermal_summary",)),
    ("Whose face", ("identity_summary",)),
    ("Readings of Question 10", ("readings_summary",)),
)
"""Headings of the study report with the marts that are drawn under them."""


def _page(name: str, text: str, **more: Any) -> dict[str, Any]:
    return {
        "key": dg.AssetKey(name),
        "description": text,
        "group_name": "reports",
        "kinds": {"python", "html"},
        "owners": OWNERS,
        # pages are made of many templates and figures: the release tells them apart
        "code_version": installed_version(),
        **more,
    }


def link(path: Path, settings: Settings) -> dict[str, Any]:
    """Return the metadata that says where a page is: its name within the home, and a link within `iss serve`."""
    name = path.relative_to(settings.reports_dir).as_posix()
    return {
        "file_in_home": f"{settings.reports_dir.name}/{name}",
        "open": dg.MetadataValue.url(f"/reports/{name}"),
    }


@dg.asset(
    **_page(
        "study_report",
        "What was run on whom, Table 5 beside the published one, intervals, baselines, subgroups, model card. "
        "One HTML file that opens offline.",
        deps=[table.__table__ for table in EVALUATION_TABLES]
        + ["rejected_rows", "study_problems", "reviews"]
        + [name for _, names in STUDY_FIGURES for name in names],
    )
)
def study_report(warehouse: WarehouseResource) -> dg.MaterializeResult:
    """Write the study report."""
    store, settings = warehouse.warehouse(), warehouse.settings()
    with store.one_state():
        inputs = report_inputs(store, settings)
    path = write_study_report(inputs, settings.reports_dir / "study_report.html")
    return dg.MaterializeResult(metadata=link(path, settings))


def report_inputs(store: Warehouse, settings: Settings) -> StudyReportInputs:
    """Collect the tables of the study report."""

    def whole(table: str) -> Any:
        return store.query(f"select * from {table}")

    with store.read() as connection:
        reviews = review_summary(connection)
    return StudyReportInputs(
        study_figures=study_figures(store),
        extracted=store.query(_EXTRACTED),
        relabelled=relabelled_experiments(store),
        not_trained=untrained_experiments(store, settings),
        without_consent=without_consent(store),
        reviews=reviews,
        evaluation={t.__table__: whole(t.__table__) for t in (*EVALUATION_TABLES, *CHECK_INS, *EXTERNAL)},
        settings=settings.model_dump(mode="json"),
        evaluation_settings=settings.evaluation,
        invented=is_sample_study(settings.study),
        versions={name: installed_version(name) for name in PACKAGES},
        **{
            table: whole(table)
            for table in (
                "patients",
                "bpi_scores",
                "videos",
                "video_quality",
                "cv_splits",
                "fold_models",
                "patient_accuracy",
                "experiment_results",
                "rejected_rows",
                "study_problems",
            )
        },
    )


def study_figures(store: Warehouse) -> list[tuple[str, list[MartFigure]]]:
    """Draw what the study looks like, from the marts that are built, by heading."""
    rows = read_marts(store, [name for _, names in STUDY_FIGURES for name in names])
    drawn = [
        (heading, [figure for name in names for figure in mart_figures(name, rows.get(name, []))])
        for heading, names in STUDY_FIGURES
    ]
    return [(heading, found) for heading, found in drawn if found]


@dg.asset(
    **_page(
        "clinic_report",
        "Whether face and voice follow the answers of check-ins, for new and for known patients, beside simple references. "
        "One HTML file that opens offline.",
        deps=[table.__table__ for table in CHECK_INS],
    )
)
def clinic_report(warehouse: WarehouseResource) -> dg.MaterializeResult:
    """Write the clinic's report."""
    store, settings = warehouse.warehouse(), warehouse.settings()
    with store.one_state():
        tables = {table.__table__: store.query(f"select * from {table.__table__}") for table in CHECK_INS}
    inputs = ClinicReportInputs(
        tables,
        settings.check_ins,
        invented=is_sample_study(settings.study),
        versions={name: installed_version(name) for name in ("iss-assets", "scikit-learn")},
    )
    path = write_clinic_report(inputs, settings.reports_dir / "clinic_report.html")
    return dg.MaterializeResult(metadata=link(path, settings))


@dg.asset(
    **_page(
        "patient_report",
        "One patient's scores, quality, and measures over time, readings and the narrative beside them, curves of behavior, accuracy by "
        "experiment, and where models looked; no face.",
        deps=[
            *("bpi_scores", "video_quality", "patient_accuracy", *SHOWN),
            *("reference_differences", "face_distances"),
            # made by experiment and split, each of which predicts some of the patients
            dg.AssetDep("video_attention", partition_mapping=dg.AllPartitionMapping()),
            "check_in_attention",
        ],
        partitions_def=patients_partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
)
def patient_report(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult:
    """Write the pages of the chosen patients."""
    store, settings = warehouse.warehouse(), warehouse.settings()
    tables = ("patients", "bpi_scores", "videos", "video_quality", "patient_accuracy")
    with store.one_state():
        rows = {table: store.query(f"select * from {table}") for table in tables}
        measured = {table: store.query(one_per_video(table)) for table in SHOWN}
    known = set(rows["patients"]["patient_id"].to_pylist())
    invented = is_sample_study(settings.study)
    folder = settings.reports_dir / "patients"
    written = [
        write_patient_report(
            PatientReportInputs(
                patient_id=patient,
                invented=invented,
                measured=measured,
                **_of_patient(store, patient),
                quality_settings=settings.quality,
                **rows,
            ),
            folder / f"{patient}.html",
        )
        for patient in context.partition_keys
        if patient in known
    ]
    return dg.MaterializeResult(
        metadata={"pages": len(written), **(link(written[-1], settings) if written else {})}
    )


def _of_patient(store: Warehouse, patient_id: str) -> dict[str, Any]:
    """Return the parts of a patient's page that have a reader of their own."""
    with store.read() as connection:
        return {
            "behavior": read_newest(connection, patient_id),
            "attention": read_attention(connection, patient_id),
            "comparisons": read_comparisons(connection, patient_id),
            "readings": read_readings(connection, patient_id),
        }


@dg.asset(
    **_page(
        "study_page",
        "What the study looks like: the paper's Tables 2 and 4, Figure 2, enrollment towards the goal, scores, quality. "
        "One HTML file that opens offline.",
        deps=list(MARTS),
    )
)
def study_page(warehouse: WarehouseResource) -> dg.MaterializeResult:
    """Write the study page from the SQL marts."""
    store, settings = warehouse.warehouse(), warehouse.settings()
    path = write_study_page(
        store, settings.reports_dir / "study_page.html", invented=is_sample_study(settings.study)
    )
    return dg.MaterializeResult(metadata=link(path, settings))


@dg.asset(
    **_page(
        "quality_page",
        "The current list of issues by patient, with what to do about each, and rates over time. "
        "One HTML file that opens offline.",
        deps=["video_quality", "study_expectations"],
    )
)
def quality_page(warehouse: WarehouseResource) -> dg.MaterializeResult:
    """Write the quality page."""
    store, settings = warehouse.warehouse(), warehouse.settings()
    path = write_quality_page(
        quality_report(store), settings.reports_dir / "quality.html", invented=is_sample_study(settings.study)
    )
    return dg.MaterializeResult(metadata=link(path, settings))
